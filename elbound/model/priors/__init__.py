"""p(z): what the latent looks like before an item is seen."""

from elbound.model.priors.aggregate import AggregatePosterior
from elbound.model.priors.base import Prior
from elbound.model.priors.flow import Flow
from elbound.model.priors.mixture import Mixture
from elbound.model.priors.standard_normal import StandardNormal
from elbound.model.priors.vampprior import VampPrior

PRIORS: dict[str, type[Prior]] = {
    "standard_normal": StandardNormal,
    "mixture": Mixture,
    "vampprior": VampPrior,
    "aggregate": AggregatePosterior,
    "flow": Flow,
}

__all__ = ["PRIORS", "Prior", "StandardNormal"]
