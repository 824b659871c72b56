"""Posterior collapse, model by model."""

from torch import Tensor

from elbound.collapse import USE_ITEMS, active_units, code_worth, kl_by_dimension, posterior_of
from elbound.detector import Detector, Member
from elbound.models.autoencoder import NoPrior
from training.report.facts import ModelUse, NetUse, NotChecked

LEAST_WORTH = 0.1
"""Nats an item: a seventh of a bit. A decoder that gains less from an item's own code does not listen to it."""
COSTLY_ITEMS = 200


def latent_use(detector: Detector, x: Tensor) -> list[ModelUse]:
    """How each model of the detector uses its latent, from held-out events `(n, *event)`."""
    names = [spec.view for spec in detector.spec.models]
    return [
        ModelUse(name, _nets(member, x, chunk=detector.cpu_chunk))
        for name, member in zip(names, detector.each(), strict=True)
    ]


def is_collapsed(use: ModelUse) -> bool:
    """Whether every net has no active unit, or a decoder that does not listen to the code.

    Some inactive units are no collapse: a VAE switches off what it does not need. One net of several that collapsed
    is shown, and blocks nothing while the others work.
    """
    if isinstance(use.nets, NotChecked):
        return False
    return all(not any(net.active) or net.worth < LEAST_WORTH for net in use.nets)


def _nets(member: Member, x: Tensor, *, chunk: int) -> list[NetUse] | NotChecked:
    if member.model.closed_form or isinstance(member.model.prior, NoPrior):
        return NotChecked(f"the model {member.spec.name} has no rate that could collapse")
    x = x[: COSTLY_ITEMS if member.view.costly else USE_ITEMS]
    if len(x) < 2:
        return NotChecked("it takes two held-out items")
    posterior = posterior_of(member, x, chunk=chunk)
    active = active_units(posterior.mu)
    kl = kl_by_dimension(posterior.mu, posterior.logvar)
    worth = code_worth(member, x, chunk=chunk)
    parts = zip(kl.tolist(), active.tolist(), worth.tolist(), strict=True)
    return [NetUse(k, a, w) for k, a, w in parts]
