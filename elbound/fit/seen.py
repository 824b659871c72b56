"""Whether items are those that a model was trained on, told by their scores: a bundle keeps no training file.

A bundle holds the raw scores of what training held out: the validation part, the calibration part unless it was
replaced since, and the golden rows. An item that scores the same on every score is taken for the same item, in
whatever format or order it comes.
"""

import numpy as np

from elbound.calibration.conformal import spread_of
from elbound.scorer import Scorer

TOLERANCE, SIZE_SHARE = 1e-4, 0.1
"""Two scores are the same that differ by less than 1e-4 of the held-out scores' spread, or 1e-5 of their size."""
LIMIT = 1e100
"""Larger scores, and what is no number, count as this."""
LEAST_MATCHES = 3
RARE_TWINS = 5
"""Twins that chance may have hidden: among few held-out items none is seen where one item in ten has a twin."""


def matching_items(scorer: Scorer, scores: np.ndarray) -> int | None:
    """How many of the items with raw `scores` `(n, scores)` are held-out items of the training; None for fresh items.

    Fresh items can equal old ones where values repeat: such a match has about the chance that a held-out item has a
    twin among the others. The items are those of the training where more of them match than twice that chance, or,
    where too many items have twins, where they are as many as the training had and every held-out item is there.
    """
    held_out = _held_out_scores(scorer)
    scale = np.array([max(spread_of(column), SIZE_SHARE * abs(np.median(column))) or 1.0 for column in held_out.T])
    with np.errstate(invalid="ignore"):  # infinity by infinity
        old, old_counts = _distinct(held_out / scale)
        new, new_counts = _distinct(scores / scale)
    matches = int(new_counts[_neighbours(old, new, 1)].sum())
    twins = int(old_counts[(old_counts > 1) | _neighbours(old, old, 2)].sum())
    chance = (2 * twins + RARE_TWINS) / len(held_out)
    if matches >= LEAST_MATCHES and matches > chance * len(scores):
        return matches
    as_many = len(scores) == scorer.manifest.training.items
    return matches if as_many and _neighbours(new, old, 1).all() else None


def _held_out_scores(scorer: Scorer) -> np.ndarray:
    """`(m, scores)`, each item once."""
    calibration = scorer.calibration
    if scorer.manifest.calibrated_from is None:
        return np.concatenate([calibration.calibration_scores, calibration.reference_scores])
    return np.concatenate([scorer.raw_scores(scorer.golden), calibration.reference_scores])


def _distinct(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One of each `points` `(n, scores)` that are the same but for rounding, and how many there are, `(m,)`.

    Without this a search among many equal points would be as slow as comparing all with all.
    """
    bounded = np.clip(np.nan_to_num(points, nan=LIMIT), -LIMIT, LIMIT)
    _, first, counts = np.unique(np.rint(bounded / (TOLERANCE / 4)), axis=0, return_index=True, return_counts=True)
    return bounded[first], counts


def _neighbours(among: np.ndarray, points: np.ndarray, k: int) -> np.ndarray:
    """Whether at least `k` of `among` lie within `TOLERANCE` of each of the `points`, `(n,)` bool."""
    from scipy.spatial import cKDTree

    distance = cKDTree(among).query(points, k=[k], p=np.inf, distance_upper_bound=TOLERANCE)[0]
    near: np.ndarray = np.isfinite(distance[:, 0])
    return near
