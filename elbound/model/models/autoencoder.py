"""Autoencoders without a rate: baselines with the bodies of the VAE."""

import math

import torch
from torch import Tensor

from elbound.errors import ConfigError
from elbound.model.bounds import Posterior
from elbound.model.models.base import LossTerms, Model, ModelSpec
from elbound.model.models.bodies import Bodies, build_bodies
from elbound.model.priors.base import Prior
from elbound.schema import ImageSchema, TableSchema

REPLACED_SHARE = 0.2


class NoPrior(Prior):
    """Weighs every code alike, so that what is left of the negative ELBO is the reconstruction."""

    def log_prob(self, z: Tensor) -> Tensor:
        return torch.zeros_like(z[..., 0])

    def kl(self, mu: Tensor, logvar: Tensor) -> Tensor:  # noqa: ARG002 - the contract
        return torch.zeros_like(mu)


class Autoencoder(Model):
    """x -> code -> x, trained on the reconstruction alone; the code is `mu`, and its noise is zero.

    Hinton and Salakhutdinov, Reducing the Dimensionality of Data with Neural Networks, 2006.
    """

    def __init__(self, bodies: Bodies, latent: int, nets: int) -> None:
        super().__init__()
        self.encoder, self.decoder, self.likelihood = bodies
        self.prior = NoPrior(nets, latent)

    def encode(self, x: Tensor) -> Posterior:
        mu = self.encoder(x)
        return Posterior(mu, torch.zeros_like(mu))

    def decode(self, z: Tensor) -> Tensor:
        parameters: Tensor = self.decoder(z.flatten(1, 2))
        shaped: Tensor = parameters.unflatten(1, z.shape[1:3])
        return shaped

    def corrupt(self, x: Tensor, noise: Tensor) -> Tensor:  # noqa: ARG002 - for the denoising one
        """What the encoder sees in training of a batch `(nets, n, *event)`."""
        return x

    def loss(self, x: Tensor, noise: Tensor, *, kl_weight: float) -> LossTerms:  # noqa: ARG002 - the contract
        """Reconstruction / features: an average over the batch, a sum over the nets."""
        code = self.encode(self.corrupt(x, noise)).mu
        log_px = self.likelihood.log_prob(self.decode(code[:, None]), x[:, None])
        reconstruction = -log_px.flatten(3).sum(-1).mean((1, 2))
        loss = reconstruction.sum() / math.prod(x.shape[2:])
        return LossTerms(loss, reconstruction.mean(), torch.zeros_like(loss))


class DenoisingAutoencoder(Autoencoder):
    """Rebuilds an item of which a fifth of the features, each at random, are those of another item of the batch.

    A feature keeps its type and its units, so rows and images are treated alike. Vincent, Larochelle, Bengio
    and Manzagol, Extracting and Composing Robust Features with Denoising Autoencoders, 2008.
    """

    def corrupt(self, x: Tensor, noise: Tensor) -> Tensor:
        seed = int(noise.detach().float().cpu().contiguous().view(torch.int32).sum())  # follows seed and step alone
        generator = torch.Generator().manual_seed(seed)
        is_replaced = torch.rand(x.shape, generator=generator) < REPLACED_SHARE
        return torch.where(is_replaced.to(x.device), x.roll(1, 1), x)


def build_autoencoder(spec: ModelSpec, schema: TableSchema | ImageSchema) -> Autoencoder:
    """The untrained autoencoder of `spec`. Raises ConfigError for more than one sample."""
    return Autoencoder(_bodies(spec, schema), spec.latent, spec.nets)


def build_denoising_autoencoder(spec: ModelSpec, schema: TableSchema | ImageSchema) -> DenoisingAutoencoder:
    """The untrained denoising autoencoder of `spec`. Raises ConfigError for more than one sample."""
    return DenoisingAutoencoder(_bodies(spec, schema), spec.latent, spec.nets)


def _bodies(spec: ModelSpec, schema: TableSchema | ImageSchema) -> Bodies:
    if spec.samples != 1:
        raise ConfigError(
            f"an autoencoder has no noise: samples must be 1. Got {spec.samples} instead", where="samples"
        )
    return build_bodies(spec, schema, outputs=spec.latent, code=spec.latent)
