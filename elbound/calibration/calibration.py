"""All that was learned from the calibration part: one calibrator for each score and one for the verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from elbound.calibration.conformal import ConformalCalibrator, spread_of
from elbound.calibration.fusion import Groups, build_rule


@dataclass(frozen=True)
class ScoredItems:
    """Scores of `n` items: raw by name, their p-values by name, the verdict's score and p-value, all `(n,)`."""

    scores: dict[str, np.ndarray]
    p_values: dict[str, np.ndarray]
    score: np.ndarray
    p_value: np.ndarray

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
        )

    def part(self, start: int, stop: int) -> "ScoredItems":
        """The items from `start` to `stop`."""
        return ScoredItems(
            {name: values[start:stop] for name, values in self.scores.items()},
            {name: values[start:stop] for name, values in self.p_values.items()},
            self.score[start:stop],
            self.p_value[start:stop],
        )


class Calibration:
    """Joint scores of the calibration items `(n, scores)` and of the validation items, and what follows.

    `rule` names a rule of `fusion.RULES` or a score; `groups` are the scores that the rule takes together.
    `held_out` is False where the items also trained (tiny data): then no rate is promised.
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
    ) -> None:
        self.names = names
        self.calibration_scores = calibration_scores
        self.reference_scores = reference_scores
        self.held_out = held_out
        reference = dict(zip(names, reference_scores.T, strict=True))
        self.rule = build_rule(rule, groups, reference)
        joint = dict(zip(names, calibration_scores.T, strict=True))
        self.by_score = {name: ConformalCalibrator(joint[name], spread=spread_of(reference[name])) for name in names}
        self.verdict = ConformalCalibrator(self.rule.combine(joint), spread=spread_of(self.rule.combine(reference)))

    @property
    def n(self) -> int:
        return self.verdict.n

    def calibration_verdict(self) -> np.ndarray:
        """The verdict's scores of the calibration items, in their order, `(n,)`."""
        return self.rule.combine(dict(zip(self.names, self.calibration_scores.T, strict=True)))

    def judge(self, scores: Mapping[str, np.ndarray]) -> ScoredItems:
        """p-values for each score and for the verdict."""
        verdict = self.rule.combine(scores)
        return ScoredItems(
            scores=dict(scores),
            p_values={name: self.by_score[name].p_values(scores[name]) for name in self.names},
            score=verdict,
            p_value=self.verdict.p_values(verdict),
        )
