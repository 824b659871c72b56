"""p(z): what the latent looks like before an item is seen."""

from elbound.priors.aggregate import AggregatePosterior
from elbound.priors.base import Prior
from elbound.priors.flow import Flow
from elbound.priors.mixture import Mixture
from elbound.priors.standard_normal import StandardNormal
from elbound.priors.vampprior import VampPrior

PRIORS: dict[str, type[Prior]] = {
    "standard_normal": StandardNormal,
    "mixture": Mixture,
    "vampprior": VampPrior,
    "aggregate": AggregatePosterior,
    "flow": Flow,
}

__all__ = ["PRIORS", "Prior", "StandardNormal"]
