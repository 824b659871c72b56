"""The evidence lower bound and its relatives, for one batch, from one pass through a model.

All terms are in nats and are summed (never averaged) over observed features and latent dimensions. Shapes:
`x` `(nets, n, *event)`, noise `(K, 1, latent)`, latents `(nets, K, n, latent)`.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from elbound.likelihoods.base import Likelihood
from elbound.likelihoods.gaussian import LOG_2PI
from elbound.priors import Prior


class Posterior(NamedTuple):
    """q(z|x) = N(mu, diag(exp(logvar))), both `(nets, n, latent)`."""

    mu: Tensor
    logvar: Tensor


class Density(Protocol):
    """What the bounds need of a model: q(z|x), p(x|z) and p(z)."""

    likelihood: Likelihood
    prior: Prior

    def encode(self, x: Tensor) -> Posterior: ...

    def decode(self, z: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class BoundTerms:
    """The pieces of every bound for one batch.

    `log_px`, `log_pz`, `log_qz` `(nets, K, n)` belong to the same K samples; `kl` `(nets, n)` is the closed
    form, or None where the prior has none; `prediction` `(nets, n, *event)` is averaged over the samples.
    """

    x: Tensor
    posterior: Posterior
    log_px: Tensor
    log_pz: Tensor
    log_qz: Tensor
    kl: Tensor | None
    prediction: Tensor

    @cached_property
    def reconstruction(self) -> Tensor:
        """-E_q[log p(x|z)], `(nets, n)`: the distortion."""
        return -self.log_px.mean(1)

    @cached_property
    def rate(self) -> Tensor:
        """KL(q(z|x) || p(z)), `(nets, n)`: in closed form where there is one, else from the samples."""
        return self.sampled_kl if self.kl is None else self.kl

    @cached_property
    def sampled_kl(self) -> Tensor:
        """The KL from the K samples, `(nets, n)`: the partner of `iwae` in tests of the bounds."""
        return (self.log_qz - self.log_pz).mean(1)


def bound_terms(model: Density, x: Tensor, noise: Tensor) -> BoundTerms:
    """Encode, reparametrise with the given noise, decode: z = mu + exp(logvar / 2) * noise.

    Kingma and Welling, Auto-Encoding Variational Bayes, 2014, section 2.4.
    """
    posterior = model.encode(x)
    mu, logvar = (part[:, None] for part in posterior)  # (nets, 1, n, latent)
    z = mu + torch.exp(0.5 * logvar) * noise
    parameters = model.decode(z)
    features = tuple(range(3, x.ndim + 1))
    seen = x[:, None]
    kl = model.prior.kl(*posterior)
    return BoundTerms(
        x=x,
        posterior=posterior,
        log_px=model.likelihood.log_prob(parameters, seen).sum(features),
        log_pz=model.prior.log_prob(z),
        log_qz=-0.5 * (noise.square().sum(-1) + (logvar + LOG_2PI).sum(-1)),
        kl=None if kl is None else kl.sum(-1),
        prediction=model.likelihood.prediction(parameters, seen).mean(1),
    )


def elbo(terms: BoundTerms, *, sampled_kl: bool = False) -> Tensor:
    """E_q[log p(x|z)] - KL(q(z|x) || p(z)) in nats, `(nets, n)`; larger for normal items.

    `sampled_kl` takes the KL from the same samples: then elbo <= iwae item by item.
    """
    return -terms.reconstruction - (terms.sampled_kl if sampled_kl else terms.rate)


def iwae(terms: BoundTerms) -> Tensor:
    """log (1/K) sum_k p(x|z_k) p(z_k) / q(z_k|x) in nats, `(nets, n)`.

    At most log p(x) in expectation, and closer to it with every sample. Burda, Grosse and Salakhutdinov,
    Importance Weighted Autoencoders, 2016, equation 8.
    """
    log_weights = terms.log_px + terms.log_pz - terms.log_qz
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
