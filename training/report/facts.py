"""What the report found, as plain values: each part is there, or says why it was not checked."""

import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np

from elbound.evaluation import RealisedRate


@dataclass(frozen=True)
class NotChecked:
    """Why a part has no numbers; never an empty sentence."""

    because: str


@dataclass(frozen=True)
class NetUse:
    """How one net uses its latent: by dimension the KL against N(0, 1) in nats and whether the unit is active.

    `worth` is what the decoder loses, in nats an item, with the code of another item.
    """

    kl: list[float]
    active: list[bool]
    worth: float


@dataclass(frozen=True)
class ModelUse:
    """One model of the detector: `name` is that of its view, `nets` its nets or why there is no latent to judge."""

    name: str
    nets: list[NetUse] | NotChecked


@dataclass(frozen=True)
class RateCheck(RealisedRate):
    """The alarms at `alpha` of one score, block or group: `what`."""

    what: str
    alpha: float


@dataclass(frozen=True)
class CalibrationFacts:
    """`blocks`: each block's alarms by thresholds from the others; `overall`: all blocks together, for reading alone;
    `validation`: the validation part's alarms by the thresholds of the bundle, score by score.

    `by` says what a block is; `p_values` are those of the verdict, each block's against the others, and
    `validation_p_values` those of the first score.
    """

    by: str
    blocks: list[RateCheck]
    overall: list[RateCheck]
    validation: list[RateCheck]
    p_values: np.ndarray = field(repr=False)
    validation_p_values: np.ndarray = field(repr=False)

    @property
    def broken(self) -> list[RateCheck]:
        return [check for check in (*self.blocks, *self.validation) if not check.as_promised]


@dataclass(frozen=True)
class DriftFacts:
    """Held-out verdict scores of the first and the last third of the data: two-sample tests, `(items)` a side."""

    items: int
    first_median: float
    last_median: float
    kolmogorov_smirnov_p: float
    mann_whitney_p: float


@dataclass(frozen=True)
class ColumnChange:
    """How a column moves along the file.

    `shift` is the mean of the last tenth minus that of the first rows, in standard deviations of those; `correlation`
    is that of its ranks with the place, and `p_value` the chance of such a one in random order, over all columns;
    None where nearly all values are the same.
    """

    name: str
    shift: float
    correlation: float
    p_value: float | None


@dataclass(frozen=True)
class TrendFacts:
    """Alarms on the last tenth of the file by a cheap model of its first 80 %, and columns that rise or fall.

    `trained` and `calibrated` are the rows of that model; `growing` the columns that change surely and by much, the
    most correlated first; `moved` the one with the largest shift, None where no column has numbers.
    """

    check: RateCheck
    trained: int
    calibrated: int
    growing: list[ColumnChange]
    moved: ColumnChange | None


@dataclass(frozen=True)
class Rival:
    """A baseline: its AUROC, its lead over the verdict with an interval, AUROC by kind of anomaly.

    `note` says what it had, and what was cut short.
    """

    name: str
    auroc: float
    lead: float
    low: float
    high: float
    by_kind: dict[str, float]
    note: str


@dataclass(frozen=True)
class BaselineFacts:
    """The verdict's AUROC and the baselines'; `synthetic` anomalies rank methods and estimate no AUROC."""

    synthetic: bool
    normals: int
    anomalies: int
    auroc: float
    by_kind: dict[str, float]
    rivals: list[Rival]
    skipped: dict[str, str]
    """Baselines that were not reached, with the reason."""


@dataclass(frozen=True)
class DefectKind:
    """One kind of known defects: how many alarm at the bundle's alpha, AUROC against normal items, and that of its
    pixels. `example` is the place of a typical one among the known items."""

    kind: str
    items: int
    found: int
    auroc: float
    pixel_auroc: float | None
    example: int
    example_p_value: float


@dataclass(frozen=True)
class DefectFacts:
    """Known defects by kind, worst first, and all together; `low` to `high` is how many of the `normals` may alarm.

    `resize` is how pictures get the model's size, since borders may cause alarms; `mapped` images had their heat maps
    compared with masks; `left_out` says what was not computed.
    """

    alpha: float
    kinds: list[DefectKind]
    items: int
    found: int
    auroc: float
    normals: int
    false_alarms: int
    low: int
    high: int
    resize: str
    pixel_auroc: float | None
    mapped: int
    left_out: list[str]


@dataclass(frozen=True)
class LatentFacts:
    """Surprise (-ELBO in nats) of decoded codes beside that of held-out normals.

    `prior_above`, `between_above`: the share of samples from the prior, and of codes between two normals, that lies
    above the normals' 99 % quantile; 0.01 is what normals themselves have.
    """

    quantile: float
    prior_above: float
    between_above: float
    prior_auroc: float
    between_auroc: float
    normal: np.ndarray = field(repr=False)
    prior: np.ndarray = field(repr=False)
    between: np.ndarray = field(repr=False)


@dataclass(frozen=True)
class FeatureFit:
    """How much of each column the first model explains: the mean reconstruction error, 1 - R^2 for numbers.

    For booleans and categories it is the mean of 1 - the probability of the value seen. NaN where no cell was seen.
    """

    names: list[str]
    error: list[float]


@dataclass(frozen=True)
class Example:
    """One held-out item: `p_value` of the verdict and, for a row, what was seen and expected, worst columns first."""

    item: int
    p_value: float
    cells: list[tuple[str, str, str]]


@dataclass(frozen=True)
class Examples:
    """Held-out normals that are typical and those that surprise most."""

    typical: list[Example]
    worst: list[Example]


@dataclass(frozen=True)
class Verdict:
    """`reasons` not to ship, `unchecked` parts by name with the reason, and what is `missing` for a verdict.

    One reason is *do not ship*. Without a reason, something missing is *undecided*, and nothing missing is *ship*.
    """

    reasons: list[str]
    unchecked: dict[str, str]
    missing: list[str] = field(default_factory=list)

    @property
    def state(self) -> Literal["ship", "do not ship", "undecided"]:
        if self.reasons:
            return "do not ship"
        return "undecided" if self.missing else "ship"

    @property
    def ship(self) -> bool:
        return self.state == "ship"

    @property
    def because(self) -> list[str]:
        """Why the state is not *ship*, one sentence each; empty where it is."""
        return self.reasons or self.missing

    @property
    def words(self) -> str:
        return self.state if self.ship else f"{self.state}, because " + "; and because ".join(self.because)


History: TypeAlias = tuple[dict[str, float], ...]


@dataclass
class Facts:
    """All parts; one that was not reached says so."""

    model: str
    version: str
    alpha: float
    unresolved: str | None = None
    """Why nothing can ever be an anomaly at `alpha`; None where something can."""
    seconds: float = 0.0
    budget_seconds: float = 0.0
    history: History = ()
    independent_columns: bool = False
    """Of a table: no two columns depend on each other, so that there is nothing to encode."""
    held_out_groups: int | None = None
    """Groups of `--split-by` that calibrate; None without groups."""
    collapse: list[ModelUse] | NotChecked = NotChecked("it was not reached")
    calibration: CalibrationFacts | NotChecked = NotChecked("it was not reached")
    drift: DriftFacts | NotChecked = NotChecked("it was not reached")
    trend: TrendFacts | NotChecked = NotChecked("it was not reached")
    latent: LatentFacts | NotChecked = NotChecked("it was not reached")
    features: FeatureFit | NotChecked = NotChecked("it was not reached")
    examples: Examples | NotChecked = NotChecked("it was not reached")
    baselines: BaselineFacts | NotChecked = NotChecked("it was not reached")
    defects: DefectFacts | NotChecked | None = None
    """None where no defects came with the training data."""
    verdict: Verdict = field(default_factory=lambda: Verdict([], {}))


def as_json(facts: Facts) -> bytes:
    """Every number, as strict JSON: arrays as lists, what is not finite as null; derived values included."""
    return json.dumps(_plain(facts), indent=1, allow_nan=False).encode()


def _plain(value: object) -> object:
    match value:
        case np.ndarray():
            return _plain(value.tolist())
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case RateCheck():
            return {**_fields(value), "rate": value.rate, "as_promised": value.as_promised}
        case Verdict():
            return {"ship": value.ship, "state": value.state, "words": value.words, **_fields(value)}
        case NotChecked():
            return {"not_checked_because": value.because}
    return _fields(value) if dataclasses.is_dataclass(value) else value


def _fields(value: object) -> dict[str, object]:
    assert dataclasses.is_dataclass(value)
    return {one.name: _plain(getattr(value, one.name)) for one in dataclasses.fields(value)}
