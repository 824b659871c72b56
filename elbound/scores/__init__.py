"""Scores: numbers that are larger for more anomalous items."""

from elbound.scores.base import Observed, Score
from elbound.scores.density import KL, NegativeELBO, NegativeIWAE, Reconstruction
from elbound.scores.reconstruction import ReconstructionError

SCORES: dict[str, type[Score]] = {
    score.name: score for score in (NegativeELBO, Reconstruction, KL, ReconstructionError, NegativeIWAE)
}

__all__ = ["SCORES", "Observed", "Score"]
