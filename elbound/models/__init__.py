"""Models of what is normal."""

from collections.abc import Callable

from elbound.data.schema import ImageSchema, TableSchema
from elbound.models.autoencoder import build_autoencoder, build_denoising_autoencoder
from elbound.models.base import Model, ModelSpec
from elbound.models.patch import build_patch_vae
from elbound.models.pca import build_pca
from elbound.models.vae import build_vae

MODELS: dict[str, Callable[[ModelSpec, TableSchema | ImageSchema], Model]] = {
    "vae": build_vae,
    "patch_vae": build_patch_vae,
    "pca": build_pca,
    "autoencoder": build_autoencoder,
    "denoising_autoencoder": build_denoising_autoencoder,
}

__all__ = ["MODELS", "Model", "ModelSpec"]
