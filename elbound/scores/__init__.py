"""Scores: numbers that are larger for more anomalous items."""

from elbound.scores.appearance import CoarseNeighbours, Dissimilarity, ErrorTop
from elbound.scores.base import Nearest, Observed, Reasons, Score, for_nets
from elbound.scores.complexity import BeyondCode, CodeLength
from elbound.scores.density import KL, NegativeELBO, NegativeIWAE, Reconstruction
from elbound.scores.latent import LatentMahalanobis, LatentNeighbours
from elbound.scores.neighbours import Neighbours
from elbound.scores.patches import (
    DeepDistance,
    DeepNeighbours,
    MeanDistance,
    PatchDistance,
    PatchError,
    PatchResidual,
)
from elbound.scores.reconstruction import ReconstructionError

SCORES: dict[str, type[Score]] = {
    score.name: score
    for score in (
        *(NegativeELBO, Reconstruction, KL, ReconstructionError, NegativeIWAE, Neighbours),
        *(ErrorTop, Dissimilarity, CoarseNeighbours, LatentNeighbours, LatentMahalanobis, CodeLength, BeyondCode),
        *(PatchError, PatchResidual, PatchDistance, MeanDistance, DeepDistance, DeepNeighbours),
    )
}

__all__ = ["SCORES", "Nearest", "Observed", "Reasons", "Score", "for_nets"]
