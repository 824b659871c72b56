"""Normal distributions: with a variance predicted per item and feature, or with one learned sigma."""

import math

import torch
from torch import Tensor, nn

from elbound.likelihoods.base import Likelihood, where_seen

LOG_2PI = math.log(2 * math.pi)
MAX_LOGVAR = 6.0


def normal_log_prob(x: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
    """log N(x; mean, exp(logvar)), elementwise, in nats."""
    deviation = (x - mean).square()
    return torch.addcmul(logvar + LOG_2PI, deviation, torch.exp(-logvar)).mul(-0.5)


class PredictedGaussian(Likelihood):
    """x_j ~ N(mean_j(z), exp(logvar_j(z))): the variance belongs to the row and the feature.

    The decoder emits the `features` means and then the `features` log-variances, which are kept within
    [log `variance_floor`, 6] (units of the training variance): without the floor one well-fitted column
    would own the score. Kingma and Welling, Auto-Encoding Variational Bayes, 2014, appendix C.2.
    """

    def __init__(self, features: int, variance_floor: float) -> None:
        super().__init__()
        self.features = features
        self.parameter_shape = (2 * features,)
        self.min_logvar = math.log(variance_floor)

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        mean, logvar = parameters.split(self.features, -1)
        logvar = logvar.clamp(self.min_logvar, MAX_LOGVAR)
        return where_seen(x, normal_log_prob(torch.nan_to_num(x), mean, logvar))

    def prediction(self, parameters: Tensor, x: Tensor) -> Tensor:  # noqa: ARG002 - the contract
        return parameters[..., : self.features]

    def error(self, prediction: Tensor, x: Tensor) -> Tensor:
        return where_seen(x, (torch.nan_to_num(x) - prediction).square())


class SharedGaussian(Likelihood):
    """x_j ~ N(mean_j(z), sigma^2) with one learned sigma for each net: the default for images.

    Rybkin, Daniilidis and Levine, Simple and Effective VAE Training with Calibrated Decoders, 2021.
    """

    def __init__(self, event: tuple[int, ...], nets: int, variance_floor: float) -> None:
        super().__init__()
        self.parameter_shape = event
        self.min_logvar = math.log(variance_floor)
        self.logvar = nn.Parameter(torch.zeros(nets))

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        logvar = self.logvar.clamp(self.min_logvar, MAX_LOGVAR)
        return normal_log_prob(x, parameters, logvar.view(-1, *(1,) * (parameters.ndim - 1)))

    def prediction(self, parameters: Tensor, x: Tensor) -> Tensor:  # noqa: ARG002 - the contract
        return parameters

    def error(self, prediction: Tensor, x: Tensor) -> Tensor:
        return (x - prediction).square()
