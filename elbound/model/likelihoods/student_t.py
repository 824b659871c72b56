"""Student's t: a tail that is logarithmic in nats.

Takahashi, Iwata, Yamanaka, Yamada and Yagi, Student-t Variational Autoencoder for Robust Density Estimation,
2018; here the degrees of freedom are fixed, which spares two log-gammas for every value.
"""

import math
from typing import ClassVar

import torch
from torch import Tensor

from elbound.model.likelihoods.scale import PredictedScale, SharedScale

DEGREES = 4.0
"""The fewest whole degrees of freedom with heavy tails and a finite variance, twice the squared scale."""


def student_t_log_prob(x: Tensor, mean: Tensor, logvar: Tensor, degrees: float = DEGREES) -> Tensor:
    """log t(x; mean, scale) with `degrees` of freedom and scale^2 = exp(logvar), elementwise, in nats."""
    constant = math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2) - 0.5 * math.log(degrees * math.pi)
    distance = (x - mean).square() * torch.exp(-logvar) / degrees
    return constant - 0.5 * logvar - 0.5 * (degrees + 1) * torch.log1p(distance)


class PredictedStudentT(PredictedScale):
    """x_j ~ t with 4 degrees of freedom and the location and log squared scale that the decoder emits."""

    reach: ClassVar[float] = 2.776445

    def cumulative(self, z: Tensor) -> Tensor:
        """F(z) = 1/2 + (3 s - s^3) / 4 with s = z / sqrt(4 + z^2): the closed form of 4 degrees."""
        s = z * torch.rsqrt(DEGREES + z.square())
        return 0.5 + 0.25 * s * (3 - s.square())

    def law(self, x: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
        return student_t_log_prob(x, mean, logvar)


class SharedStudentT(SharedScale):
    """x_j ~ t with 4 degrees of freedom around the decoder's image, one learned scale for each net."""

    def law(self, x: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
        return student_t_log_prob(x, mean, logvar)
