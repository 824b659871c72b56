"""Laws with a location and a scale on the real line, by where the scale comes from.

A law is one function of `x`, the location `mean` and `logvar`, the log of the squared scale. Every class here
holds `logvar` within [log `variance_floor`, 6] (units of the view): without the floor one well-fitted feature
would own the score.
"""

import math
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from elbound.model.likelihoods.base import Likelihood, mixture_mean, where_seen
from elbound.torch_graph import gaps_as_zero

MAX_LOGVAR = 6.0
SECTIONS, ROUNDS = 8, 3


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
    appendix C.2. Laws are symmetric; `reach` is the 97.5 % quantile for the location 0 and `logvar` 0.
    """

    reach: ClassVar[float]

    def cumulative(self, z: Tensor) -> Tensor:
        """P(x <= z) for the location 0 and `logvar` 0, elementwise."""
        raise NotImplementedError

    def __init__(self, features: int, variance_floor: float) -> None:
        super().__init__(variance_floor)
        self.features = features
        self.parameter_shape = (2 * features,)

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        mean, logvar = parameters.split(self.features, -1)
        return where_seen(x, self.law(gaps_as_zero(x), mean, self.clamp(logvar)), self.log_prob_of_gap)

    def prediction(self, parameters: Tensor, x: Tensor) -> Tensor:  # noqa: ARG002 - the contract
        return parameters[..., : self.features]

    def expectation(self, parameters: Tensor, weight: Tensor) -> Tensor:
        mean, logvar = parameters.split(self.features, -1)
        scale = torch.exp(0.5 * self.clamp(logvar))
        ends = mixture_interval(self.cumulative, self.reach, mean, scale, weight)
        return torch.cat([mixture_mean(mean, weight)[None], ends])


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


def mixture_interval(
    cumulative: Callable[[Tensor], Tensor], reach: float, location: Tensor, scale: Tensor, weight: Tensor
) -> Tensor:
    """The 2.5 % and 97.5 % quantiles of mixtures of one symmetric law, `(2, n, features)`.

    `location` and `scale` are `(nets, K, n, features)`, `weight` `(nets, K, n)`; `cumulative` and `reach` as in
    `PredictedScale`. A mixture's quantile lies between those of its parts; what lies between is cut into `SECTIONS`
    again and again, to about a thousandth of it.
    """
    location, scale, weight = location.flatten(0, 1), scale.flatten(0, 1), weight.flatten(0, 1)
    sides = location.new_tensor([-1.0, 1.0]).view(2, 1, 1)
    ends = torch.addcmul(location[:, None], scale[:, None], reach * sides)
    low, high = ends.amin(0), ends.amax(0)
    levels = 0.5 + 0.475 * sides
    cuts = torch.arange(1, SECTIONS, dtype=location.dtype, device=location.device).view(-1, 1, 1, 1)
    location, scale, weight = location[:, None, None], scale[:, None, None], weight[:, None, None, :, None]
    for _ in range(ROUNDS):
        section = (high - low) / SECTIONS
        points = torch.addcmul(low, cuts, section)  # (cuts, 2, n, features)
        mass = (cumulative((points - location) / scale) * weight).sum(0)
        low = torch.addcmul(low, (mass < levels).sum(0), section)
        high = low + section
    return (low + high) / 2
