"""How well a detector separates, and whether its false-alarm rate holds. Needs the extra `train`."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from elbound.calibration.conformal import ConformalCalibrator


@dataclass(frozen=True)
class RealisedRate:
    """`alarms` among `items` fresh normals, and the central interval that a kept promise allows.

    The interval is of counts: beta-binomial with Beta(k, n + 1 - k), since the rate that a calibration set
    realises is itself drawn from that law (Vovk 2012).
    """

    alarms: int
    items: int
    low: int
    high: int

    @property
    def rate(self) -> float:
        return self.alarms / self.items

    @property
    def as_promised(self) -> bool:
        return self.low <= self.alarms <= self.high


def auroc(normal: np.ndarray, anomalous: np.ndarray) -> float:
    """Probability that an anomaly scores above a normal item (ties count half)."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(*_labelled(normal, anomalous)))


def average_precision(normal: np.ndarray, anomalous: np.ndarray) -> float:
    """Area under precision and recall as a step function; the anomalies are the positives."""
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(*_labelled(normal, anomalous)))


def realised_rate(
    calibrator: ConformalCalibrator, normal: np.ndarray, alpha: float, *, confidence: float = 0.95
) -> RealisedRate:
    """Alarms among scores of normals that neither trained nor calibrated."""
    from scipy.stats import betabinom

    alarms = int(calibrator.is_anomaly(normal, alpha).sum())
    k = calibrator.rank(alpha)
    if k == 0:
        return RealisedRate(alarms, len(normal), 0, 0)
    law = betabinom(len(normal), k, calibrator.n + 1 - k)
    tail = (1 - confidence) / 2
    return RealisedRate(alarms, len(normal), int(law.ppf(tail)), int(law.ppf(1 - tail)))


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


def _labelled(normal: np.ndarray, anomalous: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    labels = np.r_[np.zeros(len(normal), dtype=int), np.ones(len(anomalous), dtype=int)]
    return labels, np.nan_to_num(np.r_[normal, anomalous], nan=np.inf, posinf=np.finfo(np.float64).max)
