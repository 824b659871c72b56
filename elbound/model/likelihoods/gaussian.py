"""Normal distributions: with a variance predicted per item and feature, or with one learned sigma."""

import math
from typing import ClassVar

import torch
from torch import Tensor

from elbound.model.likelihoods.scale import ImageLikelihood, PredictedScale, SharedScale

LOG_2PI = math.log(2 * math.pi)
GAUSSIAN_REACH = 1.959964
"""The 97.5 % quantile of N(0, 1)."""


def normal_log_prob(x: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
    """log N(x; mean, exp(logvar)), elementwise, in nats."""
    deviation = (x - mean).square()
    return torch.addcmul(logvar + LOG_2PI, deviation, torch.exp(-logvar)).mul(-0.5)


class PredictedGaussian(PredictedScale):
    """x_j ~ N(mean_j(z), exp(logvar_j(z))): the default for numbers."""

    reach: ClassVar[float] = GAUSSIAN_REACH

    def cumulative(self, z: Tensor) -> Tensor:
        share: Tensor = torch.special.ndtr(z)
        return share

    def law(self, x: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
        return normal_log_prob(x, mean, logvar)


class SharedGaussian(SharedScale):
    """x_j ~ N(mean_j(z), sigma^2) with one learned sigma for each net: the default for images."""

    def law(self, x: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
        return normal_log_prob(x, mean, logvar)


class PixelGaussian(ImageLikelihood):
    """x_j ~ N(mean_j(z), exp(logvar_j(z))): a variance for each pixel and channel of each image.

    The decoder emits the channels' means and then their log-variances, `(2 * channels, height, width)`.
    """

    def __init__(self, event: tuple[int, ...], nets: int, variance_floor: float) -> None:
        super().__init__(event, nets, variance_floor)
        self.channels = event[0]
        self.parameter_shape = (2 * event[0], *event[1:])

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        mean, logvar = parameters.split(self.channels, -3)
        return normal_log_prob(x, mean, self.clamp(logvar))

    def prediction(self, parameters: Tensor, x: Tensor) -> Tensor:  # noqa: ARG002 - the contract
        return parameters[..., : self.channels, :, :]
