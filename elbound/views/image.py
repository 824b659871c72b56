"""Views of an image: its pixels on their scale, as shares of the largest level, or pretrained features of them."""

import torch
from torch import Tensor

from elbound.model.networks.frozen import FrozenFeatures
from elbound.schema import ImageSchema
from elbound.views.base import View


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

    def inverse(self, seen: Tensor) -> Tensor:
        """From what a model sees to grey levels, not rounded; both `(n, *event)`."""
        return seen * self.scale + self.mean


class FeatureView(View):
    """Flat features of patches and of the whole image, `(n, features)`; see `FrozenFeatures`."""

    costly = True

    def __init__(self, schema: ImageSchema) -> None:
        super().__init__()
        self.frozen = FrozenFeatures(schema)

    def fit(self, x: Tensor) -> "FeatureView":
        self.frozen.learn(x)
        return self

    def forward(self, x: Tensor) -> Tensor:
        seen: Tensor = self.frozen(x)
        return seen

    def coordinates(self, x: Tensor) -> Tensor:
        return self.frozen.features(x)[1]


class UnitView(View):
    """Pixels as shares of the largest grey level, 0 to 1: for likelihoods of grey levels themselves."""

    def __init__(self, schema: ImageSchema) -> None:
        super().__init__()
        self.largest = 2**schema.bits - 1

    @property
    def scale(self) -> Tensor:
        """Grey levels in one unit of the view, as `PixelView.scale`; here the same for all channels."""
        return torch.tensor(float(self.largest))

    def fit(self, x: Tensor) -> "UnitView":  # noqa: ARG002 - nothing to learn
        return self

    def forward(self, x: Tensor) -> Tensor:
        share: Tensor = x.float() / self.largest
        return share

    def inverse(self, seen: Tensor) -> Tensor:
        """From what a model sees to grey levels, not rounded; both `(n, *event)`."""
        grey: Tensor = seen * self.largest
        return grey
