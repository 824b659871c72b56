"""From a score to how surprising it is among normal items: -log of its tail probability, in nats."""

import math
from collections.abc import Sequence

import numpy as np

TAIL_SHARE = 0.1
TAIL_ITEMS = 5
SMALLEST_EXCESS = 1e-3
STEEPEST = 10.0
"""Nats by which the surprise may rise over the range between median and tail; where all is even it rises by 1.6."""


class TailSurprise:
    """-log P(normal score >= s), a rising function of `s` that has no ceiling.

    Inside, the tail probability is that of the ranks, (1 + #{reference >= s}) / (m + 1), joined by straight
    lines, but nowhere steeper than `STEEPEST` allows: between two reference scores that are all but equal rounding
    would decide. Beyond the top tenth of the reference (at least `tail_items` of its items) ranks end and with them
    the order of clear anomalies, so an exponential tail takes over: the mean excess over the tenth sets its
    scale, as for a generalised Pareto tail of shape zero (Pickands, Statistical inference using extreme order
    statistics, 1975). Scale and range are at least a thousandth of the score's size or of one unit, so that rounding is
    never magnified much.
    """

    def __init__(self, reference: np.ndarray, *, tail_items: int = TAIL_ITEMS) -> None:
        ordered = np.sort(reference[np.isfinite(reference)])
        m = len(ordered)
        if m == 0:
            ordered, m = np.zeros(1), 1
        tail = min(m - 1, max(math.ceil(TAIL_SHARE * m), tail_items))
        self.start = float(ordered[m - tail - 1])
        excess = float((ordered[m - tail :] - self.start).mean()) if tail else 0.0
        smallest = SMALLEST_EXCESS * max(1.0, abs(self.start))
        self.scale = max(excess, smallest)
        spread = max(self.start - float(np.median(ordered)), smallest)
        values = np.unique(ordered[ordered <= self.start])
        at_least = m - np.searchsorted(ordered, values, side="left")
        self.values = values
        self.surprise = _no_steeper(values, -np.log((1 + at_least) / (m + 1)), spread)

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Surprise in nats, `(n,)`; a score that is not a number is as surprising as can be."""
        surprise: np.ndarray = TailSurprises([self])(scores[None])[0]
        return surprise


class TailSurprises:
    """Several tails at once: for one item most of the time goes into calls, not into numbers."""

    def __init__(self, tails: Sequence[TailSurprise]) -> None:
        self.tails = tails
        self.start = np.array([[tail.start] for tail in tails])
        self.scale = np.array([[tail.scale] for tail in tails])
        self.highest = np.array([[tail.surprise[-1]] for tail in tails])

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Surprise in nats of the scores of each tail, both `(tails, n)`."""
        scores = np.where(np.isnan(scores), np.inf, scores)
        inside = [np.interp(row, tail.values, tail.surprise) for row, tail in zip(scores, self.tails, strict=True)]
        beyond = self.highest + (scores - self.start) / self.scale
        surprises: np.ndarray = np.where(scores > self.start, beyond, inside)
        return surprises


def _no_steeper(values: np.ndarray, surprise: np.ndarray, spread: float) -> np.ndarray:
    """The largest function below `surprise` at rising `values` whose slope is at most `STEEPEST` over `spread`."""
    steepest = STEEPEST / spread * (values - values[0])
    least = np.minimum.accumulate(surprise - steepest) + steepest
    rising: np.ndarray = np.maximum.accumulate(least)  # rounding apart, it is that already
    return rising
