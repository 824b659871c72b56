"""A variational autoencoder of the patches of a feature map: one small network at every place."""

import torch
from torch import Tensor, nn

from elbound.errors import ConfigError
from elbound.model.likelihoods.gaussian import normal_log_prob
from elbound.model.likelihoods.scale import ScaledLikelihood
from elbound.model.models.base import LossTerms, ModelSpec
from elbound.model.models.bodies import Bodies, Encoder
from elbound.model.models.vae import VAE
from elbound.model.networks.features import deep_features, local_features, map_channels, map_shape
from elbound.model.networks.mlp import ResidualMLP
from elbound.model.priors import PRIORS
from elbound.schema import ImageSchema, TableSchema

BATCH_PATCHES = 1024


class PatchGaussian(ScaledLikelihood):
    """Each channel of a place has its own mean and, all over the map, one learned variance; `x` is what the view saw.

    Terms and predictions are `(nets, K, n, places * channels)`: the deep features at the end of `x` are not
    modelled.
    """

    def __init__(self, places: int, channels: int, nets: int, variance_floor: float) -> None:
        super().__init__(variance_floor)
        self.channels = channels
        self.parameter_shape = (places * channels,)
        self.logvar = nn.Parameter(torch.zeros(nets, channels))

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        logvar = self.clamp(self.logvar)[:, None, None, None]  # (nets, 1, 1, 1, channels)
        mean = parameters.unflatten(-1, (-1, self.channels))
        return normal_log_prob(local_features(x), mean, logvar).flatten(-2)

    def prediction(self, parameters: Tensor, x: Tensor) -> Tensor:  # noqa: ARG002 - the contract
        return parameters

    def error(self, prediction: Tensor, x: Tensor) -> Tensor:
        deviation: Tensor = local_features(x).flatten(-2) - prediction
        return deviation.square()


class EveryPlace(nn.Module):
    """One network at all places: `(nets, n, places * inputs)` to `(nets, n, places * outputs)`, a 1x1 convolution."""

    def __init__(self, nets: int, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        self.inputs = inputs
        self.body = ResidualMLP(nets, inputs, width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        patches: Tensor = x.unflatten(-1, (-1, self.inputs)).flatten(1, 2)
        images: Tensor = self.body(patches).unflatten(1, (x.shape[1], -1)).flatten(2)
        return images


class PatchEncoder(Encoder):
    """Encodes each place by itself: `latent / places` numbers for a place, side by side."""

    def __init__(self, nets: int, places: int, width: int, code: int) -> None:
        super().__init__()
        self.code = code
        self.input_shape = (places * map_channels(),)
        self.body = EveryPlace(nets, map_channels(), width, 2 * code)

    def inputs(self, x: Tensor) -> Tensor:
        return local_features(x).flatten(-2)

    def encode_inputs(self, inputs: Tensor) -> Tensor:
        both: Tensor = self.body(inputs).unflatten(-1, (-1, 2, self.code))
        return both.transpose(-3, -2).flatten(-3)


class PatchVAE(VAE):
    """As `VAE`, trained on some places of each image: its neighbours say much the same."""

    def loss(self, x: Tensor, noise: Tensor, *, kl_weight: float) -> LossTerms:
        """That of about `BATCH_PATCHES` patches; reconstruction and KL are scaled to whole images."""
        local = local_features(x)
        items, places = local.shape[1:3]
        codes = noise.unflatten(-1, (places, -1))
        count = min(places, max(1, BATCH_PATCHES // items))
        chosen = codes[0, 0, 0, :, 0].argsort()[:count]  # as random as the noise, and as repeatable
        some = torch.cat([local[:, :, chosen].flatten(2), deep_features(x)], -1)
        terms = super().loss(some, codes[..., chosen, :].flatten(-2), kl_weight=kl_weight)
        return LossTerms(terms.loss, *(part * places / count for part in terms[1:]))


def build_patch_vae(spec: ModelSpec, schema: TableSchema | ImageSchema) -> PatchVAE:
    """The untrained model of `spec` for the view `features` of images.

    Raises ConfigError for anything else, and where `latent` is no multiple of the places.
    """
    if not isinstance(schema, ImageSchema) or spec.view != "features":
        raise ConfigError(f"the model {spec.name!r} reads the view 'features' of images. Got {spec.view!r} instead")
    height, width = map_shape(schema)
    if spec.latent % (height * width):
        raise ConfigError(
            f"latent must be a multiple of the {height * width} places. Got {spec.latent} instead", where="latent"
        )
    places = height * width
    code = spec.latent // places
    bodies = Bodies(
        PatchEncoder(spec.nets, places, spec.width, code),
        EveryPlace(spec.nets, code, spec.width, map_channels()),
        PatchGaussian(places, map_channels(), spec.nets, spec.variance_floor),
    )
    return PatchVAE(bodies, PRIORS[spec.prior](spec.nets, spec.latent, spec.components))
