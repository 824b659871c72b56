"""The verdict: tail surprises of several scores, and the rules that make one score of them."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

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


Groups = tuple[tuple[str, ...], ...]


class VerdictRule(Protocol):
    """Combines scores of the same items into one; larger is more anomalous.

    A rule is fitted on the validation part alone, so that the calibration part ranks verdicts that it had
    no hand in.
    """

    name: str

    def combine(self, scores: Mapping[str, np.ndarray]) -> np.ndarray:
        """The verdict's score, `(n,)`."""

    def fired(self, scores: Mapping[str, np.ndarray]) -> list[str]:
        """For each item the name of the score that decided."""


class SingleScore:
    """The verdict is one score as it is."""

    def __init__(self, name: str) -> None:
        self.name = name

    def combine(self, scores: Mapping[str, np.ndarray]) -> np.ndarray:
        return scores[self.name]

    def fired(self, scores: Mapping[str, np.ndarray]) -> list[str]:
        return [self.name] * len(scores[self.name])


class FusedSurprise:
    """The sum of the tail surprises within a group of scores, the maximum over groups, in nats.

    A group is what one view of the item says. Its scores are added, as Fisher's method adds -log p (Statistical
    Methods for Research Workers, 1925); they depend on each other, so the sum is no p-value of its own and is
    calibrated like any score. Views are alternatives: an anomaly that one of them shows need not be seen by the
    others, so the loudest decides.
    """

    name = "fused"

    def __init__(self, groups: Groups, reference: Mapping[str, np.ndarray]) -> None:
        self.groups = groups
        self.names = tuple(dict.fromkeys(name for group in groups for name in group))
        self.tails = TailSurprises([TailSurprise(reference[name]) for name in self.names])
        self.places = [np.array([self.names.index(name) for name in group]) for group in groups]

    def combine(self, scores: Mapping[str, np.ndarray]) -> np.ndarray:
        loudest: np.ndarray = self._by_group(self._surprises(scores)).max(0)
        return loudest

    def fired(self, scores: Mapping[str, np.ndarray]) -> list[str]:
        surprises = self._surprises(scores)
        winner = self._by_group(surprises).argmax(0)
        names: Sequence[Sequence[str]] = [
            [group[place] for place in surprises[places].argmax(0)]
            for group, places in zip(self.groups, self.places, strict=True)
        ]
        return [names[group][item] for item, group in enumerate(winner)]

    def _surprises(self, scores: Mapping[str, np.ndarray]) -> np.ndarray:
        """`(scores, n)` in the order of `names`."""
        return self.tails(np.array([scores[name] for name in self.names]))

    def _by_group(self, surprises: np.ndarray) -> np.ndarray:
        return np.array([surprises[places].sum(0) for places in self.places])


RULES: dict[str, Callable[[Groups, Mapping[str, np.ndarray]], VerdictRule]] = {
    FusedSurprise.name: FusedSurprise,
    JointSurprise.name: JointSurprise,
}


def build_rule(rule: str, groups: Groups, reference: Mapping[str, np.ndarray]) -> VerdictRule:
    """The rule called `rule` fitted on `reference`, the validation items' scores; or one score by its name.

    Raises KeyError where neither a rule nor a score has that name.
    """
    if rule in RULES:
        return RULES[rule](groups, reference)
    reference[rule]
    return SingleScore(rule)
