"""Split-conformal p-values and thresholds from the scores of held-out normal items."""

import math
from fractions import Fraction

import numpy as np

from elbound.errors import ConfigError

QUANTUM_BITS = 14
"""Scores are ranked on a grid of 2^-14 (6e-5) of their own size, or of the spread near zero."""


def quantise(scores: np.ndarray, spread: float) -> np.ndarray:
    """Round to `QUANTUM_BITS` binary digits, with `spread` as the smallest size that counts.

    The same item's score differs in its last bits between batch shapes; rounding both sides makes ranks
    robust to that. Monotone, so that no order is reversed. Infinity stays.
    """
    scores = np.asarray(scores, dtype=np.float64)
    least = math.frexp(spread)[1] if spread > 0 and math.isfinite(spread) else -1000
    with np.errstate(invalid="ignore", over="ignore"):
        exponent = np.maximum(np.frexp(scores)[1], least) - QUANTUM_BITS
        return np.where(np.isfinite(scores), np.ldexp(np.rint(np.ldexp(scores, -exponent)), exponent), scores)


def check_alpha(alpha: float) -> float:
    """`alpha` itself; raises ConfigError unless 0 < alpha < 1."""
    if not (isinstance(alpha, float | int | np.floating) and 0 < alpha < 1):
        raise ConfigError(f"alpha must be a rate between 0 and 1, both excluded. Got {alpha!r} instead", where="alpha")
    return alpha


class ConformalCalibrator:
    """Ranks scores among the `n` scores of the calibration items.

    p = (1 + #{calibration score >= score}) / (n + 1) is uniform or larger for a new normal item that is
    exchangeable with them: P(p <= alpha) <= alpha, and equal to floor(alpha (n + 1)) / (n + 1) without ties.
    Given the calibration set, the realised rate is Beta(k, n + 1 - k). Vovk, Gammerman and Shafer,
    Algorithmic Learning in a Random World, 2005; Vovk, Conditional validity of inductive conformal
    predictors, 2012. `spread` (of scores that are not the calibration's own) sets the grid of `quantise`.
    """

    def __init__(self, calibration_scores: np.ndarray, *, spread: float) -> None:
        self.spread = spread
        self.sorted_scores = np.sort(self.on_grid(calibration_scores))
        self.n = len(self.sorted_scores)
        self.median = float(np.median(self.sorted_scores))

    @property
    def smallest_alpha(self) -> float:
        """The smallest alpha at which anything can be an anomaly."""
        return 1 / (self.n + 1)

    def on_grid(self, scores: np.ndarray) -> np.ndarray:
        """Scores as they are ranked, `(m,)`: see `quantise`."""
        return quantise(scores, self.spread)

    def count_at_least(self, scores: np.ndarray) -> np.ndarray:
        """#{calibration score >= score} for each score, `(m,)` integers."""
        return self.n - np.searchsorted(self.sorted_scores, self.on_grid(scores), side="left")

    def p_values(self, scores: np.ndarray) -> np.ndarray:
        """`(m,)` in [1 / (n + 1), 1]; a score that is not a number is as anomalous as can be."""
        scores = np.where(np.isnan(scores), np.inf, scores)
        return (1 + self.count_at_least(scores)) / (self.n + 1)

    def rank(self, alpha: float) -> int:
        """k = floor(alpha (n + 1)), exactly, for alpha as it is written in decimal."""
        return math.floor(Fraction(repr(float(alpha))) * (self.n + 1))

    def threshold(self, alpha: float) -> float | None:
        """The k-th largest calibration score, or None where alpha does not resolve (k = 0).

        `score > threshold` exactly when `p_value <= alpha`.
        """
        k = self.rank(alpha)
        return float(self.sorted_scores[-k]) if k else None

    def is_anomaly(self, scores: np.ndarray, alpha: float) -> np.ndarray:
        """`p_value <= alpha`, compared as whole counts, `(m,)` bool."""
        scores = np.where(np.isnan(scores), np.inf, scores)
        return self.count_at_least(scores) + 1 <= self.rank(alpha)

    def severity(self, scores: np.ndarray, alpha: float) -> np.ndarray | None:
        """(score - median of normals) / (threshold - median): above 1 exactly for anomalies.

        None where the threshold is null or not above the median. Shape `(m,)`.
        """
        threshold = self.threshold(alpha)
        if threshold is None or threshold <= self.median:
            return None
        severity: np.ndarray = (self.on_grid(scores) - self.median) / (threshold - self.median)
        return severity


def spread_of(scores: np.ndarray) -> float:
    """The interquartile range of finite scores: the size below which differences of rank are noise."""
    finite = scores[np.isfinite(scores)]
    if len(finite) == 0:
        return 0.0
    low, high = np.quantile(finite, [0.25, 0.75])
    return float(high - low)
