"""The one path from items to a calibrated scorer, shared by the estimator and the command."""

import hashlib
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from elbound.bundle.manifest import (
    ItemGroups,
    Manifest,
    TrainingRecord,
    VerdictSpec,
    clean_name,
    new_version,
    now_utc,
    software_versions,
)
from elbound.calibration.calibration import Calibration, CalibrationGroups, min_group_items
from elbound.calibration.conformal import check_alpha, check_guarantee
from elbound.calibration.resolution import default_alpha
from elbound.data.image import ImagePreprocessor
from elbound.data.split import MIN_ITEMS, Split, everything, split_items
from elbound.data.table import TablePreprocessor
from elbound.detector import Detector, DetectorSpec
from elbound.device import choose_device, one_thread
from elbound.errors import ConfigError, TooFewItems
from elbound.fit.choices import with_choices
from elbound.fit.defaults import Plan, default_settings, fast_table_plan, image_plan, table_plan
from elbound.fit.image_defaults import IMAGE_MODES
from elbound.fit.loop import FitControls, FitSettings, fit_members
from elbound.schema import ImageSchema, TableSchema
from elbound.scorer import GOLDEN_ITEMS, Scorer

MAX_SEED = 2**32
PROFILES = ("default", "fast")


@dataclass(frozen=True)
class DetectorConfig:
    """What may be asked of a fit; None leaves it to the rules of `fit/defaults.py`.

    `profile` is `default` or `fast`: for tables the −ELBO of one small net, without a bank of training rows.
    `mode` is for images: `pixels`, pretrained `features`, or `auto` by size and colour.
    `alpha` is by default the smallest rate, from 0.01 up, that the calibration items can decide (`default_alpha`).
    `guarantee` is the confidence with which the realised rate stays below alpha; None promises it on average.
    `prior`, `likelihood` and `categories` are those of `fit/choices.py`.
    `groups` (one label an item) keeps items that belong together in one part; `item_groups` (likewise) get
    thresholds of their own where they are large enough. `allow_tiny` fits fewer than
    20 items on all of them and promises no rate.
    """

    name: str = "model"
    alpha: float | None = None
    guarantee: float | None = None
    seed: int = 0
    device: str = "auto"
    profile: str = "default"
    mode: str = "auto"
    steps: int | None = None
    batch_items: int | None = None
    learning_rate: float | None = None
    latent: int | None = None
    width: int | None = None
    prior: str | None = None
    likelihood: str | None = None
    categories: int | None = None
    checkpoint_steps: int | None = None
    groups: Sequence[object] | None = field(default=None, repr=False)
    item_groups: Sequence[str | None] | None = field(default=None, repr=False)
    allow_tiny: bool = False

    def __post_init__(self) -> None:
        if self.alpha is not None:
            check_alpha(self.alpha)
        if self.guarantee is not None:
            check_guarantee(self.guarantee)
        for name, known in (("profile", PROFILES), ("mode", ("auto", *IMAGE_MODES))):
            if getattr(self, name) not in known:
                raise ConfigError(
                    f"{name} must be one of {', '.join(known)}. Got {getattr(self, name)!r} instead", where=name
                )
        for name in ("steps", "batch_items", "latent", "width", "checkpoint_steps"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int | np.integer) and value >= 1):
                raise ConfigError(f"{name} must be a whole number of at least 1. Got {value!r} instead", where=name)
        if self.learning_rate is not None and not (
            isinstance(self.learning_rate, float | int) and self.learning_rate > 0
        ):
            raise ConfigError(
                f"learning_rate must be above 0. Got {self.learning_rate!r} instead", where="learning_rate"
            )
        if not (isinstance(self.seed, int | np.integer) and 0 <= self.seed < MAX_SEED):
            raise ConfigError(
                f"the seed must be a whole number from 0 to {MAX_SEED - 1:,}. Got {self.seed!r} instead", where="seed"
            )


@dataclass(frozen=True)
class Fitted:
    """A scorer and what it was fitted on: all events `x` `(n, *event)`, in the order of the data, and their split."""

    scorer: Scorer
    x: Tensor
    split: Split
    settings: FitSettings


def fit_detector(
    items: pa.Table | Tensor,
    schema: TableSchema | ImageSchema,
    config: DetectorConfig,
    controls: FitControls | None = None,
) -> Scorer:
    """The scorer of `fit_all`."""
    return fit_all(items, schema, config, controls).scorer


def fit_all(
    items: pa.Table | Tensor,
    schema: TableSchema | ImageSchema,
    config: DetectorConfig,
    controls: FitControls | None = None,
) -> Fitted:
    """Split, preprocess, fit, score, calibrate.

    `items` is a table with the schema's columns or decoded images `(n, channels, height, width)`. The
    schema's levels and gaps, the scales and the weights see the train part alone. Raises DataError,
    TooFewItems, FitError, Interrupted.
    """
    started = time.perf_counter()
    controls = controls or FitControls()
    device = choose_device(config.device)
    split = _split(len(items), config)
    alpha = default_alpha(len(split.calibration), config.guarantee) if config.alpha is None else config.alpha
    schema, x = _events(items, schema, split)
    train, validation = x[split.train], x[split.validation]
    plan = _plan(schema, train, config)
    settings = _settings(schema, len(train), config)
    fingerprint = _fingerprint(x, split, plan.detector, repr(settings))
    detector = _new_detector(plan.detector, schema, seed=config.seed)
    for member in detector.each():
        member.view.fit(train)
    detector.to(device)
    controls = replace(controls, fingerprint=fingerprint)
    min_items = min_group_items(alpha, config.guarantee)
    item_groups = _item_groups(split, config, min_items)
    small = isinstance(schema, TableSchema) and device.type == "cpu"
    with one_thread() if small else nullcontext():
        history = fit_members(detector, train, validation, settings, seed=config.seed, controls=controls)
        detector.eval().requires_grad_(False)
        detector.remember(train, seed=config.seed)
        calibration = _calibrate(detector, plan, x, split, device, item_groups)
    record = TrainingRecord(
        items=len(items),
        train=len(split.train),
        validation=len(split.validation),
        calibration=len(split.calibration),
        held_out=split.held_out,
        grouped=config.groups is not None,
        seed=config.seed,
        steps=settings.steps,
        skipped_updates=history.skipped,
        seconds=round(time.perf_counter() - started, 3),
        device=device.type,
        fingerprint=fingerprint,
        history=tuple(history.rows),
    )
    manifest = _manifest(
        config,
        schema,
        plan,
        record,
        VerdictSpec(rule=plan.rule, groups=plan.groups, alpha=alpha, guarantee=config.guarantee),
        None if item_groups is None else ItemGroups(names=item_groups.names, min_items=min_items),
    )
    golden = x[split.calibration[:GOLDEN_ITEMS]]
    return Fitted(Scorer(manifest, detector, calibration, golden, device=device), x, split, settings)


def _manifest(
    config: DetectorConfig,
    schema: TableSchema | ImageSchema,
    plan: Plan,
    record: TrainingRecord,
    verdict: VerdictSpec,
    item_groups: ItemGroups | None,
) -> Manifest:
    created = now_utc()
    return Manifest(
        name=clean_name(config.name),
        version=new_version(created),
        created=created,
        item=schema,
        detector=plan.detector,
        verdict=verdict,
        item_groups=item_groups,
        training=record,
        metrics={"validation_elbo": record.history[-1]["validation_elbo"]},
        software=software_versions(),
    )


def _split(n: int, config: DetectorConfig) -> Split:
    try:
        return split_items(n, seed=config.seed, groups=config.groups)
    except TooFewItems:
        if config.allow_tiny and n < MIN_ITEMS:
            return everything(n)
        raise


def _events(
    items: pa.Table | Tensor, schema: TableSchema | ImageSchema, split: Split
) -> tuple[TableSchema | ImageSchema, Tensor]:
    """The schema as train knows it and the events of all items."""
    if isinstance(schema, TableSchema):
        preprocessor = TablePreprocessor.fit(schema, items.take(pa.array(split.train)))
        return preprocessor.schema, preprocessor.to_tensor(items).only()
    assert isinstance(items, Tensor)
    return schema, items.to(ImagePreprocessor(schema).dtype)


def _plan(schema: TableSchema | ImageSchema, train: Tensor, config: DetectorConfig) -> Plan:
    if isinstance(schema, ImageSchema):
        plan = image_plan(schema, len(train), config.mode)
    elif config.profile == "fast":
        plan = fast_table_plan(schema, train)
    else:
        plan = table_plan(schema, train)
    chosen = {key: value for key in ("latent", "width") if (value := getattr(config, key)) is not None}
    models = with_choices(
        (model.model_copy(update=chosen) for model in plan.detector.models),
        schema,
        prior=config.prior,
        likelihood=config.likelihood,
        categories=config.categories,
    )
    return replace(plan, detector=DetectorSpec(models=models))


def _settings(schema: TableSchema | ImageSchema, n: int, config: DetectorConfig) -> FitSettings:
    names = ("steps", "batch_items", "learning_rate", "checkpoint_steps")
    chosen = {name: value for name in names if (value := getattr(config, name)) is not None}
    return replace(default_settings(schema, n), **chosen)


def _new_detector(spec: DetectorSpec, schema: TableSchema | ImageSchema, *, seed: int) -> Detector:
    """Weights and noise from the seed alone; the caller's random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        detector = Detector(spec, schema)
    detector.draw_noise(seed=seed)
    return detector


def _item_groups(split: Split, config: DetectorConfig, min_items: int) -> CalibrationGroups | None:
    if config.item_groups is None:
        return None
    labels = [config.item_groups[i] for i in split.calibration]
    return CalibrationGroups.of(labels, min_items=min_items)


def _calibrate(
    detector: Detector,
    plan: Plan,
    x: Tensor,
    split: Split,
    device: torch.device,
    item_groups: CalibrationGroups | None,
) -> Calibration:
    joint, reference = (detector(x[part], device).cpu().numpy() for part in (split.calibration, split.validation))
    return Calibration(
        detector.score_names,
        joint,
        reference,
        rule=plan.rule,
        groups=plan.groups,
        held_out=split.held_out,
        item_groups=item_groups,
    )


def _fingerprint(x: Tensor, split: Split, spec: DetectorSpec, settings: str) -> str:
    """SHA-256 of the events, the split, the detector and the budget: what a checkpoint must agree with."""
    digest = hashlib.sha256(np.ascontiguousarray(x.numpy()).data)
    for part in (split.train, split.validation, split.calibration):
        digest.update(np.ascontiguousarray(part).data)
    digest.update(spec.model_dump_json().encode())
    digest.update(settings.encode())
    return digest.hexdigest()
