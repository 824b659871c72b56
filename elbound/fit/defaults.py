"""Defaults by rule from the data: size, columns, shape; never from labels."""

from dataclasses import dataclass

import torch
from torch import Tensor

from elbound.calibration.fusion import Groups
from elbound.detector import DetectorSpec
from elbound.fit.image_defaults import image_defaults, settle_mode
from elbound.fit.loop import FitSettings
from elbound.fit.schedules import image_step_budget, step_budget
from elbound.model.models import ModelSpec
from elbound.schema import ImageSchema, TableSchema
from elbound.views.table import FEW_VALUES

IMAGE_BATCH = 64
IMAGE_LEARNING_RATE = 1.5e-3
TABLE_NETS = 2
TABLE_SAMPLES, FAST_SAMPLES = 8, 2
TYPED_ITEMS = 200
HALVES = ("negative_elbo", "reconstruction", "kl", "reconstruction_error")
FUSED = ("negative_elbo", "reconstruction", "neighbours")


@dataclass(frozen=True)
class Plan:
    """What is to be fitted and how its scores make one verdict: a rule of `fusion.RULES` or a score's name."""

    detector: DetectorSpec
    rule: str
    groups: Groups = ()


def table_plan(schema: TableSchema, train: Tensor) -> Plan:
    """Two views of the columns, two nets each; in both −ELBO, its reconstruction and the nearest training rows.

    The prior of the ELBO is the aggregate posterior: normal rows come in kinds, and between two kinds N(0, I)
    finds nothing odd. The reconstruction counts once more because that KL can drown it. No rule without labels
    can know in which view an anomaly will show, so both look and the louder decides. The first view takes every
    number as it is, for scores and explanations that anybody can check; the second one straightens long tails
    and models numbers of few values as what they are.
    """
    n, d = train.shape
    bank = bank_size(n, d)
    shared = {"prior": "aggregate", "components": bank, "bank": bank}
    first = _table_model(schema, train).model_copy(update={**shared, "scores": (*HALVES, "neighbours")})
    typed = {**first.typed, **typed_values(schema, train)}
    second = first.model_copy(update={"view": "normal", "typed": typed, "scores": FUSED})
    return Plan(DetectorSpec(models=(first, second)), "fused", (FUSED, tuple(f"normal.{name}" for name in FUSED)))


def fast_table_plan(schema: TableSchema, train: Tensor) -> Plan:
    """One net, two samples, the −ELBO alone: for where a tenth of the work matters more than the last points."""
    model = _table_model(schema, train).model_copy(update={"nets": 1, "samples": FAST_SAMPLES, "scores": HALVES})
    return Plan(DetectorSpec(models=(model,)), "negative_elbo")


def image_plan(schema: ImageSchema, n: int, mode: str) -> Plan:
    """What `image_defaults` says, in a mode that may be `auto`."""
    return Plan(*image_defaults(schema, n, settle_mode(schema, mode)[0]))


def default_settings(schema: TableSchema | ImageSchema, n: int) -> FitSettings:
    """The budget for `n` training items of `schema`."""
    if isinstance(schema, TableSchema):
        return FitSettings(steps=step_budget(n))
    return FitSettings(steps=image_step_budget(n), batch_items=IMAGE_BATCH, learning_rate=IMAGE_LEARNING_RATE)


def _table_model(schema: TableSchema, train: Tensor) -> ModelSpec:
    n, d = train.shape
    return ModelSpec(
        view="standard",
        nets=TABLE_NETS,
        latent=table_latent(d),
        samples=TABLE_SAMPLES,
        variance_floor=variance_floor(n),
        novelty=1 / (n + 1),
        odd_gaps=True,
        typed=constant_values(schema, train),
    )


def table_latent(columns: int) -> int:
    """clip(ceil(columns / 2), 2, 32): half of the columns, or a wide table's score is copying."""
    return min(max(-(-columns // 2), 2), 32)


def variance_floor(n: int) -> float:
    """clip(10 / n, 0.01, 0.1) of a column's variance: few rows cannot vouch for a narrow fit."""
    return min(max(10 / n, 0.01), 0.1)


def bank_size(n: int, d: int) -> int:
    """min(n, 2000) training rows to search, fewer for wide tables: at most 4 million numbers, but 200 rows.

    2,000 rows found what 4,000 found on 18 tables, in half of the time.
    """
    return min(n, 2000, max(200, 4_000_000 // d))


def constant_values(schema: TableSchema, train: Tensor) -> dict[int, tuple[float, ...]]:
    """Numeric columns with one value in train `(n, d)`, and that value.

    They are no few values to choose from: the view sees to it that every other value is far, however near it is.
    """
    seen = ~torch.isnan(train)
    low, high = train.masked_fill(~seen, torch.inf).amin(0), train.masked_fill(~seen, -torch.inf).amax(0)
    numeric = torch.tensor([column.kind == "numeric" for column in schema.columns])
    return {j: (float(low[j]),) for j in (numeric & (low == high)).nonzero()[:, 0].tolist()}


def typed_values(schema: TableSchema, train: Tensor) -> dict[int, tuple[float, ...]]:
    """Numeric columns that are rather yes or no, or a code, and their values in train `(n, d)`.

    Two whole numbers are a boolean; 3 to 12 whole numbers are a category where one of them holds over half of
    the rows, else they are degrees of something and stay numbers. None below `TYPED_ITEMS` rows: too few to
    tell a rare level from one that cannot be.
    """
    typed: dict[int, tuple[float, ...]] = {}
    if len(train) < TYPED_ITEMS:
        return typed
    for j, column in enumerate(schema.columns):
        cells = train[:, j]
        values, counts = cells[~torch.isnan(cells)].unique(return_counts=True)
        if column.kind != "numeric" or not 2 <= len(values) <= FEW_VALUES or bool((values != values.round()).any()):
            continue
        if len(values) == 2 or int(counts.max()) > counts.sum() / 2:
            typed[j] = tuple(values.tolist())
    return typed
