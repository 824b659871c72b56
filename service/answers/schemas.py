"""The answers of the routes and their parts, as the OpenAPI document tells of them."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Cell = float | bool | str | None
Base64 = Annotated[str, Field(json_schema_extra={"contentEncoding": "base64"})]


class Answer(BaseModel):
    """No field that is not told of here."""

    model_config = ConfigDict(extra="forbid")


class FeatureShare(Answer):
    """A column's `share` of the score, what was `seen`, and of numbers the central 95 % of what was `expected`.

    `probability` is that of the value seen, for categories and booleans.
    """

    name: str
    share: float
    seen: Cell
    expected: Cell
    interval: tuple[Cell, Cell] | None
    probability: float | None


class RowExplanation(Answer):
    """Shares in nats, by falling share; with `rest`, those of the other columns, and `latent` they are the score."""

    score: Literal["negative_elbo"]
    features: list[FeatureShare]
    rest: float
    latent: float


class Region(Answer):
    """`box` is left, top, width and height in pixels of the model's size."""

    box: tuple[int, int, int, int]
    share: float


class ImageExplanation(Answer):
    """Shares in nats: those of the `regions`, `rest` and `latent` are the score.

    Pictures are PNG of the model's size: the `image` as it sees it, a `heatmap` to lay over it, and its
    `reconstruction`, null where it sees pretrained features. `shares` is the array of all pixels with `heatmap=npy`.
    """

    score: Literal["negative_elbo"]
    width: int
    height: int
    regions: list[Region]
    rest: float
    latent: float
    image: Base64
    heatmap: Base64
    reconstruction: Base64 | None
    shares: Base64 | None = None


class NormalRange(Answer):
    """The 5 %, 50 % and 95 % quantile of the calibration items' scores."""

    low: float
    median: float
    high: float


class ScoreShare(Answer):
    name: str
    share: float
    seen: Cell


class NearestItem(Answer):
    """A training item, `row` or `image`, at a `distance` in the unit of the score's own space."""

    distance: float
    row: dict[str, Cell] | None = None
    image: Base64 | None = None


class FiredExplanation(Answer):
    """What the `score` that decided tells, where that is another one than those of the first view.

    Each part is there where the score has it: shares that are its sum, a map, the nearest training items.
    """

    score: str
    normal: NormalRange
    features: list[ScoreShare] | None = None
    rest: float | None = None
    latent: float | None = None
    heatmap: Base64 | None = None
    nearest: list[NearestItem] | None = None


class CellChange(Answer):
    name: str
    seen: Cell
    nearest: Cell


class Counterfactual(Answer):
    """The nearest item that the model finds normal or, where none was `found`, the least odd one; its own verdict.

    Of a row the `changes`, of an image the part of its pixels that differs.
    """

    found: bool
    p_value: float
    conditional_p_value: float | None = None
    score: float
    steps: int
    changes: list[CellChange] | None = None
    changed_share: float | None = None
    image: Base64 | None = None


class Searches(Answer):
    """Of how many anomalies the nearest normal was looked for, and how many were left out for the limit."""

    searched: int
    left_out: int
    max_counterfactual_items: int


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class RefusedVersion(_Answer):
    """A version of the store that is not served, and why."""

    name: str
    version: str
    code: str
    message: str


class ActiveAnswer(_Answer):
    """The version that is served, and the one that is pinned."""

    name: str
    version: str | None
    pinned: str | None


class OneVerdict(_Answer):
    is_anomaly: bool
    score: float
    p_value: float


class Disagreement(_Answer):
    """An item on which both versions differ; `index` is its place in its upload."""

    at: datetime
    index: int
    live: OneVerdict
    shadow: OneVerdict


class ShadowAnswer(_Answer):
    """Items by both verdicts since `since`; the latest disagreements; items that were passed over or failed."""

    version: str
    live_version: str
    since: datetime
    items: int
    both_normal: int
    both_anomaly: int
    only_live: int
    only_shadow: int
    waiting: int
    skipped: int
    failed: int
    disagreements: list[Disagreement]


class StoredVersion(_Answer):
    version: str
    state: Literal["active", "shadow", "refused", "there"]


class VersionChange(_Answer):
    """Since when a version was served, and why: `found` is the newest, or a pin that was written elsewhere."""

    version: str
    at: datetime
    how: Literal["started", "found", "activated", "rolled_back"]


class StoreAnswer(_Answer):
    """What the store has of a model, newest first, and what was served here."""

    versions: list[StoredVersion]
    pinned: str | None
    refused: list[RefusedVersion]
    changes: list[VersionChange]
    problem: str | None


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
