"""Defaults by rule from the data: size, columns, shape; never from labels."""

from elbound.data.schema import ImageSchema, TableSchema
from elbound.detector import DetectorSpec
from elbound.fit.loop import FitSettings
from elbound.fit.schedules import image_step_budget, step_budget
from elbound.models import ModelSpec

IMAGE_BATCH = 64
IMAGE_LEARNING_RATE = 1.5e-3
TABLE_SAMPLES = 8
IMAGE_SAMPLES = 4


def table_latent(columns: int) -> int:
    """clip(ceil(columns / 2), 2, 32): half of the columns, or a wide table's score is copying."""
    return min(max(-(-columns // 2), 2), 32)


def image_latent(schema: ImageSchema) -> int:
    """clip(pixels / 16, 8, 64): small images need few, larger ones gain nothing beyond 64."""
    return min(max(schema.height * schema.width // 16, 8), 64)


def variance_floor(n: int) -> float:
    """clip(10 / n, 0.01, 0.1) of a column's variance: few rows cannot vouch for a narrow fit."""
    return min(max(10 / n, 0.01), 0.1)


def default_spec(schema: TableSchema | ImageSchema, n: int) -> DetectorSpec:
    """The detector for `n` training items of `schema`."""
    if isinstance(schema, TableSchema):
        model = ModelSpec(
            view="standard",
            latent=table_latent(len(schema.columns)),
            samples=TABLE_SAMPLES,
            variance_floor=variance_floor(n),
            novelty=1 / (n + 1),
        )
    else:
        model = ModelSpec(view="pixels", latent=image_latent(schema), samples=IMAGE_SAMPLES, variance_floor=1e-4)
    return DetectorSpec(models=(model,))


def default_settings(schema: TableSchema | ImageSchema, n: int) -> FitSettings:
    """The budget for `n` training items of `schema`."""
    if isinstance(schema, TableSchema):
        return FitSettings(steps=step_budget(n))
    return FitSettings(steps=image_step_budget(n), batch_items=IMAGE_BATCH, learning_rate=IMAGE_LEARNING_RATE)
