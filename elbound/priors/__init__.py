"""p(z): what the latent looks like before an item is seen."""

from elbound.priors.base import Prior
from elbound.priors.standard_normal import StandardNormal

PRIORS: dict[str, type[Prior]] = {"standard_normal": StandardNormal}

__all__ = ["PRIORS", "Prior", "StandardNormal"]
