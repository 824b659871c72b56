"""What the service answers to whoever draws it, for the OpenAPI document."""

from datetime import datetime

from service.answers.schemas import Answer, Histogram, ModelName


class AlphaScale(Answer):
    """How one score decides: `thresholds` are those of the `alphas`, null where one does not resolve."""

    median: float
    thresholds: list[float | None]


class VerdictScale(AlphaScale):
    rule: str
    histogram: Histogram


class ScoreScale(AlphaScale):
    unit: str
    histogram: Histogram


class GroupScale(AlphaScale):
    n_calibration: int


class GroupScales(Answer):
    by: str | None
    used: dict[str, GroupScale]


class CalibrationAnswer(Answer):
    """An item is an anomaly at one of the `alphas` exactly where what decides is at most that.

    `conditional_p_value` decides where there is a `guarantee`, else `p_value`. Histograms are of calibration scores.
    `warning` says that nothing can be an anomaly at the model's own `alpha`, and what to do.
    """

    model: ModelName
    alpha: float
    guarantee: float | None
    n_calibration: int
    smallest_alpha: float
    warning: str | None
    alphas: list[float]
    verdict: VerdictScale
    scores: dict[str, ScoreScale]
    groups: GroupScales | None


class OpenHistogram(Answer):
    """`counts` between neighbouring `edges`, and last of what lies beyond them all."""

    edges: list[float]
    counts: list[int]


class LiveRequests(Answer):
    """`refused` by a status of 400 to 499, `failed` by one from 500 on; both are in the total."""

    total: int
    refused: int
    failed: int


class LiveItems(Answer):
    normal: int
    anomaly: int
    error: int


class LiveModel(Answer):
    name: str
    version: str
    alpha: float
    items: LiveItems
    p_values: OpenHistogram


class LiveRecord(Answer):
    """A line of `GET /live`. Counts are from the start of the process; latency is that of scoring."""

    at: datetime
    ready: bool
    queue_depth: int
    queue_limit: int
    uploads_open: int
    requests: LiveRequests
    latency_seconds: OpenHistogram
    models: list[LiveModel]
