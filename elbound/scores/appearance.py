"""Scores that compare an image with its reconstruction."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from elbound.errors import ConfigError
from elbound.model.models.base import Model, ModelSpec
from elbound.schema import ImageSchema, TableSchema
from elbound.scores.base import Nearest, Observed, Reasons, Score
from elbound.scores.neighbours import Bank, nearest_distances
from elbound.views import PixelView, UnitView

TOP_SHARE = 0.01
WINDOW = 7
COARSE_SIDE = 16
NEAREST = 5


def error_map(model: Model, observed: Observed, *, sigma: float = 1.0) -> Tensor:
    """Squared error of the reconstruction in units of the training variance, `(n, height, width)`.

    The mean over nets and colours, smoothed by a normal of `sigma` pixels: a defect is larger than one pixel,
    noise is not.
    """
    errors = model.likelihood.error(observed.terms.prediction, observed.terms.x).mean((0, 2))
    return smoothed(errors, sigma)


def smoothed(maps: Tensor, sigma: float) -> Tensor:
    """Maps `(n, height, width)` under a normal of `sigma` pixels, cut at two sigma; borders are continued."""
    reach = math.ceil(2 * sigma)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=maps.device) / sigma) ** 2)
    kernel = kernel / kernel.sum()
    padded = functional.pad(maps[:, None], (reach,) * 4, mode="replicate")
    rows = functional.conv2d(padded, kernel.view(1, 1, -1, 1))
    return functional.conv2d(rows, kernel.view(1, 1, 1, -1))[:, 0]


class ErrorTop(Score):
    """The mean of the largest 1 % of the smoothed error map, at least of one pixel: the worst place."""

    name = "error_top"
    unit = "relative"

    def forward(self, model: Model, observed: Observed) -> Tensor:
        flat = error_map(model, observed).flatten(1)
        return flat.topk(max(1, round(TOP_SHARE * flat.shape[1])), 1).values.mean(1)

    def reasons(self, model: Model, observed: Observed) -> Reasons:
        return Reasons(places=error_map(model, observed))


class Dissimilarity(Score):
    """1 - SSIM of the image and its reconstruction, from 0 (the same) to 2.

    SSIM = (2 m_x m_y + c1)(2 s_xy + c2) / ((m_x^2 + m_y^2 + c1)(s_x^2 + s_y^2 + c2)), the mean over colours and over
    pixels as centres of windows of 7 x 7 (or the image's side), mirrored at the border; c1 = (0.01 L)^2 and
    c2 = (0.03 L)^2 with L the range of a pixel.
    Wang, Bovik, Sheikh and Simoncelli, Image Quality Assessment, 2004.
    """

    name = "dissimilarity"
    unit = "relative"

    def __init__(self, spec: ModelSpec, schema: TableSchema | ImageSchema) -> None:
        super().__init__(spec, schema)
        if not isinstance(schema, ImageSchema):
            raise ConfigError(f"{self.name} compares images", where="scores")
        self.range = 2**schema.bits - 1
        side = min(WINDOW, schema.height, schema.width)
        self.window = side - 1 + side % 2

    def forward(self, model: Model, observed: Observed) -> Tensor:  # noqa: ARG002 - the contract
        return 1 - self._similarity(observed).mean((1, 2, 3))

    def reasons(self, model: Model, observed: Observed) -> Reasons:  # noqa: ARG002 - the contract
        return Reasons(places=1 - self._similarity(observed).mean(1))

    def _similarity(self, observed: Observed) -> Tensor:
        assert isinstance(observed.view, PixelView | UnitView)
        size = self.range / observed.view.scale  # L in units of the view, of each channel or of all
        return structural_similarity(observed.seen, observed.terms.prediction.mean(0), size, self.window)


def structural_similarity(x: Tensor, y: Tensor, size: Tensor, window: int) -> Tensor:
    """SSIM around each pixel of images `(n, channels, height, width)` with pixels of range `size`; `window` is odd."""
    channels, margin = x.shape[1], window // 2
    stacked = torch.cat([x, y, x * x, y * y, x * y], 1)
    stacked = functional.pad(stacked, (margin,) * 4, mode="reflect")
    x_mean, y_mean, xx, yy, xy = functional.avg_pool2d(stacked, window, 1).split(channels, 1)
    c1, c2 = (0.01 * size).square(), (0.03 * size).square()
    x_var, y_var = (xx - x_mean.square()).clamp(min=0), (yy - y_mean.square()).clamp(min=0)
    covariance = xy - x_mean * y_mean
    numerator = (2 * x_mean * y_mean + c1) * (2 * covariance + c2)
    similarity: Tensor = numerator / ((x_mean.square() + y_mean.square() + c1) * (x_var + y_var + c2))
    return similarity


class CoarseNeighbours(Score):
    """The mean distance to the 5 nearest training images, both averaged over squares to at most 16 x 16 pixels.

    The root of the mean square over pixels, in standard deviations of a channel. What no model blurs: the plain
    nearest neighbour, coarse so that a shift by a pixel is no distance. The bank is a random part of the train part.
    """

    name = "coarse_neighbours"
    unit = "standard deviations"

    images: Tensor

    def __init__(self, spec: ModelSpec, schema: TableSchema | ImageSchema) -> None:
        super().__init__(spec, schema)
        if not isinstance(schema, ImageSchema):
            raise ConfigError(f"{self.name} compares images", where="scores")
        self.square = -(-max(schema.height, schema.width) // COARSE_SIDE)
        height, width = (-(-side // self.square) for side in (schema.height, schema.width))
        self.shape = (schema.channels, height, width)
        self.register_buffer("images", torch.zeros(spec.bank, math.prod(self.shape)))

    def fit(self, model: Model, bank: Sequence[Observed]) -> None:  # noqa: ARG002 - the contract
        self.images.copy_(torch.cat([self._coarse(observed) for observed in bank]))

    def forward(self, model: Model, observed: Observed) -> Tensor:  # noqa: ARG002 - the contract
        distances = nearest_distances(self._coarse(observed), self.images, NEAREST)
        return distances.mean(1) / math.sqrt(self.images.shape[1])

    def nearest(self, model: Model, observed: Observed, k: int) -> Nearest | None:  # noqa: ARG002 - the contract
        distances, index = Bank(self.images).search(self._coarse(observed), k)
        grey = observed.view.inverse(self.images[index.flatten()].unflatten(1, self.shape))
        distances = distances / math.sqrt(self.images.shape[1])
        return None if grey is None else Nearest(distances, grey.unflatten(0, index.shape))

    def _coarse(self, observed: Observed) -> Tensor:
        return functional.avg_pool2d(observed.seen, self.square, ceil_mode=True).flatten(1)
