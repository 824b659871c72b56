"""The variational autoencoder, for tables and for images."""

import math

from torch import Tensor

from elbound.model.bounds import Posterior, bound_terms
from elbound.model.models.base import LossTerms, Model, ModelSpec
from elbound.model.models.bodies import Bodies, build_bodies
from elbound.model.priors import PRIORS, Prior
from elbound.schema import ImageSchema, TableSchema

MIN_LATENT_LOGVAR, MAX_LATENT_LOGVAR = -10.0, 4.0


class VAE(Model):
    """q(z|x) and p(x|z) by an encoder and a decoder, trained on the ELBO.

    Kingma and Welling, Auto-Encoding Variational Bayes, 2014. The encoder has `2 * latent + categories`
    outputs, the decoder takes codes of `latent + categories`: with categories, q(c|x) stands beside q(z|x).
    """

    def __init__(self, bodies: Bodies, prior: Prior, categories: int = 0) -> None:
        super().__init__()
        self.encoder, self.decoder, self.likelihood = bodies
        self.prior = prior
        self.categories = categories
        prior.bind(self.encode_inputs, self.encoder.input_shape)

    def encode(self, x: Tensor) -> Posterior:
        return self._posterior(self.encoder(x))

    def encode_inputs(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """`mu` and `logvar` of events that are coded already, `(nets, n, *input_shape)`."""
        posterior = self._posterior(self.encoder.encode_inputs(inputs))
        return posterior.mu, posterior.logvar

    def _posterior(self, encoded: Tensor) -> Posterior:
        logits = None
        if self.categories:
            encoded, logits = encoded.tensor_split([encoded.shape[-1] - self.categories], -1)
        mu, logvar = encoded.chunk(2, -1)
        return Posterior(mu, logvar.clamp(MIN_LATENT_LOGVAR, MAX_LATENT_LOGVAR), logits)

    def decode(self, z: Tensor) -> Tensor:
        parameters: Tensor = self.decoder(z.flatten(1, 2))
        shaped: Tensor = parameters.unflatten(1, z.shape[1:3])
        return shaped

    def loss(self, x: Tensor, noise: Tensor, *, kl_weight: float) -> LossTerms:
        """(reconstruction + kl_weight * kl) / features: an average over the batch, a sum over the nets."""
        terms = bound_terms(self, x, noise)
        reconstruction, kl = terms.reconstruction.mean(1), terms.rate.mean(1)
        features = math.prod(x.shape[2:])
        loss = (reconstruction + kl_weight * kl).sum() / features
        return LossTerms(loss, reconstruction.mean(), kl.mean())


def build_vae(spec: ModelSpec, schema: TableSchema | ImageSchema) -> VAE:
    """The untrained VAE of `spec` for items of `schema`; draws its weights from torch's default generator."""
    prior = PRIORS[spec.prior](spec.nets, spec.latent, spec.components)
    code = spec.latent + spec.categories
    bodies = build_bodies(spec, schema, outputs=spec.latent + code, code=code)
    return VAE(bodies, prior, spec.categories)
