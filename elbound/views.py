"""Views of an item: from the event tensor, in the units of the data, to what a model sees.

A view learns its scales from the train part alone and keeps them as buffers, so that they travel with the
weights.
"""

from abc import abstractmethod

import torch
from torch import Tensor, nn

from elbound.data.schema import ImageSchema, TableSchema

MAX_DEVIATION = 1e5
"""Standardised values are clipped here, in float64, before anything is squared in float32."""


class View(nn.Module):
    """Maps events `(n, *event)` to float32 of the same shape; NaN stays where a cell is missing."""

    @abstractmethod
    def fit(self, x: Tensor) -> "View":
        """Learn scales from the train part, `(n, *event)`."""

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor: ...


class StandardView(View):
    """Numbers minus their mean over their standard deviation; booleans and levels as they are.

    A constant column keeps a unit scale (its own size where that is below 1): any other value is then far.
    """

    numeric: Tensor
    mean: Tensor
    scale: Tensor

    def __init__(self, schema: TableSchema) -> None:
        super().__init__()
        numeric = torch.tensor([column.kind in ("numeric", "datetime") for column in schema.columns])
        self.register_buffer("numeric", numeric, persistent=False)
        self.register_buffer("mean", torch.zeros(len(numeric), dtype=torch.float64))
        self.register_buffer("scale", torch.ones(len(numeric), dtype=torch.float64))

    def fit(self, x: Tensor) -> "StandardView":
        seen = ~torch.isnan(x)
        count = seen.sum(0).clamp(min=1)
        largest = torch.nan_to_num(x).abs().amax(0).clamp(min=1e-300)  # squares of 1e300 would overflow
        unit = torch.nan_to_num(x) / largest
        mean = unit.sum(0) / count
        spread = (((unit - mean).square() * seen).sum(0) / count).sqrt() * largest
        mean = mean * largest
        size = mean.abs()
        constant = spread <= 1e-9 * size.clamp(min=1e-300)
        own_size = torch.where((size > 1e-300) & (size < 1), size, torch.ones_like(size))
        self.mean.copy_(torch.where(self.numeric, mean, 0.0))
        self.scale.copy_(torch.where(self.numeric, torch.where(constant, own_size, spread), 1.0))
        return self

    def forward(self, x: Tensor) -> Tensor:
        return ((x - self.mean) / self.scale).clamp(-MAX_DEVIATION, MAX_DEVIATION).float()


class PixelView(View):
    """Pixels minus the mean of their channel over its standard deviation, from the train part."""

    mean: Tensor
    scale: Tensor

    def __init__(self, schema: ImageSchema) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(schema.channels, 1, 1))
        self.register_buffer("scale", torch.ones(schema.channels, 1, 1))

    def fit(self, x: Tensor) -> "PixelView":
        sums = torch.zeros(2, x.shape[1], dtype=torch.float64)
        for chunk in x.split(1024):
            pixels = chunk.double()
            sums += torch.stack([pixels.sum((0, 2, 3)), pixels.square().sum((0, 2, 3))])
        mean, square = sums / (x.numel() / x.shape[1])
        spread = (square - mean.square()).clamp(min=0).sqrt()
        self.mean.copy_(mean.view(-1, 1, 1))
        self.scale.copy_(spread.clamp(min=1.0).view(-1, 1, 1))  # one grey level: images of one colour
        return self

    def forward(self, x: Tensor) -> Tensor:
        return (x.float() - self.mean) / self.scale


def build_view(name: str, schema: TableSchema | ImageSchema) -> View:
    """The view called `name` for items of `schema`, its scales not yet learned."""
    if isinstance(schema, TableSchema):
        return TABLE_VIEWS[name](schema)
    return IMAGE_VIEWS[name](schema)


TABLE_VIEWS: dict[str, type[StandardView]] = {"standard": StandardView}
IMAGE_VIEWS: dict[str, type[PixelView]] = {"pixels": PixelView}
