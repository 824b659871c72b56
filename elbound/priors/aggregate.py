"""The aggregate posterior of training items."""

import torch
from torch import Tensor

from elbound.priors.base import Prior
from elbound.priors.mixture import mixture_log_prob
from elbound.priors.standard_normal import StandardNormal


class AggregatePosterior(Prior):
    """N(0, I) while it trains; then p(z) = (1 / m) sum_i q(z|x_i) over m <= `components` training items.

    The codes are kept in buffers of `components` places. Before `absorb` the first place is N(0, I) and the
    others weigh nothing; afterwards what is left over weighs nothing. Hoffman and Johnson, ELBO surgery, 2016:
    the prior that maximises the ELBO of the training items.
    """

    mu: Tensor
    logvar: Tensor
    log_weight: Tensor

    def __init__(self, nets: int, latent: int, components: int = 1) -> None:
        super().__init__(nets, latent, components)
        self.standard = StandardNormal(nets, latent)
        self.register_buffer("mu", torch.zeros(nets, components, latent))
        self.register_buffer("logvar", torch.zeros(nets, components, latent))
        self.register_buffer("log_weight", torch.full((nets, components), -torch.inf))
        self.log_weight[:, 0] = 0

    def absorb(self, mu: Tensor, logvar: Tensor) -> None:
        kept = min(mu.shape[1], self.components)
        self.mu[:, :kept] = mu[:, :kept]
        self.logvar[:, :kept] = logvar[:, :kept]
        self.log_weight.fill_(-torch.inf)[:, :kept] = -torch.tensor(float(kept)).log()

    def log_prob(self, z: Tensor) -> Tensor:
        if self.training:
            return self.standard.log_prob(z)
        return mixture_log_prob(z, self.mu, self.logvar, self.log_weight)

    def kl(self, mu: Tensor, logvar: Tensor) -> Tensor | None:
        return self.standard.kl(mu, logvar) if self.training else None
