"""Split-conformal p-values and thresholds from the scores of held-out normal items."""

import math
from bisect import bisect_left
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from elbound.errors import ConfigError

QUANTUM_BITS = 14
"""Scores are ranked on a grid of 2^-14 (6e-5) of their own size, or of the spread near zero."""


def quantise(scores: np.ndarray, spread: float) -> np.ndarray:
    """Round to `QUANTUM_BITS` binary digits, with `spread` as the smallest size that counts.

    The same item's score differs in its last bits between batch shapes; rounding both sides makes ranks
    robust to that. Monotone, so that no order is reversed. Infinity stays.
    """
    return quantise_above(np.asarray(scores, dtype=np.float64), least_exponent(spread))


def least_exponent(spread: float) -> int:
    """The binary exponent of the smallest size that counts."""
    return math.frexp(spread)[1] if spread > 0 and math.isfinite(spread) else -1000


def quantise_above(scores: np.ndarray, least: int | np.ndarray) -> np.ndarray:
    """`quantise` for scores in float64 with its exponents at least `least`, which may be one for each score."""
    with np.errstate(invalid="ignore", over="ignore"):
        exponent = np.maximum(np.frexp(scores)[1], least) - QUANTUM_BITS
        on_grid: np.ndarray = np.ldexp(np.rint(np.ldexp(scores, -exponent)), exponent)
    return on_grid


def check_alpha(alpha: float) -> float:
    """`alpha` itself; raises ConfigError unless 0 < alpha < 1."""
    if not (isinstance(alpha, float | int | np.floating) and 0 < alpha < 1):
        raise ConfigError(f"alpha must be a rate between 0 and 1, both excluded. Got {alpha!r} instead", where="alpha")
    return alpha


def check_guarantee(guarantee: float) -> float:
    """`guarantee` itself; raises ConfigError unless 0.5 <= guarantee < 1."""
    if not (isinstance(guarantee, float | int | np.floating) and 0.5 <= guarantee < 1):
        raise ConfigError(
            f"guarantee must be a confidence from 0.5 to below 1, as in 0.9. Got {guarantee!r} instead",
            where="guarantee",
        )
    return guarantee


class RateInterval(NamedTuple):
    """Where the realised false-alarm rate lies with `confidence`, given the size of the calibration set alone."""

    low: float
    high: float
    confidence: float


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
        self.least = least_exponent(spread)

    @property
    def smallest_alpha(self) -> float:
        """The smallest alpha at which anything can be an anomaly."""
        return self.alpha_of(1)

    def alpha_of(self, k: int) -> float:
        """The smallest alpha of rank `k` from 1 to n, without a guarantee: k / (n + 1), rounded up to a float."""
        alpha = k / (self.n + 1)
        return alpha if self.rank(alpha) == k else math.nextafter(alpha, 1)

    def smallest_alpha_with(self, guarantee: float | None) -> float:
        """The same where `guarantee` is asked for: 1 - (1 - guarantee)^(1 / n)."""
        if not guarantee:
            return self.smallest_alpha
        alpha = -math.expm1(math.log1p(-guarantee) / self.n)
        step = math.ulp(alpha)
        while not self.rank(alpha, guarantee):  # rounded up, as `alpha_of`
            alpha, step = alpha + step, 2 * step
        return alpha

    def on_grid(self, scores: np.ndarray) -> np.ndarray:
        """Scores as they are ranked, `(m,)`: see `quantise`."""
        return quantise(scores, self.spread)

    def count_at_least(self, scores: np.ndarray) -> np.ndarray:
        """#{calibration score >= score} for each score, `(m,)` integers; one that is not a number is above all."""
        return self.count_on_grid(self.on_grid(scores))

    def count_on_grid(self, on_grid: np.ndarray) -> np.ndarray:
        """The same for scores that are on the grid already."""
        return self.n - self.sorted_scores.searchsorted(on_grid, side="left")  # which sorts NaN behind infinity

    def p_values(self, scores: np.ndarray) -> np.ndarray:
        """`(m,)` in [1 / (n + 1), 1]; a score that is not a number is as anomalous as can be."""
        return self.p_values_of_counts(self.count_at_least(scores))

    def p_values_of_counts(self, counts: np.ndarray) -> np.ndarray:
        """The same for what `count_at_least` found."""
        p_values: np.ndarray = (1 + counts) / (self.n + 1)
        return p_values

    def conditional_p_values(self, scores: np.ndarray, guarantee: float) -> np.ndarray:
        """Calibration-conditional p-values, `(m,)` in (0, 1].

        For any alpha chosen beforehand, with probability `guarantee` over the calibration set, at most alpha of new
        normal items have a value of at most alpha: the `guarantee` quantile of Beta(c + 1, n - c) for c calibration
        scores at least as large, the rate of the threshold that this score just passes. Bates, Candes, Lei, Romano
        and Sesia, Testing for outliers with conformal p-values, 2023 (pointwise, not for all alphas at once).
        """
        return self.conditional_p_values_of_counts(self.count_at_least(scores), guarantee)

    def conditional_p_values_of_counts(self, counts: np.ndarray, guarantee: float) -> np.ndarray:
        """The same for what `count_at_least` found."""
        return _guaranteed_p_values(counts, self.n, guarantee)

    def rank(self, alpha: float, guarantee: float | None = None) -> int:
        """k: a score among or above the k largest is an anomaly.

        floor(alpha (n + 1)), exactly, for alpha as it is written in decimal; with a guarantee the largest k with
        P(Beta(k, n + 1 - k) <= alpha) >= guarantee.
        """
        return rank_among(self.n, alpha, guarantee)

    def threshold(self, alpha: float, guarantee: float | None = None) -> float | None:
        """The k-th largest calibration score, or None where alpha does not resolve (k = 0).

        `score > threshold` exactly when the p-value that decides is at most alpha.
        """
        k = self.rank(alpha, guarantee)
        return float(self.sorted_scores[-k]) if k else None

    def is_anomaly(self, scores: np.ndarray, alpha: float, guarantee: float | None = None) -> np.ndarray:
        """`p_value <= alpha` (with a guarantee: of the conditional p-value), compared as whole counts, `(m,)` bool."""
        return self.are_anomalies(self.count_at_least(scores), alpha, guarantee)

    def are_anomalies(self, counts: np.ndarray, alpha: float, guarantee: float | None = None) -> np.ndarray:
        """The same for what `count_at_least` found."""
        are: np.ndarray = counts + 1 <= self.rank(alpha, guarantee)
        return are

    def severity(self, scores: np.ndarray, alpha: float, guarantee: float | None = None) -> np.ndarray | None:
        """(score - median of normals) / (threshold - median): above 1 exactly for anomalies.

        None where the threshold is null or not above the median. Shape `(m,)`.
        """
        return self.severity_on_grid(self.on_grid(scores), alpha, guarantee)

    def severity_on_grid(self, on_grid: np.ndarray, alpha: float, guarantee: float | None = None) -> np.ndarray | None:
        """The same for scores that are on the grid already."""
        threshold = self.threshold(alpha, guarantee)
        if threshold is None or threshold <= self.median:
            return None
        severity: np.ndarray = (on_grid - self.median) / (threshold - self.median)
        return severity

    def realised_rate(
        self, alpha: float, guarantee: float | None = None, *, confidence: float = 0.95
    ) -> RateInterval | None:
        """The central interval of Beta(k, n + 1 - k), the law of the rate that this calibration set realises.

        It is exact for scores without ties and an upper bound with them. None where alpha does not resolve.
        """
        k = self.rank(alpha, guarantee)
        return _rate_interval(k, self.n, confidence) if k else None


def rank_among(n: int, alpha: float, guarantee: float | None = None) -> int:
    """`ConformalCalibrator.rank` among `n` calibration scores, whatever they are."""
    if guarantee is not None:
        return _guaranteed_rank(n, float(alpha), float(guarantee))
    return _rank(n, float(alpha))


@lru_cache(maxsize=1024)
def _rank(n: int, alpha: float) -> int:
    return math.floor(Fraction(repr(alpha)) * (n + 1))


@lru_cache(maxsize=1024)
def _rate_interval(k: int, n: int, confidence: float) -> RateInterval:
    from scipy.special import betaincinv

    tail = (1 - confidence) / 2
    low, high = betaincinv(k, n + 1 - k, [tail, 1 - tail])
    return RateInterval(float(low), float(high), confidence)


@lru_cache(maxsize=1024)
def _guaranteed_rank(n: int, alpha: float, guarantee: float) -> int:
    from scipy.special import betainc

    return bisect_left(range(1, n + 1), True, key=lambda k: betainc(k, n + 1 - k, alpha) < guarantee)  # falls with k


def _guaranteed_p_values(counts: np.ndarray, n: int, guarantee: float) -> np.ndarray:
    from scipy.special import betaincinv

    inside = np.minimum(counts, n - 1)
    p_values: np.ndarray = np.where(counts < n, betaincinv(inside + 1, n - inside, guarantee), 1.0)
    return p_values


def spread_of(scores: np.ndarray) -> float:
    """The interquartile range of finite scores: the size below which differences of rank are noise."""
    finite = scores[np.isfinite(scores)]
    if len(finite) == 0:
        return 0.0
    low, high = np.quantile(finite, [0.25, 0.75])
    return float(high - low)
