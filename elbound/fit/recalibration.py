"""A new version of a bundle: the same model, ranked against fresh normal items."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from elbound.bundle.manifest import ItemGroups, new_version, now_utc
from elbound.calibration.calibration import Calibration, CalibrationGroups, min_group_items
from elbound.calibration.conformal import check_alpha, check_guarantee
from elbound.data.split import MIN_ITEMS
from elbound.errors import DataError, SchemaError, TooFewItems
from elbound.fit.seen import matching_items
from elbound.scorer import Scorer

STRANGE_DISTANCE, STRANGE_P = 0.5, 0.001


class Difference(NamedTuple):
    """Of fresh and old verdict scores, by the two-sample test of Kolmogorov and Smirnov.

    `distance` is the largest difference of their distribution functions, `p_value` how likely one as large is
    where both come from one law.
    """

    distance: float
    p_value: float

    @property
    def is_certain(self) -> bool:
        return self.p_value < STRANGE_P

    @property
    def is_strange(self) -> bool:
        """Whether the data look nothing like the old: half of the scores lie elsewhere, and not by chance."""
        return self.is_certain and self.distance > STRANGE_DISTANCE


def recalibrated(
    scorer: Scorer,
    scores: np.ndarray,
    *,
    labels: Sequence[str | None] | None = None,
    alpha: float | None = None,
    guarantee: float | None = None,
    trust: bool = False,
) -> tuple[Scorer, Difference]:
    """The same model and verdict rule, calibrated on `scores` `(n, scores)` of fresh normal items.

    `labels` has the calibration group of each where the model has groups. `alpha` and `guarantee` are those of the
    old version unless given. The old scorer stays as it is. Raises TooFewItems, and, unless `trust`, DataError where
    the items are those of the training (`matching_items`) or their scores look nothing like the old ones.
    """
    if scores.ndim != 2 or scores.shape[1] != len(scorer.detector.score_names):
        raise SchemaError(f"expected scores of shape ('n', {len(scorer.detector.score_names)}), but got {scores.shape}")
    if len(scores) < MIN_ITEMS:
        raise TooFewItems(f"{len(scores)} readable items; at least {MIN_ITEMS} normal ones are needed to calibrate")
    if not trust and (matches := matching_items(scorer, scores)) is not None:
        raise DataError(
            f"these are the items that {scorer.name} was trained on, or some of them: {matches:,} of {len(scores):,} "
            "equal an item that its training held out. A model scores what it was trained on too low, so the "
            "false-alarm rate would not hold; give normal items that training never saw. If these are fresh items "
            "that repeat old values, say that you trust them (--trust)",
            code="calibration_seen",
        )
    manifest, old = scorer.manifest, scorer.calibration
    alpha = scorer.alpha if alpha is None else check_alpha(alpha)
    guarantee = scorer.guarantee if guarantee is None else check_guarantee(guarantee)
    groups = None
    if scorer.schema.group_by is not None:
        min_items = min_group_items(alpha, guarantee)
        groups = CalibrationGroups.of(labels or [None] * len(scores), min_items=min_items)
    fresh = Calibration(
        old.names,
        scores,
        old.reference_scores,
        rule=manifest.verdict.rule,
        groups=manifest.verdict.groups,
        item_groups=groups,
    )
    difference = _difference(old, fresh)
    if difference.is_strange and not trust:
        raise DataError(
            f"the data look nothing like what calibrated {scorer.name} before: the verdict scores' distributions are "
            f"{difference.distance:.2f} apart (Kolmogorov-Smirnov; more than {STRANGE_DISTANCE:g} is refused). Are "
            "they normal items of the same kind? If so, train anew, or say that you trust them (--trust)",
            code="calibration_strange",
        )
    created = now_utc()
    manifest = manifest.model_copy(
        update={
            "version": new_version(created),
            "created": created,
            "calibrated_from": manifest.version,
            "verdict": manifest.verdict.model_copy(update={"alpha": alpha, "guarantee": guarantee}),
            "item_groups": None if groups is None else ItemGroups(names=groups.names, min_items=min_items),
            "training": manifest.training.model_copy(update={"calibration": len(scores), "held_out": True}),
        }
    )
    renewed = Scorer(manifest, scorer.detector, fresh, scorer.golden, device=scorer.device, export=scorer.export)
    return renewed, difference


def _difference(old: Calibration, fresh: Calibration) -> Difference:
    from scipy.stats import ks_2samp

    found = ks_2samp(old.verdict.sorted_scores, fresh.verdict.sorted_scores)
    return Difference(float(found.statistic), float(found.pvalue))
