"""What the service answers, for the OpenAPI document."""

from datetime import datetime
from typing import Literal

from service.answers.explained_schemas import (
    Answer,
    Counterfactual,
    FiredExplanation,
    ImageExplanation,
    RowExplanation,
    Searches,
)
from service.answers.store_schemas import RefusedVersion, ShadowAnswer, StoreAnswer


class ErrorFacts(Answer):
    """`code` for programs, `message` for people, `where` names the field, column, row or file."""

    code: str
    message: str
    where: str | None = None


class ModelName(Answer):
    name: str
    version: str


class VerdictThreshold(Answer):
    rule: str
    threshold: float | None


class ScoreThreshold(Answer):
    unit: str
    threshold: float | None


class ScoreValue(Answer):
    value: float
    p_value: float


class RateInterval(Answer):
    """Where the realised false-alarm rate lies with `confidence`, given the size of the calibration set."""

    low: float
    high: float
    confidence: float


class FalseDiscoveries(Answer):
    """`fdr=`: of what is called an anomaly, on average at most `level` is normal.

    At least `least_discoveries` items at the smallest possible p-value make the first discovery.
    """

    level: float
    resolvable: bool
    discoveries: int
    least_discoveries: int


class GroupThreshold(Answer):
    n_calibration: int
    resolvable: bool
    threshold: float | None


class Groups(Answer):
    """By which column or pattern items are grouped, and the groups of this upload that have their own thresholds."""

    by: str | None
    is_feature: bool
    min_items: int
    used: dict[str, GroupThreshold]


class Item(Answer):
    """One item: either an error or a verdict. `fired` names the score that made it an anomaly.

    `group` is the calibration group that ranked it, null for all items together; `conditional_p_value` comes with a
    guarantee; `at_alpha` and `at_fdr` are both decisions where `fdr` was asked for.
    """

    index: int
    name: str | None = None
    error: ErrorFacts | None = None
    is_anomaly: bool | None = None
    p_value: float | None = None
    severity: float | None = None
    score: float | None = None
    fired: str | None = None
    scores: dict[str, ScoreValue] | None = None
    conditional_p_value: float | None = None
    at_alpha: bool | None = None
    at_fdr: bool | None = None
    group: str | None = None
    explanation: RowExplanation | ImageExplanation | None = None
    fired_explanation: FiredExplanation | None = None
    counterfactual: Counterfactual | None = None


class ErrorAnswer(Answer):
    """`items` where every item of an upload has an error of its own."""

    error: ErrorFacts
    items: list[Item] | None = None


class ScoreColumn(Answer):
    value: list[float | None]
    p_value: list[float | None]


class Columns(Answer):
    """`layout=columns`: one list a field, null where the item has an error."""

    index: list[int]
    name: list[str | None]
    error: list[ErrorFacts | None]
    is_anomaly: list[bool | None]
    p_value: list[float | None]
    severity: list[float | None]
    score: list[float | None]
    fired: list[str | None]
    scores: dict[str, ScoreColumn]
    conditional_p_value: list[float | None] | None = None
    at_alpha: list[bool | None] | None = None
    at_fdr: list[bool | None] | None = None
    group: list[str | None] | None = None
    explanation: list[RowExplanation | None] | list[ImageExplanation | None] | None = None
    fired_explanation: list[FiredExplanation | None] | None = None
    counterfactual: list[Counterfactual | None] | None = None


class Summary(Answer):
    items: int
    scored: int
    anomalies: int
    errors: int
    unseen_categories: dict[str, int]


class ScoreAnswer(Answer):
    """`items`, or `columns` under `layout=columns`. Thresholds are null where alpha does not resolve.

    `warning` then says that nothing can be an anomaly, and what to do; it is null otherwise.
    `decided_by` names what `is_anomaly` follows: the p-value, the conditional one of a guarantee, or the fdr.
    """

    model: ModelName
    alpha: float
    guarantee: float | None
    decided_by: Literal["p_value", "conditional_p_value", "fdr"]
    n_calibration: int
    resolvable: bool
    smallest_alpha: float
    warning: str | None
    realised_rate: RateInterval | None
    fdr: FalseDiscoveries | None = None
    groups: Groups | None = None
    verdict: VerdictThreshold
    scores: dict[str, ScoreThreshold]
    counterfactuals: Searches | None = None
    items: list[Item] | None = None
    columns: Columns | None = None
    summary: Summary


class Engine(Answer):
    """What computes the scores, and why: a rule, never a measurement."""

    name: Literal["torch", "onnxruntime", "cuda_graphs"]
    reason: str


class ModelSummary(Answer):
    name: str
    version: str
    kind: Literal["table", "image"]
    ready: bool
    alpha: float
    n_calibration: int
    device: str
    engine: Engine


class Limits(Answer):
    """What one request may hold, by the settings of these names: what a client needs to know before it sends."""

    max_body_bytes: int
    max_rows: int
    max_files: int
    max_pixels: int


class ModelsAnswer(Answer):
    """`store_problems` says what of the store cannot be read; what was served stays."""

    models: list[ModelSummary]
    refused: list[RefusedVersion]
    store_problems: list[str]
    limits: Limits


class ModelAnswer(ModelSummary):
    """A model in full; `item` is the schema that an upload must have."""

    created: str
    guarantee: float | None
    smallest_alpha: float
    warning: str | None
    realised_rate: RateInterval | None
    groups: dict[str, int] | None
    rate_is_promised: bool
    item: dict[str, object]
    detector: dict[str, object]
    verdict: VerdictThreshold
    scores: dict[str, ScoreThreshold]
    training: dict[str, object]
    metrics: dict[str, float]
    software: dict[str, str]
    store: StoreAnswer | None
    shadow: ShadowAnswer | None


class Histogram(Answer):
    """`counts` between neighbouring `edges`, one fewer."""

    edges: list[float]
    counts: list[int]


class DriftAnswer(Answer):
    """All but the first three fields where the model is followed; else `reason`. Nats, and times in UTC."""

    model: ModelName
    log_threshold: float
    followed: bool
    reason: str | None = None
    drifted: bool | None = None
    drifted_at: datetime | None = None
    drifted_after_scores: int | None = None
    log_martingale: float | None = None
    max_log_martingale: float | None = None
    since: datetime | None = None
    scores: int | None = None
    epoch: int | None = None
    epoch_scores: int | None = None
    p_values: Histogram | None = None
    kept: bool | None = None
    saved_at: datetime | None = None
    lost: str | None = None


class HealthAnswer(Answer):
    status: Literal["ok", "not_ready"]
