"""The evidence lower bound and its relatives, for one batch, from one pass through a model.

All terms are in nats and are summed (never averaged) over observed features and latent dimensions. Shapes:
`x` `(nets, n, *event)`, noise `(K, 1, latent)`, latents `(nets, K, n, latent)`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from elbound.model.likelihoods.base import Likelihood
from elbound.model.likelihoods.gaussian import LOG_2PI
from elbound.model.priors import Prior


@dataclass(frozen=True)
class Posterior:
    """q(z|x) = N(mu, diag(exp(logvar))), both `(nets, n, latent)`; unpacks to these two.

    `logits` `(nets, n, categories)` are those of q(c|x) where a categorical latent stands beside z, else None.
    """

    mu: Tensor
    logvar: Tensor
    logits: Tensor | None = None

    def __iter__(self) -> Iterator[Tensor]:
        return iter((self.mu, self.logvar))


class Density(Protocol):
    """What the bounds need of a model: q(z|x), p(x|z) and p(z)."""

    likelihood: Likelihood
    prior: Prior

    def encode(self, x: Tensor) -> Posterior: ...

    def decode(self, z: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class BoundTerms:
    """The pieces of every bound for one batch.

    `log_px`, `log_pz`, `log_qz` `(nets, K, n)` belong to the same K samples `z`; `log_share` `(nets, K, n)` is
    the log of each sample's share in an expectation, or None for 1 / K; `kl` `(nets, n)` is the closed form, or
    None where the prior has none; `parameters` are the likelihood's for each sample. What only some bounds need is
    computed when it is asked for.
    """

    x: Tensor
    posterior: Posterior
    noise: Tensor
    prior: Prior
    likelihood: Likelihood
    parameters: Tensor
    z: Tensor
    log_px: Tensor
    log_share: Tensor | None
    kl: Tensor | None

    @cached_property
    def prediction(self) -> Tensor:
        """What the decoder says of each feature, averaged over the samples, `(nets, n, *event)`."""
        return _expected(self.likelihood.prediction(self.parameters, self.x[:, None]), self.log_share)

    @cached_property
    def log_qz(self) -> Tensor:
        """log q(z|x) of the samples, and log q(c|x) where the latent has categories."""
        logvar, logits = self.posterior.logvar[:, None], self.posterior.logits
        log_qz = -0.5 * (self.noise.square().sum(-1) + (logvar + LOG_2PI).sum(-1))
        if logits is None:
            return log_qz
        joint: Tensor = (log_qz[:, :, None] + torch.log_softmax(logits, -1).mT[:, None]).flatten(1, 2)
        return joint

    @cached_property
    def log_pz(self) -> Tensor:
        """log p(z) of the samples, and log p(c) = -log C where the latent has categories."""
        latent = self.posterior.mu.shape[-1]
        categories = self.z.shape[-1] - latent
        log_pz = self.prior.log_prob(self.z[..., :latent])
        return log_pz - math.log(categories) if categories else log_pz

    @cached_property
    def reconstruction(self) -> Tensor:
        """-E_q[log p(x|z)], `(nets, n)`: the distortion."""
        return -_expected(self.log_px, self.log_share)

    @cached_property
    def feature_shares(self) -> Tensor:
        """-E_q[log p(x_j|z)] of each feature, `(nets, n, *event)`, 0 for a gap: they sum to `reconstruction`."""
        return -_expected(self.likelihood.log_prob(self.parameters, self.x[:, None]), self.log_share)

    @cached_property
    def weight(self) -> Tensor:
        """What each net and sample counts in the mixture of all, `(nets, K, n)`; an item's sum to 1."""
        if self.log_share is None:
            return torch.full_like(self.log_px, 1 / math.prod(self.log_px.shape[:2]))
        return self.log_share.exp() / len(self.log_share)

    @cached_property
    def negative_elbo(self) -> Tensor:
        """reconstruction + rate, `(nets, n)`."""
        return self.reconstruction + self.rate

    @cached_property
    def rate(self) -> Tensor:
        """KL(q(z|x) || p(z)), `(nets, n)`: in closed form where there is one, else from the samples."""
        return self.sampled_kl if self.kl is None else self.kl

    @cached_property
    def sampled_kl(self) -> Tensor:
        """The KL from the K samples, `(nets, n)`: the partner of `iwae` in tests of the bounds."""
        return _expected(self.log_qz - self.log_pz, self.log_share)


class Samples(NamedTuple):
    """Latents `(nets, K, n, latent)` and the logs of their shares `(nets, K, n)`, as in BoundTerms."""

    z: Tensor
    log_share: Tensor | None = None


def bound_terms(model: Density, x: Tensor, noise: Tensor) -> BoundTerms:
    """Encode, reparametrise with the given noise, decode: z = mu + exp(logvar / 2) * noise.

    Kingma and Welling, Auto-Encoding Variational Bayes, 2014, section 2.4.
    """
    return terms_at(model, x, model.encode(x), noise)


def terms_at(model: Density, x: Tensor, posterior: Posterior, noise: Tensor) -> BoundTerms:
    """The bound terms of `x` under any posterior, not only the encoder's."""
    mu, logvar = (part[:, None] for part in posterior)  # (nets, 1, n, latent)
    samples = Samples(torch.addcmul(mu, torch.exp(0.5 * logvar), noise))
    kl = model.prior.rate(posterior.mu, posterior.logvar)
    if posterior.logits is not None:
        samples = with_categories(samples, posterior.logits)
        kl = None if kl is None else kl + categorical_kl(posterior.logits)
    parameters = model.decode(samples.z)
    seen = x[:, None]
    return BoundTerms(
        x=x,
        posterior=posterior,
        noise=noise,
        prior=model.prior,
        likelihood=model.likelihood,
        parameters=parameters,
        z=samples.z,
        log_px=model.likelihood.log_prob(parameters, seen).sum(tuple(range(3, x.ndim + 1))),
        log_share=samples.log_share,
        kl=kl,
    )


def with_categories(samples: Samples, logits: Tensor) -> Samples:
    """Each of K samples once with every category c, one-hot behind z: `(nets, K * C, n, latent + C)`.

    p(c) = 1 / C. A sample's share is q(c|x) / K, so that expectations over c are exact sums, and `iwae` sums c
    out: elbo <= iwae item by item still holds. Kingma et al., Semi-supervised Learning with Deep Generative
    Models, 2014, equation 7.
    """
    nets, K, n, _ = samples.z.shape
    C = logits.shape[-1]
    log_qc = torch.log_softmax(logits, -1).mT[:, None].expand(nets, K, C, n)
    one_hot = torch.eye(C, dtype=logits.dtype, device=logits.device)[:, None].expand(nets, K, C, n, C)
    z = torch.cat([samples.z[:, :, None].expand(nets, K, C, n, -1), one_hot], -1)
    return Samples(z.flatten(1, 2), (log_qc - math.log(K)).flatten(1, 2))


def categorical_kl(logits: Tensor) -> Tensor:
    """KL(q(c|x) || uniform) in nats, the exact sum over the last axis: `(nets, n, categories)` to `(nets, n)`."""
    log_qc = torch.log_softmax(logits, -1)
    return (log_qc.exp() * (log_qc + math.log(logits.shape[-1]))).sum(-1)


def elbo(terms: BoundTerms, *, sampled_kl: bool = False) -> Tensor:
    """E_q[log p(x|z)] - KL(q(z|x) || p(z)) in nats, `(nets, n)`; larger for normal items.

    `sampled_kl` takes the KL from the same samples: then elbo <= iwae item by item.
    """
    return -(terms.reconstruction + terms.sampled_kl) if sampled_kl else -terms.negative_elbo


def iwae(terms: BoundTerms) -> Tensor:
    """log (1/K) sum_k p(x|z_k) p(z_k) / q(z_k|x) in nats, `(nets, n)`.

    At most log p(x) in expectation, and closer to it with every sample. Burda, Grosse and Salakhutdinov,
    Importance Weighted Autoencoders, 2016, equation 8.
    """
    log_weights = terms.log_px + terms.log_pz - terms.log_qz
    if terms.log_share is not None:
        return torch.logsumexp(log_weights + terms.log_share, 1)
    return torch.logsumexp(log_weights, 1) - math.log(log_weights.shape[1])


def fixed_noise(samples: int, latent: int, *, seed: int) -> Tensor:
    """Antithetic quasi-random normal noise `(samples, 1, latent)`, float32: drawn once, kept in the bundle.

    Half of the samples are a scrambled Sobol sequence through the normal quantile, the others their
    negatives, so that odd moments vanish exactly. Buchholz, Wenzel and Mandt, Quasi-Monte Carlo Variational
    Inference, 2018. Raises ValueError for an odd number of samples above 1.
    """
    if samples > 1 and samples % 2:
        raise ValueError(f"samples must be 1 or even. Got {samples} instead")
    if samples == 1:
        return torch.zeros(1, 1, latent)
    engine = torch.quasirandom.SobolEngine(latent, scramble=True, seed=seed)
    uniform = engine.draw(samples // 2, dtype=torch.float64).clamp(1e-6, 1 - 1e-6)
    half = torch.special.ndtri(uniform)
    return torch.cat([half, -half])[:, None].float()


def _expected(values: Tensor, log_share: Tensor | None) -> Tensor:
    """The expectation over the samples, `(nets, K, n, ...)` to `(nets, n, ...)`."""
    if log_share is None:
        return values.mean(1)
    share = log_share.exp()
    return (values * share.view(*share.shape, *(1,) * (values.ndim - 3))).sum(1)
