"""The aggregate posterior of training items."""

import torch
from torch import Tensor

from elbound.model.priors.base import Prior
from elbound.model.priors.mixture import mixture_log_prob
from elbound.model.priors.standard_normal import StandardNormal
from elbound.torch_graph import blocks

BLOCK_ITEMS = 64
"""Items compared with all codes at once: 64 x 2,000 x 8 bytes a net stay in the cache; 128 take twice as long."""


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
        self.comparison: tuple[Tensor, Tensor] | None = None
        self.register_buffer("mu", torch.zeros(nets, components, latent))
        self.register_buffer("logvar", torch.zeros(nets, components, latent))
        self.register_buffer("log_weight", torch.full((nets, components), -torch.inf))
        self.log_weight[:, 0] = 0

    def absorb(self, mu: Tensor, logvar: Tensor) -> None:
        self.comparison = None
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

    def rate(self, mu: Tensor, logvar: Tensor) -> Tensor:
        """-log (1 / m) sum_i exp(-KL(q || q_i)): never below the KL, so the ELBO stays a bound, and no samples.

        By Jensen's inequality, E_q[log sum_i w_i q_i] >= log sum_i w_i exp(E_q[log q_i]). Hershey and Olsen,
        Approximating the Kullback Leibler Divergence Between Gaussian Mixture Models, 2007, section 7. All
        divergences come from one product, in float64 where the codes lie close together.
        """
        if self.training:
            return self.standard.kl(mu, logvar).sum(-1)
        if self.comparison is None or self.comparison[0].device != mu.device:
            with torch.inference_mode(False), torch.no_grad():  # kept beyond the call, and for gradients by others
                self.comparison = self._comparison()
        weights, own = self.comparison
        mu, logvar = mu.double(), logvar.double()
        moments = torch.cat([mu.square() + logvar.exp(), mu], -1)
        nearest = torch.cat([_soft_minimum(part, weights, own) for part in blocks(moments, BLOCK_ITEMS, 1)], 1)
        return (nearest - 0.5 * (logvar.sum(-1) + self.latent)).to(self.mu.dtype)

    def train(self, mode: bool = True) -> "AggregatePosterior":
        """Weights may change or be loaded between modes: what was derived from the codes is derived anew."""
        self.comparison = None
        super().train(mode)
        return self

    def _comparison(self) -> tuple[Tensor, Tensor]:
        """Weights `(nets, 2 latent, m)` and constants `(nets, 1, m)` of the divergences from all codes."""
        codes, code_logvar = self.mu.double(), self.logvar.double()
        precision = torch.exp(-code_logvar)
        own = 0.5 * (code_logvar + codes.square() * precision).sum(-1) - self.log_weight
        return torch.cat([0.5 * precision, -codes * precision], -1).mT, own[:, None]


def _soft_minimum(moments: Tensor, weights: Tensor, own: Tensor) -> Tensor:
    """-log sum_i exp(-energy_i) over the codes, `(nets, n)`; only the differences are exponentiated in float32."""
    energy = torch.baddbmm(own, moments, weights)
    lowest = energy.amin(-1, keepdim=True)
    return lowest[..., 0] - (lowest - energy).float().exp_().sum(-1).log()
