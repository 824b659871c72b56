"""A deep look at a few items: how much better the best posterior explains an item than the encoder's."""

from dataclasses import replace

import torch
from torch import Tensor

from elbound.detector import Detector, Member
from elbound.model.bounds import elbo, terms_at

REGRET_STEPS = 60
REGRET_RATE = 0.05
REGRET_ITEMS = 256


def likelihood_regret(detector: Detector, x: Tensor, device: torch.device, *, steps: int = REGRET_STEPS) -> Tensor:
    """max_q ELBO(x; q) - ELBO(x; q(z|x)) in nats, float64 `(n,)`, never negative; larger is more anomalous.

    The decoder stays; mu and logvar of each item are improved by `steps` of Adam (Kingma and Ba, 2015) from the
    encoder's, with the stored noise, so the answer is a fixed function of the item. Items do not touch each other
    and go through in chunks of `REGRET_ITEMS`. The mean over the nets of the first view. Costs about 3 `steps` times
    a score. Xiao, Yan and Amit, Likelihood Regret: An Out-of-Distribution Detection Score For Variational
    Auto-encoder, 2020; here q itself is improved and not the encoder's weights, so that items stay independent.
    """
    member = next(detector.each())
    chunks = [_regret(member, part.to(device), steps) for part in x.split(REGRET_ITEMS)]
    return torch.cat(chunks).cpu().double() if chunks else torch.empty(0, dtype=torch.float64)


def _regret(member: Member, x: Tensor, steps: int) -> Tensor:
    with torch.no_grad():
        seen = member.view(x)
        seen = seen.expand(member.spec.nets, *seen.shape)
        start = member.model.encode(seen)
        first = best = elbo(terms_at(member.model, seen, start, member.noise))
    mu, logvar = (part.clone().requires_grad_() for part in start)
    optimizer = torch.optim.Adam([mu, logvar], lr=REGRET_RATE)
    with torch.enable_grad():
        for _ in range(steps):
            bound = elbo(terms_at(member.model, seen, replace(start, mu=mu, logvar=logvar), member.noise))
            best = torch.maximum(best, bound.detach())
            optimizer.zero_grad(set_to_none=True)
            (-bound.sum()).backward()
            optimizer.step()
    return (best - first).mean(0)
