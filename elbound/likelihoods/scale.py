"""Laws with a location and a scale on the real line, by where the scale comes from.

A law is one function of `x`, the location `mean` and `logvar`, the log of the squared scale. Every class here
holds `logvar` within [log `variance_floor`, 6] (units of the view): without the floor one well-fitted feature
would own the score.
"""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from elbound.exporting import gaps_as_zero
from elbound.likelihoods.base import Likelihood, where_seen

MAX_LOGVAR = 6.0


class ScaledLikelihood(Likelihood):
    """What every law shares: a floor, and an error that is the squared distance from the location."""

    def __init__(self, variance_floor: float) -> None:
        super().__init__()
        self.min_logvar = math.log(variance_floor)

    def law(self, x: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
        """log p(x) in nats, elementwise."""
        raise NotImplementedError

    def error(self, prediction: Tensor, x: Tensor) -> Tensor:
        return where_seen(x, (gaps_as_zero(x) - prediction).square())

    def clamp(self, logvar: Tensor) -> Tensor:
        return logvar.clamp(self.min_logvar, MAX_LOGVAR)


class PredictedScale(ScaledLikelihood):
    """For the numbers of a table: the decoder emits `features` locations and then `features` log-variances.

    The scale belongs to the row and the feature. Kingma and Welling, Auto-Encoding Variational Bayes, 2014,
    appendix C.2.
    """

    def __init__(self, features: int, variance_floor: float) -> None:
        super().__init__(variance_floor)
        self.features = features
        self.parameter_shape = (2 * features,)

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        mean, logvar = parameters.split(self.features, -1)
        return where_seen(x, self.law(gaps_as_zero(x), mean, self.clamp(logvar)))

    def prediction(self, parameters: Tensor, x: Tensor) -> Tensor:  # noqa: ARG002 - the contract
        return parameters[..., : self.features]


class ImageLikelihood(ScaledLikelihood):
    """For images: `event` is `(channels, height, width)`; no pixel is missing.

    `view` is the only view whose units it can read, or None where any will do.
    """

    view: ClassVar[str | None] = None

    def __init__(self, event: tuple[int, ...], nets: int, variance_floor: float) -> None:
        super().__init__(variance_floor)
        self.nets = nets
        self.parameter_shape = event

    def prediction(self, parameters: Tensor, x: Tensor) -> Tensor:  # noqa: ARG002 - the contract
        return parameters

    def error(self, prediction: Tensor, x: Tensor) -> Tensor:
        return (x - prediction).square()


class SharedScale(ImageLikelihood):
    """The decoder emits the locations; one scale is learned for each net.

    Rybkin, Daniilidis and Levine, Simple and Effective VAE Training with Calibrated Decoders, 2021.
    """

    def __init__(self, event: tuple[int, ...], nets: int, variance_floor: float) -> None:
        super().__init__(event, nets, variance_floor)
        self.logvar = nn.Parameter(torch.zeros(nets))

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        logvar = self.clamp(self.logvar).view(-1, *(1,) * (parameters.ndim - 1))
        return self.law(x, parameters, logvar)
