"""One thing to measure: normals to train on, normals and anomalies to tell apart."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Job:
    """One line of the record: a method on one seed of one set.

    `limit` is the most test rows of a table, or the most training images, 0 for all.
    """

    part: str
    set: str
    seed: int
    method: str
    limit: int = 0

    @property
    def key(self) -> tuple[str, str, int, str, int]:
        return self.part, self.set, self.seed, self.method, self.limit


@dataclass(frozen=True)
class Task:
    """Rows `(n, d)` or uint8 images `(n, height, width[, channels])`; `odd` by what they are.

    `groups` has one label a training item. `masks` are true where an image of `odd` was altered.
    """

    train: np.ndarray
    normal: np.ndarray
    odd: Mapping[str, np.ndarray]
    groups: list[int] | None = None
    masks: Mapping[str, np.ndarray] = field(default_factory=dict)
    facts: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_table(self) -> bool:
        return self.train.ndim == 2

    @property
    def scored(self) -> int:
        """How many items a method scores."""
        return len(self.normal) + sum(len(items) for items in self.odd.values())
