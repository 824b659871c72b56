"""The verdict on images: surprises of several questions, some of them asked given another score."""

import math
from collections.abc import Mapping
from typing import Protocol

import numpy as np

from elbound.calibration.tails import TailSurprise

TAIL_ITEMS = 20
"""Sets of images are small: a tail's scale from 5 of 40 items is mostly chance (CIFAR, one class: +0.5)."""
BANDWIDTH = 1.0
FURTHEST = 3.0
RIDGE = 0.05
DEVIATIONS = np.linspace(0, 9, 1801)
SURPRISES = np.array([-math.log(0.5 * math.erfc(z / math.sqrt(2))) for z in DEVIATIONS])


class Term(Protocol):
    """One question to the scores: surprise in nats, `(n,)`; `score` is the name of the score that it is about."""

    score: str

    def __call__(self, scores: Mapping[str, np.ndarray]) -> np.ndarray: ...


class OneSided:
    """`name`: large values surprise."""

    def __init__(self, score: str, reference: Mapping[str, np.ndarray]) -> None:
        self.score = score
        self.tail = TailSurprise(reference[score], tail_items=TAIL_ITEMS)

    def __call__(self, scores: Mapping[str, np.ndarray]) -> np.ndarray:
        return self.tail(scores[self.score])


class TwoSided:
    """`|name|`: the distance from the median of normal items surprises."""

    def __init__(self, score: str, reference: Mapping[str, np.ndarray]) -> None:
        self.score = score
        self.median = float(np.median(reference[score]))
        self.tail = TailSurprise(np.abs(reference[score] - self.median), tail_items=TAIL_ITEMS)

    def __call__(self, scores: Mapping[str, np.ndarray]) -> np.ndarray:
        return self.tail(np.abs(scores[self.score] - self.median))


class Conditional:
    """`name given other`: large values surprise for an item with that value of the other score.

    Both scores are mapped to normal ones by their ranks among normal items; what remains of the first after its
    local-linear regression on the second (a normal kernel of bandwidth 1) surprises. Beyond three standard deviations
    the second score is taken as three: nothing was seen there to regress on. Cleveland, Robust Locally Weighted
    Regression, 1979.
    """

    def __init__(self, score: str, given: str, reference: Mapping[str, np.ndarray]) -> None:
        self.score, self.given = score, given
        self.normal_score, self.normal_given = NormalScore(reference[score]), NormalScore(reference[given])
        self.y = self.normal_score(reference[score])
        self.x = self._covariate(reference)
        self.tail = TailSurprise(self._residual(reference), tail_items=TAIL_ITEMS)

    def __call__(self, scores: Mapping[str, np.ndarray]) -> np.ndarray:
        return self.tail(self._residual(scores))

    def _covariate(self, scores: Mapping[str, np.ndarray]) -> np.ndarray:
        covariate: np.ndarray = np.clip(self.normal_given(scores[self.given]), -FURTHEST, FURTHEST)
        return covariate

    def _residual(self, scores: Mapping[str, np.ndarray]) -> np.ndarray:
        x = self._covariate(scores)
        grid = np.linspace(-FURTHEST, FURTHEST, 121)  # the regression is smooth: n need not meet every reference
        residual: np.ndarray = self.normal_score(scores[self.score]) - np.interp(x, grid, self._regression(grid))
        return residual

    def _regression(self, x: np.ndarray) -> np.ndarray:
        weight = np.exp(-0.5 * ((x[:, None] - self.x) / BANDWIDTH) ** 2)
        weight /= np.maximum(weight.sum(1, keepdims=True), 1e-300)
        x_mean, y_mean = weight @ self.x, weight @ self.y
        deviation = self.x - x_mean[:, None]
        slope = (weight * deviation * (self.y - y_mean[:, None])).sum(1) / ((weight * deviation**2).sum(1) + RIDGE)
        regression: np.ndarray = y_mean + slope * (x - x_mean)
        return regression


class NormalScore:
    """From a score to the standard normal quantile of its rank, with exponential tails on both sides."""

    def __init__(self, reference: np.ndarray) -> None:
        self.above, self.below = TailSurprise(reference), TailSurprise(-reference)

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Standard deviations, `(n,)`; a rising function of the score."""
        scores = np.where(np.isnan(scores), np.inf, scores)
        high, low = self.above(scores), self.below(-scores)
        quantile: np.ndarray = np.where(high >= low, _deviation(high), -_deviation(low))
        return quantile


class JointSurprise:
    """The L2 norm over groups of their surprises, in nats.

    A group asks one question: can the model explain every place, does the image as a whole look like normal ones,
    is its code where theirs are, is it as complex as they are. Its surprise is that of its terms' mean surprise, so
    that groups of one term and of several compare. Which of the questions an anomaly answers is not in the normals,
    so all are asked; a sum would let many small surprises outweigh one clear one, a maximum would throw away
    agreement, and the norm lies between them. A term is the name of a score, `|name|` for both of its sides, or
    `name given other`.
    """

    name = "joint"

    def __init__(self, groups: tuple[tuple[str, ...], ...], reference: Mapping[str, np.ndarray]) -> None:
        self.groups = tuple(tuple(_term(text, reference) for text in group) for group in groups)
        means = [group.mean(0) for group in self._surprises(reference)]
        self.tails = [TailSurprise(mean, tail_items=TAIL_ITEMS) for mean in means]

    def combine(self, scores: Mapping[str, np.ndarray]) -> np.ndarray:
        means = [group.mean(0) for group in self._surprises(scores)]
        surprises = np.stack([tail(mean) for tail, mean in zip(self.tails, means, strict=True)])
        norm: np.ndarray = np.linalg.norm(surprises, axis=0)
        return norm

    def fired(self, scores: Mapping[str, np.ndarray]) -> list[str]:
        names = [term.score for group in self.groups for term in group]
        loudest = np.concatenate(self._surprises(scores)).argmax(0)
        return [names[place] for place in loudest]

    def _surprises(self, scores: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """One array `(terms, n)` for each group."""
        return [np.stack([term(scores) for term in group]) for group in self.groups]


def _term(text: str, reference: Mapping[str, np.ndarray]) -> Term:
    if text.startswith("|"):
        return TwoSided(text.strip("|"), reference)
    score, _, given = text.partition(" given ")
    return Conditional(score, given, reference) if given else OneSided(score, reference)


def _deviation(surprise: np.ndarray) -> np.ndarray:
    """z >= 0 with -log P(Z > z) = `surprise`: by a table up to z = 9, beyond it by the law z^2 / 2 of the tail."""
    inside = np.interp(surprise, SURPRISES, DEVIATIONS)
    beyond = np.sqrt(DEVIATIONS[-1] ** 2 + 2 * np.maximum(surprise - SURPRISES[-1], 0))
    deviation: np.ndarray = np.where(surprise > SURPRISES[-1], beyond, inside)
    return deviation
