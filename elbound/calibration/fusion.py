"""The verdict's rule: from several scores to one number that is calibrated in its turn."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np


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
