"""Probabilistic principal components: the linear VAE, solved at once."""

import math
from typing import ClassVar

import torch
from torch import Tensor

from elbound.model.bounds import Posterior
from elbound.model.likelihoods.base import Likelihood
from elbound.model.likelihoods.gaussian import SharedGaussian
from elbound.model.models.base import Model, ModelSpec
from elbound.model.models.coding import CodedGaussian, RowCoding
from elbound.model.priors import StandardNormal
from elbound.schema import ImageSchema, TableSchema

MAX_EXACT = 2048
"""Up to so many coded features the covariance is decomposed as it is, beyond by a randomised projection."""


class ProbabilisticPCA(Model):
    """z ~ N(0, I), u = W z + mean + N(0, variance I) with u the coded event, in maximum likelihood.

    W = U (Lambda - variance I)^(1/2) from the largest eigenvalues of the covariance and `variance` the mean of
    the others, at least the floor. The columns of W are orthogonal, so q(z|x) is the exact posterior and, for
    an item without gaps, the ELBO is log p(x). A gap counts as the mean. Tipping and Bishop, Probabilistic
    Principal Component Analysis, 1999. One solution serves every net.
    """

    closed_form: ClassVar[bool] = True
    mean: Tensor
    W: Tensor
    variance: Tensor

    def __init__(
        self, event: tuple[int, ...], coding: RowCoding | None, likelihood: Likelihood, spec: ModelSpec
    ) -> None:
        super().__init__()
        self.event = event
        self.coding = coding
        self.likelihood = likelihood
        self.prior = StandardNormal(spec.nets, spec.latent)
        self.floor = spec.variance_floor
        size = math.prod(event) if coding is None else coding.size
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("W", torch.zeros(size, spec.latent))
        self.register_buffer("variance", torch.ones(()))

    def encode(self, x: Tensor) -> Posterior:
        precision = 1 + self.W.square().sum(0) / self.variance
        mu = torch.nan_to_num(self._coded(x) - self.mean) @ self.W / (self.variance * precision)
        return Posterior(mu, -precision.log().expand(mu.shape))

    def decode(self, z: Tensor) -> Tensor:
        coded = z @ self.W.mT + self.mean
        return coded.unflatten(-1, self.event) if self.coding is None else coded

    @torch.no_grad()
    def fit_closed_form(self, x: Tensor) -> None:
        """Mean, W and variance from training events `(n, *event)`; the same for the same events."""
        coded = self._coded(x).double()
        self.mean.copy_(coded.nanmean(0).nan_to_num())
        deviation = torch.nan_to_num(coded - self.mean)
        kept = min(self.W.shape[1], *deviation.shape)
        values, vectors = _principal(deviation, kept)
        total = deviation.square().sum() / len(deviation)
        rest = (total - values.sum()) / max(1, len(self.mean) - kept)
        variance = rest.clamp(min=self.floor)
        self.variance.copy_(variance)
        self.W.zero_()[:, :kept] = (vectors * (values - variance).clamp(min=0).sqrt()).to(self.W.dtype)
        logvar = self.likelihood.logvar
        assert isinstance(logvar, Tensor)
        logvar.fill_(float(variance.log()))

    def _coded(self, x: Tensor) -> Tensor:
        return x.flatten(-len(self.event)) if self.coding is None else self.coding(x)


def build_pca(spec: ModelSpec, schema: TableSchema | ImageSchema) -> ProbabilisticPCA:
    """The unfitted model of `spec` for items of `schema`; `latent` is the number of components."""
    if isinstance(schema, TableSchema):
        coding = RowCoding(schema)
        return ProbabilisticPCA(schema.event, coding, CodedGaussian(coding, spec.nets, spec.variance_floor), spec)
    likelihood = SharedGaussian(schema.event, spec.nets, spec.variance_floor)
    return ProbabilisticPCA(schema.event, None, likelihood, spec)


def _principal(deviation: Tensor, kept: int) -> tuple[Tensor, Tensor]:
    """The `kept` largest eigenvalues of the covariance of `(n, size)` and their vectors `(size, kept)`."""
    n, size = deviation.shape
    if size <= MAX_EXACT:
        values, vectors = torch.linalg.eigh(deviation.mT @ deviation / n)
        return values[-kept:].flip(0), vectors[:, -kept:].flip(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        _, singular, vectors = torch.svd_lowrank(deviation.float(), q=min(kept + 8, n, size), niter=4)
    return singular[:kept].double().square() / n, vectors[:, :kept].double()
