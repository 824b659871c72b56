"""The verdict's rule: from several scores to one number that is calibrated in its turn."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

from elbound.calibration.image_fusion import JointSurprise
from elbound.calibration.tails import TailSurprise, TailSurprises

Groups = tuple[tuple[str, ...], ...]


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


class FusedSurprise:
    """The sum of the tail surprises within a group of scores, the maximum over groups, in nats.

    A group is what one view of the item says. Its scores are added, as Fisher's method adds -log p (Statistical
    Methods for Research Workers, 1925); they depend on each other, so the sum is no p-value of its own and is
    calibrated like any score. Views are alternatives: an anomaly that one of them shows need not be seen by the
    others, so the loudest decides.
    """

    name = "fused"

    def __init__(self, groups: Groups, reference: Mapping[str, np.ndarray]) -> None:
        self.groups = groups
        self.names = tuple(dict.fromkeys(name for group in groups for name in group))
        self.tails = TailSurprises([TailSurprise(reference[name]) for name in self.names])
        self.places = [np.array([self.names.index(name) for name in group]) for group in groups]

    def combine(self, scores: Mapping[str, np.ndarray]) -> np.ndarray:
        loudest: np.ndarray = self._by_group(self._surprises(scores)).max(0)
        return loudest

    def fired(self, scores: Mapping[str, np.ndarray]) -> list[str]:
        surprises = self._surprises(scores)
        winner = self._by_group(surprises).argmax(0)
        names: Sequence[Sequence[str]] = [
            [group[place] for place in surprises[places].argmax(0)]
            for group, places in zip(self.groups, self.places, strict=True)
        ]
        return [names[group][item] for item, group in enumerate(winner)]

    def _surprises(self, scores: Mapping[str, np.ndarray]) -> np.ndarray:
        """`(scores, n)` in the order of `names`."""
        return self.tails(np.array([scores[name] for name in self.names]))

    def _by_group(self, surprises: np.ndarray) -> np.ndarray:
        return np.array([surprises[places].sum(0) for places in self.places])


RULES: dict[str, Callable[[Groups, Mapping[str, np.ndarray]], VerdictRule]] = {
    FusedSurprise.name: FusedSurprise,
    JointSurprise.name: JointSurprise,
}


def build_rule(rule: str, groups: Groups, reference: Mapping[str, np.ndarray]) -> VerdictRule:
    """The rule called `rule` fitted on `reference`, the validation items' scores; or one score by its name.

    Raises KeyError where neither a rule nor a score has that name.
    """
    if rule in RULES:
        return RULES[rule](groups, reference)
    reference[rule]
    return SingleScore(rule)
