"""Whether the latent space has holes: codes that no item has are decoded, and the model is asked what it makes of them.

A generative model is complete where every sample of its prior decodes to something like a normal item, and continuous
where that holds on the way between two codes.
"""

import numpy as np
import torch
from torch import Tensor

from elbound.detector import Member
from elbound.diagnostics.collapse import posterior_of
from elbound.evaluation import auroc
from elbound.model.bounds import bound_terms, elbo
from elbound.model.models.autoencoder import NoPrior
from elbound.model.priors import Prior
from elbound.model.priors.aggregate import AggregatePosterior
from elbound.model.priors.standard_normal import StandardNormal
from elbound.schema import ImageSchema, TableSchema
from elbound.scorer import Scorer
from training.report.facts import LatentFacts, NotChecked

CODES = 500
QUANTILE = 0.99


def check_latent(scorer: Scorer, x: Tensor, *, seed: int) -> LatentFacts | NotChecked:
    """Surprise of decoded prior samples and of decoded middles, beside that of held-out normals `(n, *event)`.

    By the first model's first net's prior and all its nets' -ELBO, in nats.
    """
    member = next(scorer.detector.each())
    if member.view.costly:
        return NotChecked("a model of pretrained features decodes features and no image")
    if member.model.closed_form or isinstance(member.model.prior, NoPrior):
        return NotChecked(f"the model {member.spec.name} has no prior to sample from")
    if member.spec.categories:
        return NotChecked("the latent has categories beside its numbers")
    generator = torch.Generator().manual_seed(seed)
    sampled = prior_samples(member.model.prior, CODES, generator)
    if sampled is None:
        return NotChecked(f"samples of the prior {member.spec.prior} are not drawn here")
    x = x[:CODES]
    if len(x) < 2:
        return NotChecked("it takes two held-out items")
    codes = posterior_of(member, x, chunk=scorer.detector.cpu_chunk).mu
    first, second = (torch.randint(0, len(x), (CODES,), generator=generator) for _ in range(2))
    second = torch.where(first == second, (second + 1) % len(x), second)
    part = torch.rand(CODES, 1, generator=generator)
    between = codes[:, first] * (1 - part) + codes[:, second] * part
    normal = _surprise(member, member.look(x))
    found = {name: _surprise(member, decoded(member, z, scorer.schema)) for name, z in
             (("prior", sampled), ("between", between))}  # fmt: skip
    limit = float(np.quantile(normal, QUANTILE))
    return LatentFacts(
        quantile=limit,
        prior_above=float((found["prior"] > limit).mean()),
        between_above=float((found["between"] > limit).mean()),
        prior_auroc=auroc(normal, found["prior"]),
        between_auroc=auroc(normal, found["between"]),
        normal=normal,
        **found,
    )


def prior_samples(prior: Prior, n: int, generator: torch.Generator) -> Tensor | None:
    """`n` codes for each net, `(nets, n, latent)`; None for a prior of which no samples are drawn here."""
    noise = torch.randn(prior.nets, n, prior.latent, generator=generator)
    if isinstance(prior, StandardNormal):
        return noise
    if not isinstance(prior, AggregatePosterior):
        return None
    kept = int(torch.isfinite(prior.log_weight[0]).sum())
    place = torch.randint(0, kept, (n,), generator=generator)
    mu, logvar = prior.mu.cpu()[:, place], prior.logvar.cpu()[:, place]
    return mu + torch.exp(0.5 * logvar) * noise


@torch.inference_mode()
def decoded(member: Member, z: Tensor, schema: TableSchema | ImageSchema) -> Tensor:
    """What the first net makes of codes `(nets, n, latent)`, as its view would see it, float32 `(n, *event)`.

    The expected number of a numeric feature, the likeliest level of the others.
    """
    parameters = member.model.decode(z[:, None].to(member.noise.device))
    likelihood = member.model.likelihood
    if isinstance(schema, ImageSchema):
        return likelihood.prediction(parameters, parameters)[0, 0].cpu()
    weight = parameters.new_zeros(parameters.shape[:3])
    weight[0] = 1
    return likelihood.expectation(parameters, weight)[0].cpu()


@torch.inference_mode()
def _surprise(member: Member, seen: Tensor) -> np.ndarray:
    """-ELBO in nats of what the view saw, `(n,)`."""
    nets, device = member.spec.nets, member.noise.device
    parts = [
        -elbo(bound_terms(member.model, part.to(device).expand(nets, *part.shape), member.noise)).mean(0).cpu()
        for part in seen.split(128)
    ]
    surprise: np.ndarray = torch.cat(parts).double().numpy()
    return surprise
