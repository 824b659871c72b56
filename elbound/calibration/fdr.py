"""The false-discovery rate of a whole upload: Benjamini and Hochberg's procedure on conformal p-values."""

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from elbound.calibration.conformal import ConformalCalibrator
from elbound.errors import ConfigError

MOST = 2**53
"""Of `least`: a whole number that every reader of JSON takes as it is."""


def check_level(fdr: float) -> float:
    """`fdr` itself; raises ConfigError unless 0 < fdr < 1."""
    if not (isinstance(fdr, float | int | np.floating) and 0 < fdr < 1):
        raise ConfigError(f"fdr must be a rate between 0 and 1, both excluded. Got {fdr!r} instead", where="fdr")
    return fdr


@dataclass(frozen=True)
class Discoveries:
    """`is_discovery` `(m,)`; `least` is how many items at the smallest possible p-value make the first discovery.

    Where `least` is more than m the level does not resolve: the calibration set is too small for this upload. It stops
    at 2^53.
    """

    is_discovery: np.ndarray
    least: int

    @property
    def resolvable(self) -> bool:
        return self.least <= max(1, len(self.is_discovery))


def discover(calibrator: ConformalCalibrator, scores: np.ndarray, fdr: float) -> Discoveries:
    """The r items of smallest p-value, r the largest with p_(r) <= fdr r / m.

    Of what is called an anomaly, on average at most `fdr` is normal, whatever the number of anomalies in the
    upload: conformal p-values of one calibration set depend on each other positively, which the procedure allows.
    Benjamini and Hochberg, Controlling the false discovery rate, 1995; Bates, Candes, Lei, Romano and Sesia, Testing
    for outliers with conformal p-values, 2023. Counts are compared as whole numbers.
    """
    m, n = len(scores), calibrator.n
    level = Fraction(repr(float(fdr)))
    ranks = 1 + calibrator.count_at_least(np.where(np.isnan(scores), np.inf, scores))  # p = rank / (n + 1)
    numerator, denominator = level.numerator * (n + 1), level.denominator * max(1, m)
    allowed = np.array([numerator * r // denominator for r in range(1, m + 1)], dtype=np.int64)
    passing = np.flatnonzero(np.sort(ranks) <= allowed)
    last = allowed[passing[-1]] if len(passing) else 0
    return Discoveries(ranks <= last, min(math.ceil(Fraction(denominator, numerator)), MOST))
