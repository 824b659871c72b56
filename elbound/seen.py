"""Whether items are those that a model was trained on, told by their scores: a bundle keeps no training file.

A bundle holds the raw scores of what training held out: the validation part, the calibration part unless it was
replaced since, and the golden rows. An item that scores the same on every score is taken for the same item, in
whatever format or order it comes.
"""

from typing import TYPE_CHECKING

import numpy as np

from elbound.calibration.conformal import spread_of
from elbound.scorer import Scorer

if TYPE_CHECKING:
    from scipy.spatial import cKDTree

TOLERANCE = 1e-4
"""Two scores are the same that differ by less than this share of the spread of held-out scores."""
LEAST_MATCHES = 3
RARE_TWINS = 5


def matching_items(scorer: Scorer, scores: np.ndarray) -> int | None:
    """How many of the items with raw `scores` `(n, scores)` are held-out items of the training; None for fresh items.

    Fresh items can equal old ones where values repeat: such a match has about the chance that a held-out item has a
    twin among the others. The items are those of the training where more of them match than twice that chance, or,
    where too many items have twins, where they are as many as the training had and every held-out item is there.
    """
    from scipy.spatial import cKDTree

    held_out = _held_out_scores(scorer)
    spread = np.array([spread_of(column) or 1.0 for column in held_out.T])
    old, new = (_finite(values / spread) for values in (held_out, scores))
    old_tree = cKDTree(old)
    matches = int(_are_in(old_tree, new).sum())
    twins = len(old) - sum(len(near) == 1 for near in old_tree.query_ball_point(old, TOLERANCE, p=np.inf))
    chance = (2 * twins + RARE_TWINS) / len(old)
    if matches >= LEAST_MATCHES and matches > chance * len(new):
        return matches
    as_many = len(new) == scorer.manifest.training.items
    if as_many and _are_in(cKDTree(new), old).all():
        return matches
    return None


def _held_out_scores(scorer: Scorer) -> np.ndarray:
    """`(m, scores)`, each item once."""
    calibration = scorer.calibration
    if scorer.manifest.calibrated_from is None:
        return np.concatenate([calibration.calibration_scores, calibration.reference_scores])
    return np.concatenate([scorer.raw_scores(scorer.golden), calibration.reference_scores])


def _are_in(tree: "cKDTree", points: np.ndarray) -> np.ndarray:
    """Whether the tree has a point within `TOLERANCE` of each of the `points`, `(n,)` bool."""
    found: np.ndarray = np.isfinite(tree.query(points, p=np.inf, distance_upper_bound=TOLERANCE)[0])
    return found


def _finite(scores: np.ndarray) -> np.ndarray:
    limit = np.finfo(np.float64).max / 4
    finite: np.ndarray = np.nan_to_num(scores, nan=limit, posinf=limit, neginf=-limit)
    return finite
