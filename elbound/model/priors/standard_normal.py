"""N(0, I)."""

from torch import Tensor

from elbound.model.likelihoods.gaussian import LOG_2PI
from elbound.model.priors.base import Prior


class StandardNormal(Prior):
    """z ~ N(0, I). KL in closed form: Kingma and Welling, 2014, appendix B."""

    def log_prob(self, z: Tensor) -> Tensor:
        return -0.5 * (z.square().sum(-1) + self.latent * LOG_2PI)

    def kl(self, mu: Tensor, logvar: Tensor) -> Tensor:
        return 0.5 * (mu.square() + logvar.exp() - 1 - logvar)
