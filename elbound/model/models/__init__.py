"""Models of what is normal."""

from collections.abc import Callable

from elbound.model.models.autoencoder import build_autoencoder, build_denoising_autoencoder
from elbound.model.models.base import Model, ModelSpec
from elbound.model.models.patch import build_patch_vae
from elbound.model.models.pca import build_pca
from elbound.model.models.vae import build_vae
from elbound.schema import ImageSchema, TableSchema

MODELS: dict[str, Callable[[ModelSpec, TableSchema | ImageSchema], Model]] = {
    "vae": build_vae,
    "patch_vae": build_patch_vae,
    "pca": build_pca,
    "autoencoder": build_autoencoder,
    "denoising_autoencoder": build_denoising_autoencoder,
}

__all__ = ["MODELS", "Model", "ModelSpec"]
