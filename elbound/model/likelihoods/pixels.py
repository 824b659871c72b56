"""Laws of pixels with ends: both read the view `unit`, where black is 0 and white is 1."""

import math
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from elbound.model.likelihoods.scale import ImageLikelihood, SharedScale

LEVELS = 256


class PixelBernoulli(ImageLikelihood):
    """P(x_j = 1) = sigmoid(logit_j(z)) for pixels in [0, 1] of the view `unit`; the scale floor is not used.

    log p = x log s + (1 - x) log(1 - s): it sums to one over black and white images alone. For a grey pixel it
    is minus the cross-entropy, which ranks images but is no log-density (Loaiza-Ganem and Cunningham, The
    Continuous Bernoulli, 2019). The decoder emits one logit a pixel.
    """

    view: ClassVar[str | None] = "unit"

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        return x * parameters - functional.softplus(parameters)

    def prediction(self, parameters: Tensor, x: Tensor) -> Tensor:  # noqa: ARG002 - the contract
        return torch.sigmoid(parameters)


class DiscretisedLogistic(SharedScale):
    """P(x_j = i / 255) is the mass of a logistic in the bin of the grey level i, the ends open outwards.

    sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)) with a, b the ends of the bin over the
    scale: each factor is exact in float32 far out in the tail. The variance of the logistic is exp(logvar),
    one for each net; pixels of the view `unit` are rounded to 256 levels. Kingma et al., Improving
    Variational Inference with Inverse Autoregressive Flow, 2016; Salimans et al., PixelCNN++, 2017.
    """

    view: ClassVar[str | None] = "unit"

    def law(self, x: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
        level = torch.round(x * (LEVELS - 1)).clamp(0, LEVELS - 1)
        inverse_scale = torch.exp(-0.5 * logvar) * (math.pi / math.sqrt(3))
        centre = (level / (LEVELS - 1) - mean) * inverse_scale
        half = 0.5 / (LEVELS - 1) * inverse_scale
        log_upper = functional.logsigmoid(centre + half)
        log_lower = functional.logsigmoid(half - centre)
        inside = log_upper + log_lower + torch.log(-torch.expm1(-2 * half))
        return torch.where(level == 0, log_upper, torch.where(level == LEVELS - 1, log_lower, inside))
