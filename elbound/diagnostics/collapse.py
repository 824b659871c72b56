"""Whether a model uses its latent: active units, the KL of each dimension, and what an item's own code is worth."""

import torch
from torch import Tensor

from elbound.detector import Member
from elbound.model.bounds import Posterior, terms_at

ACTIVE_VARIANCE = 0.01
USE_ITEMS = 1_000
EXTREMES = 0.01


def active_units(mu: Tensor, *, threshold: float = ACTIVE_VARIANCE) -> Tensor:
    """Whether Var_x(E[z_i|x]) > `threshold`, bool `(nets, latent)` from the means `(nets, n, latent)`.

    A unit whose mean is the same for every item tells nothing about it. Burda, Grosse and Salakhutdinov, Importance
    Weighted Autoencoders, 2016, section 5.2; 0.01 is theirs, of a prior variance of 1.
    """
    return mu.double().var(1, correction=0) > threshold


def kl_by_dimension(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(q(z_i|x) || N(0, 1)) in nats, the mean over items, float64 `(nets, latent)` from `(nets, n, latent)`.

    1/2 (mu^2 + exp(logvar) - 1 - logvar): Kingma and Welling, Auto-Encoding Variational Bayes, 2014, appendix B.
    """
    mu, logvar = mu.double(), logvar.double()
    return (0.5 * (mu.square() + logvar.exp() - 1 - logvar)).mean(1)


@torch.inference_mode()
def posterior_of(member: Member, x: Tensor, *, chunk: int) -> Posterior:
    """q(z|x) of events `(n, *event)` by one member, `(nets, n, latent)` on the CPU."""
    parts = [member.observe(part.to(member.noise.device)).posterior for part in x.split(chunk)]
    return Posterior(
        torch.cat([part.mu for part in parts], 1).cpu(), torch.cat([part.logvar for part in parts], 1).cpu()
    )


@torch.inference_mode()
def code_worth(member: Member, x: Tensor, *, chunk: int) -> Tensor:
    """How many nats the decoder loses with the code of another item, the mean over events, float64 `(nets,)`.

    E[log p(x|z)] under q(z|x) minus the same under q(z|x') with x' the item half of a chunk further: 0 where the
    decoder ignores z, whatever the encoder says. The 1 % largest and smallest differences are drawn in: one wild
    item is not the model.
    """
    losses = [_loss(member, part.to(member.noise.device)) for part in x.split(chunk) if len(part) > 1]
    loss = torch.cat(losses, 1).double().cpu()
    low, high = torch.quantile(loss, torch.tensor([EXTREMES, 1 - EXTREMES], dtype=torch.float64), 1)
    return loss.clamp(low[:, None], high[:, None]).mean(1)


def _loss(member: Member, x: Tensor) -> Tensor:
    observed = member.observe(x)
    own, shift = observed.posterior, max(1, len(x) // 2)
    logits = None if own.logits is None else own.logits.roll(shift, 1)
    other = Posterior(own.mu.roll(shift, 1), own.logvar.roll(shift, 1), logits)
    return terms_at(member.model, observed.terms.x, other, member.noise).reconstruction - observed.terms.reconstruction
