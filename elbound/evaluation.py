"""How well a detector separates, and whether its false-alarm rate holds. Needs the extra `train`."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from elbound.calibration.conformal import ConformalCalibrator


@dataclass(frozen=True)
class RealisedRate:
    """`alarms` among `items` fresh normals, and the central interval that a kept promise allows.

    The interval is of counts: beta-binomial with Beta(k, n + 1 - k), since the rate that a calibration set
    realises is itself drawn from that law (Vovk 2012).

    `tied` items score exactly the threshold and do not alarm. If ties were broken by a draw, as in a smoothed
    conformal predictor, the count of alarms would follow that law exactly, and would lie between `alarms` and
    `alarms + tied`. So `alarms` is judged from above and `alarms + tied` from below: fewer alarms than asked for,
    where ties explain them, are no broken promise. Vovk, Gammerman and Shafer, Algorithmic Learning in a Random
    World, 2005, section 2.4.
    """

    alarms: int
    items: int
    low: int
    high: int
    tied: int = field(default=0, kw_only=True)

    @property
    def rate(self) -> float:
        return self.alarms / self.items

    @property
    def as_promised(self) -> bool:
        return self.alarms <= self.high and self.low <= self.alarms + self.tied


def auroc(normal: np.ndarray, anomalous: np.ndarray) -> float:
    """Probability that an anomaly scores above a normal item (ties count half)."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(*_labelled(normal, anomalous)))


def average_precision(normal: np.ndarray, anomalous: np.ndarray) -> float:
    """Area under precision and recall as a step function; the anomalies are the positives."""
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(*_labelled(normal, anomalous)))


@dataclass(frozen=True)
class Lead:
    """The AUROC of one detector minus that of another on the same items, and its bootstrap interval."""

    lead: float
    low: float
    high: float


def auroc_lead(
    ours: tuple[np.ndarray, np.ndarray],
    theirs: tuple[np.ndarray, np.ndarray],
    *,
    confidence: float = 0.95,
    rounds: int = 1_000,
    seed: int = 0,
) -> Lead:
    """AUROC of `theirs` minus that of `ours`, each the scores of the same normals `(n,)` and anomalies `(m,)`.

    Paired: a round draws normals and anomalies with replacement, once for both detectors, so that what is hard for
    both cancels. The interval is of percentiles. Efron and Tibshirani, An Introduction to the Bootstrap, 1993.
    """
    draw = np.random.default_rng(seed)
    n, m = len(ours[0]), len(ours[1])
    first, second = _Placements(*ours), _Placements(*theirs)
    found = np.empty(rounds)
    for i in range(rounds):
        normal, anomalous = (np.bincount(draw.integers(0, size, size), minlength=size) for size in (n, m))
        found[i] = second.auroc(normal, anomalous) - first.auroc(normal, anomalous)
    tail = (1 - confidence) / 2
    low, high = np.quantile(found, [tail, 1 - tail])
    once = second.auroc(np.ones(n), np.ones(m)) - first.auroc(np.ones(n), np.ones(m))
    return Lead(float(once), float(low), float(high))


def realised_rate(
    calibrator: ConformalCalibrator,
    normal: np.ndarray,
    alpha: float,
    guarantee: float | None = None,
    *,
    confidence: float = 0.95,
) -> RealisedRate:
    """Alarms among scores of normals that neither trained nor calibrated."""
    alarms = int(calibrator.is_anomaly(normal, alpha, guarantee).sum())
    k = calibrator.rank(alpha, guarantee)
    if k == 0:
        return RealisedRate(alarms, len(normal), 0, 0)
    tied = int((calibrator.on_grid(normal) == calibrator.sorted_scores[-k]).sum())
    return RealisedRate(alarms, len(normal), *allowed_alarms(len(normal), k, calibrator.n, confidence), tied=tied)


@lru_cache(maxsize=1024)
def allowed_alarms(items: int, k: int, n: int, confidence: float) -> tuple[int, int]:
    """The central interval of alarms among `items` normals above the `k`-th largest of `n` calibration scores."""
    from scipy.stats import betabinom

    law = betabinom(items, k, n + 1 - k)
    tail = (1 - confidence) / 2
    return int(law.ppf(tail)), int(law.ppf(1 - tail))


def knn_yardstick(train: np.ndarray, *, neighbour: int = 5) -> Callable[[np.ndarray], np.ndarray]:
    """What a model must beat: distances from items to their `neighbour`-th nearest training item.

    The answer maps rows `(n, d)` to `(n,)`; larger is more anomalous. Rows are standardised by train; NaN counts as
    the mean. Ramaswamy, Rastogi and Shim, Efficient Algorithms for Mining Outliers, 2000.
    """
    from sklearn.neighbors import NearestNeighbors

    mean, spread = np.nanmean(train, 0), np.nanstd(train, 0)

    def standardised(x: np.ndarray) -> np.ndarray:
        scaled: np.ndarray = np.nan_to_num((x - mean) / np.where(spread > 0, spread, 1.0))
        return scaled

    neighbours = NearestNeighbors(n_neighbors=min(neighbour, len(train))).fit(standardised(train))

    def distances(x: np.ndarray) -> np.ndarray:
        furthest: np.ndarray = neighbours.kneighbors(standardised(x))[0][:, -1]
        return furthest

    return distances


class _Placements:
    """Where anomalies lie among normals, found once; the AUROC of weighted items is then a sum."""

    def __init__(self, normal: np.ndarray, anomalous: np.ndarray) -> None:
        self.order = np.argsort(np.nan_to_num(normal, nan=np.inf), kind="stable")
        ranked, placed = np.nan_to_num(normal, nan=np.inf)[self.order], np.nan_to_num(anomalous, nan=np.inf)
        self.below, self.up_to = (np.searchsorted(ranked, placed, side) for side in ("left", "right"))

    def auroc(self, normal_weight: np.ndarray, anomalous_weight: np.ndarray) -> float:
        """Ties count half; weights `(n,)` and `(m,)`."""
        total = np.concatenate([[0], np.cumsum(normal_weight[self.order])])
        won = 0.5 * (total[self.below] + total[self.up_to])
        return float(won @ anomalous_weight / (total[-1] * anomalous_weight.sum()))


def _labelled(normal: np.ndarray, anomalous: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    labels = np.r_[np.zeros(len(normal), dtype=int), np.ones(len(anomalous), dtype=int)]
    return labels, np.nan_to_num(np.r_[normal, anomalous], nan=np.inf, posinf=np.finfo(np.float64).max)
