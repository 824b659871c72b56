"""Models of what is normal."""

from collections.abc import Callable

from elbound.data.schema import ImageSchema, TableSchema
from elbound.models.base import Model, ModelSpec
from elbound.models.vae import build_vae

MODELS: dict[str, Callable[[ModelSpec, TableSchema | ImageSchema], Model]] = {"vae": build_vae}

__all__ = ["MODELS", "Model", "ModelSpec"]
