"""Laplace distributions: a tail that is linear in nats, so that one wild cell does not own an item."""

import math
from typing import ClassVar

import torch
from torch import Tensor

from elbound.model.likelihoods.scale import PredictedScale, SharedScale


def laplace_log_prob(x: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
    """log Laplace(x; mean, b) with the variance 2 b^2 = exp(logvar), elementwise, in nats."""
    log_scale = 0.5 * (logvar - math.log(2))
    return -torch.abs(x - mean) * torch.exp(-log_scale) - log_scale - math.log(2)


class PredictedLaplace(PredictedScale):
    """x_j ~ Laplace with the mean and the variance exp(logvar) that the decoder emits."""

    reach: ClassVar[float] = -math.log(0.05) / math.sqrt(2)

    def cumulative(self, z: Tensor) -> Tensor:
        return 0.5 - 0.5 * torch.sign(z) * torch.expm1(-math.sqrt(2) * z.abs())

    def law(self, x: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
        return laplace_log_prob(x, mean, logvar)


class SharedLaplace(SharedScale):
    """x_j ~ Laplace around the decoder's image with one learned scale for each net."""

    def law(self, x: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
        return laplace_log_prob(x, mean, logvar)
