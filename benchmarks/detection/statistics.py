"""Intervals: of a mean lead over sets, and of false alarms pooled over independent splits."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.signal import fftconvolve
from scipy.stats import betabinom

RESAMPLES = 10_000


@dataclass(frozen=True)
class Interval:
    """A value and its central 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def holds(self) -> bool:
        return self.low <= self.value <= self.high


@dataclass(frozen=True)
class Alarms:
    """`alarms` among `items` test normals at `alpha`, by a verdict with `calibration` items and rank `k`."""

    alpha: float
    alarms: int
    items: int
    calibration: int
    k: int


def mean_lead(ours: Sequence[float], theirs: Sequence[float], *, confidence: float = 0.95) -> Interval:
    """The mean difference over sets; the interval by 10,000 paired resamples of the sets (percentiles)."""
    lead = np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64)
    drawn = np.random.default_rng(0).integers(0, len(lead), (RESAMPLES, len(lead)))
    tail = (1 - confidence) / 2
    low, high = np.quantile(lead[drawn].mean(axis=1), [tail, 1 - tail])
    return Interval(float(lead.mean()), float(low), float(high))


def pooled_alarms(counts: Sequence[Alarms], *, confidence: float = 0.95) -> Interval:
    """The sum of the counts, and the central interval of the sum of independent beta-binomials.

    Each is of Beta(k, n + 1 - k) for n calibration items (`elbound.evaluation.realised_rate`); the law of
    the sum is their convolution. Seeds of one set may be pooled: given its rows, the splits are independent.
    """
    law = np.ones(1)
    for one in counts:
        pmf = betabinom(one.items, one.k, one.calibration + 1 - one.k).pmf(np.arange(one.items + 1))
        law = np.clip(fftconvolve(law, pmf), 0, None)
    below = np.cumsum(law / law.sum())
    tail = (1 - confidence) / 2
    low, high = np.searchsorted(below, [tail, 1 - tail])
    return Interval(float(sum(one.alarms for one in counts)), float(low), float(high))


def resolved(counts: Sequence[Alarms]) -> list[Alarms]:
    """Those whose calibration resolves their alpha: an alarm is possible at all."""
    return [one for one in counts if one.k >= 1]
