"""All that was learned from the calibration part: one calibrator for each score and one for the verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from elbound.calibration.conformal import ConformalCalibrator, quantise_above, spread_of
from elbound.calibration.fusion import Groups, VerdictRule, build_rule
from elbound.calibration.resolution import needed_items

POOLED = -1
"""The number of no group: an item that is ranked among all calibration items."""

LEAST_GROUP_ITEMS = 20


@dataclass(frozen=True)
class ScoredItems:
    """Scores of `n` items: raw by name, their p-values by name, the verdict's score and p-value, all `(n,)`.

    `group` is the number of the calibration group that ranked each item, `POOLED` for all items together; `on_grid` is
    the verdict's score as it was ranked there, `count` how many calibration scores are at least as large.
    """

    scores: dict[str, np.ndarray]
    p_values: dict[str, np.ndarray]
    score: np.ndarray
    p_value: np.ndarray
    group: np.ndarray
    on_grid: np.ndarray
    count: np.ndarray

    def __len__(self) -> int:
        return len(self.score)

    @classmethod
    def concatenate(cls, parts: "Sequence[ScoredItems]") -> "ScoredItems":
        """The items of `parts`, one after the other; at least one part, all with the same scores."""
        if len(parts) == 1:
            return parts[0]
        names = parts[0].scores
        return cls(
            {name: np.concatenate([part.scores[name] for part in parts]) for name in names},
            {name: np.concatenate([part.p_values[name] for part in parts]) for name in names},
            np.concatenate([part.score for part in parts]),
            np.concatenate([part.p_value for part in parts]),
            np.concatenate([part.group for part in parts]),
            np.concatenate([part.on_grid for part in parts]),
            np.concatenate([part.count for part in parts]),
        )

    def part(self, start: int, stop: int) -> "ScoredItems":
        """The items from `start` to `stop`."""
        return ScoredItems(
            {name: values[start:stop] for name, values in self.scores.items()},
            {name: values[start:stop] for name, values in self.p_values.items()},
            self.score[start:stop],
            self.p_value[start:stop],
            self.group[start:stop],
            self.on_grid[start:stop],
            self.count[start:stop],
        )


@dataclass(frozen=True)
class Decisions:
    """What follows for `n` items from a rate: `(n,)` each; severity is NaN where it is not defined.

    `conditional_p_value` is what decided where a guarantee was asked for.
    """

    is_anomaly: np.ndarray
    severity: np.ndarray
    conditional_p_value: np.ndarray | None = None


@dataclass(frozen=True)
class CalibrationGroups:
    """Groups of calibration items that get thresholds of their own (Mondrian conformal prediction).

    `member` `(n,)` is the number of each calibration item's group in `names`, `POOLED` where it has none. Within a
    group p-values are exact for new items of that group. Vovk, Gammerman and Shafer, Algorithmic Learning in a Random
    World, 2005, chapter 4.
    """

    names: tuple[str, ...]
    member: np.ndarray

    @classmethod
    def of(cls, labels: Sequence[str | None], *, min_items: int) -> "CalibrationGroups":
        """The groups of `labels`, one a calibration item, that have at least `min_items` of them."""
        counts: dict[str, int] = {}
        for label in labels:
            if label is not None:
                counts[label] = counts.get(label, 0) + 1
        names = tuple(sorted(name for name, count in counts.items() if count >= min_items))
        return cls(names, numbers_of(labels, names))


def min_group_items(alpha: float, guarantee: float | None = None) -> int:
    """The fewest calibration items of a group that gets a threshold of its own, at least 20.

    So many that `alpha` resolves: with fewer nothing in the group could ever be an anomaly, so it shares the pooled
    threshold.
    """
    return max(LEAST_GROUP_ITEMS, needed_items(alpha, guarantee))


def numbers_of(labels: Sequence[str | None], names: Sequence[str]) -> np.ndarray:
    """The place of each label in `names`, `(n,)` int64; `POOLED` for any other."""
    places = {name: i for i, name in enumerate(names)}
    return np.array([POOLED if label is None else places.get(label, POOLED) for label in labels], dtype=np.int64)


class Ranking:
    """The calibrators of one set of calibration items, for each score by name and for the verdict."""

    def __init__(self, scores: Mapping[str, np.ndarray], verdict: np.ndarray, spreads: Mapping[str, float]) -> None:
        self.by_score = {name: ConformalCalibrator(values, spread=spreads[name]) for name, values in scores.items()}
        self.verdict = ConformalCalibrator(verdict, spread=spreads[""])
        self.calibrators = (*self.by_score.values(), self.verdict)
        self.least = np.array([[calibrator.least] for calibrator in self.calibrators])

    def rank(self, scores: Mapping[str, np.ndarray], verdict: np.ndarray, group: int) -> ScoredItems:
        """The items of `scores` and of the `verdict`'s score `(n,)`, ranked as the group of that number."""
        on_grid = quantise_above(np.array([*(scores[name] for name in self.by_score), verdict]), self.least)
        counts = np.array([own.count_on_grid(row) for own, row in zip(self.calibrators, on_grid, strict=True)])
        p_values = self.verdict.p_values_of_counts(counts)
        return ScoredItems(
            scores=dict(scores),
            p_values=dict(zip(self.by_score, p_values, strict=False)),
            score=verdict,
            p_value=p_values[-1],
            group=np.full(len(verdict), group),
            on_grid=on_grid[-1],
            count=counts[-1],
        )

    def decide(self, on_grid: np.ndarray, count: np.ndarray, alpha: float, guarantee: float | None) -> Decisions:
        """What follows for items whose verdict's score and count these are, `(n,)` each."""
        verdict = self.verdict
        severity = verdict.severity_on_grid(on_grid, alpha, guarantee)
        return Decisions(
            verdict.are_anomalies(count, alpha, guarantee),
            np.full(len(count), np.nan) if severity is None else severity,
            None if guarantee is None else verdict.conditional_p_values_of_counts(count, guarantee),
        )


class Calibration:
    """Joint scores of the calibration items `(n, scores)` and of the validation items, and what follows.

    `rule` names a rule of `fusion.RULES` or a score; `groups` are the scores that the rule takes together.
    `held_out` is False where the items also trained (tiny data): then no rate is promised. Each of the
    `item_groups` ranks its own items; the verdict's rule is one for all.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        calibration_scores: np.ndarray,
        reference_scores: np.ndarray,
        *,
        rule: str,
        groups: Groups = (),
        held_out: bool = True,
        item_groups: CalibrationGroups | None = None,
    ) -> None:
        self.names = names
        self.calibration_scores = calibration_scores
        self.reference_scores = reference_scores
        self.held_out = held_out
        self.item_groups = item_groups
        reference = dict(zip(names, reference_scores.T, strict=True))
        self.rule: VerdictRule = build_rule(rule, groups, reference)
        joint = dict(zip(names, calibration_scores.T, strict=True))
        verdict = self.rule.combine(joint)
        spreads = {name: spread_of(values) for name, values in reference.items()}
        spreads[""] = spread_of(self.rule.combine(reference))
        self.pooled = Ranking(joint, verdict, spreads)
        self.by_group = [
            Ranking({name: values[own] for name, values in joint.items()}, verdict[own], spreads)
            for own in ([] if item_groups is None else [item_groups.member == i for i in range(len(item_groups.names))])
        ]

    @property
    def by_score(self) -> dict[str, ConformalCalibrator]:
        """The calibrator of each score, over all calibration items."""
        return self.pooled.by_score

    @property
    def verdict(self) -> ConformalCalibrator:
        """The calibrator of the verdict, over all calibration items."""
        return self.pooled.verdict

    @property
    def n(self) -> int:
        return self.verdict.n

    def calibration_verdict(self) -> np.ndarray:
        """The verdict's scores of the calibration items, in their order, `(n,)`."""
        return self.rule.combine(dict(zip(self.names, self.calibration_scores.T, strict=True)))

    def judge(self, scores: Mapping[str, np.ndarray]) -> ScoredItems:
        """p-values for each score and for the verdict, among all calibration items."""
        return self.pooled.rank(scores, self.rule.combine(scores), POOLED)

    def judge_by_group(self, scored: ScoredItems, labels: Sequence[str | None]) -> ScoredItems:
        """The same items, each ranked within its own group where that was large enough to be calibrated."""
        if self.item_groups is None:
            return scored
        group = numbers_of(labels, self.item_groups.names)
        p_values = {name: values.copy() for name, values in scored.p_values.items()}
        p_value, on_grid, count = scored.p_value.copy(), scored.on_grid.copy(), scored.count.copy()
        for number in np.unique(group[group != POOLED]).tolist():
            own = group == number
            scores = {name: values[own] for name, values in scored.scores.items()}
            within = self.by_group[number].rank(scores, scored.score[own], number)
            p_value[own], on_grid[own], count[own] = within.p_value, within.on_grid, within.count
            for name, values in p_values.items():
                values[own] = within.p_values[name]
        return replace(scored, p_values=p_values, p_value=p_value, group=group, on_grid=on_grid, count=count)

    def ranking(self, group: int) -> Ranking:
        """The calibrators of a group by its number, or of all items together."""
        return self.pooled if group == POOLED else self.by_group[group]

    def rate_bound(self, alpha: float, guarantee: float | None = None, *, confidence: float) -> float | None:
        """What the realised rate of false alarms stays below with `confidence`, of whichever group has the highest.

        It follows from how many items calibrate, not from what is scored. None where no rate is promised.
        """
        if not self.held_out:
            return None
        rates = [
            ranking.verdict.realised_rate(alpha, guarantee, confidence=2 * confidence - 1)
            for ranking in (self.pooled, *self.by_group)
        ]
        return max((rate.high for rate in rates if rate is not None), default=None)

    def decide(self, scored: ScoredItems, alpha: float, guarantee: float | None = None) -> Decisions:
        """Which items are anomalies at `alpha`, each by the calibrators that ranked it, and how far they are."""
        if self.item_groups is None:
            return self.pooled.decide(scored.on_grid, scored.count, alpha, guarantee)
        is_anomaly = np.zeros(len(scored), dtype=bool)
        severity = np.full(len(scored), np.nan)
        conditional = np.ones(len(scored)) if guarantee is not None else None
        for number in np.unique(scored.group).tolist():
            own = scored.group == number
            found = self.ranking(number).decide(scored.on_grid[own], scored.count[own], alpha, guarantee)
            is_anomaly[own], severity[own] = found.is_anomaly, found.severity
            if conditional is not None:
                conditional[own] = found.conditional_p_value
        return Decisions(is_anomaly, severity, conditional)
