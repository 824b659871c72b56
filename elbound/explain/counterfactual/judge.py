"""What the model makes of candidates for a nearest normal: its own scores, its own decision."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch import Tensor

from elbound.calibration.conformal import check_alpha, check_guarantee
from elbound.scorer import Scorer


class Judged(NamedTuple):
    """Events `(n, *event)` with what decides on them, `(n,)` each; a larger score is more anomalous."""

    x: Tensor
    score: np.ndarray
    is_normal: np.ndarray
    p_value: np.ndarray
    conditional_p_value: np.ndarray | None

    def best(self) -> int:
        """The place of the lowest score."""
        return int(self.score.argmin())

    def first_normal(self) -> int | None:
        """The place of the first event that is normal, None where there is none."""
        return int(self.is_normal.argmax()) if self.is_normal.any() else None


@dataclass(frozen=True)
class Judge:
    """The decision of `scorer` at `alpha`, with `guarantee` where one is asked for, for items of `group`.

    Raises ConfigError for a rate or a confidence that is none.
    """

    scorer: Scorer
    alpha: float
    guarantee: float | None
    group: str | None

    def __post_init__(self) -> None:
        check_alpha(self.alpha)
        if self.guarantee is not None:
            check_guarantee(self.guarantee)

    def __call__(self, x: Tensor) -> Judged:
        """Events `(n, *event)`, judged in one batch."""
        calibration = self.scorer.calibration
        scored = self.scorer.score_tensor(x)
        if self.group is not None:
            scored = calibration.judge_by_group(scored, [self.group] * len(x))
        decisions = calibration.decide(scored, self.alpha, self.guarantee)
        score = np.where(np.isnan(scored.score), np.inf, scored.score)
        return Judged(x, score, ~decisions.is_anomaly, scored.p_value, decisions.conditional_p_value)
