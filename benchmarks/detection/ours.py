"""The detector as a user gets it: no argument but the seed, and where a line says so one named profile or mode."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.detection.task import Task
from elbound import VAEDetector
from elbound.calibration.fusion import FusedSurprise
from elbound.evaluation import auroc
from elbound.explain.heat import heat_maps
from elbound.scorer import Scorer

VERDICT = "verdict"
"""The name of the fused score beside the names of the scores."""

BOTH_ELBOS = "negative_elbo of all views"
"""The louder of the views' −ELBO alone, by the same tails as the verdict's."""

OURS: dict[str, dict[str, Any]] = {
    "elbound": {},
    "elbound fast": {"profile": "fast"},
    "elbound pixels": {"mode": "pixels"},
    "elbound features": {"mode": "features"},
}


@dataclass
class Ours:
    """One fitted detector of `OURS`."""

    name: str
    scorer: Scorer = field(init=False)

    def fit(self, task: Task, seed: int) -> None:
        detector = VAEDetector(random_state=seed, **OURS[self.name])
        self.scorer = detector.fit(task.train, groups=task.groups).scorer_

    def scores(self, items: np.ndarray) -> dict[str, np.ndarray]:
        """The verdict's score, then every score by its name, then the ELBO of both views where there are two."""
        scored = self.scorer.score_tensor(self.scorer.to_tensor(items).only())
        found = {VERDICT: scored.score, **scored.scores}
        elbos = [name for name in scored.scores if name.endswith("negative_elbo")]
        if len(elbos) > 1:
            calibration = self.scorer.calibration
            reference = dict(zip(calibration.names, calibration.reference_scores.T, strict=True))
            found[BOTH_ELBOS] = FusedSurprise(tuple((name,) for name in elbos), reference).combine(scored.scores)
        return found


def pixel_auroc(scorer: Scorer, task: Task) -> dict[str, float]:
    """How well the map tells altered pixels from the others of the same images, pooled."""
    found = {}
    for name, masks in task.masks.items():
        maps = heat_maps(scorer, scorer.to_tensor(task.odd[name]).only()).astype(np.float64)
        found[name] = auroc(maps[~masks], maps[masks])
    return found
