"""What a search of rows and one of images share: an item on its way from the one seen to a normal one."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from torch import Tensor

from elbound.explain.counterfactual.judge import Judge, Judged


class Progress(NamedTuple):
    """The event `(*event)` that a search stands at after a slice of its work, and whether it was found normal."""

    event: Tensor
    is_normal: bool


class Walk:
    """An event `x` `(*event)` between `seen` and a normal one; every phase is an iterator of slices of work.

    A slice judges at most `batch` candidates.
    """

    def __init__(self, judge: Judge, seen: Tensor, *, batch: int) -> None:
        self.judge = judge
        self.seen = self.x = seen
        self.batch = batch
        self.score = np.inf
        self.found = False

    def look(self) -> Iterator[Progress]:
        """Judge the item as it was seen."""
        yield self.take(self.judge(self.seen[None]), 0)

    def take_back(self, changed: Callable[[], Tensor], *, rounds: int) -> Iterator[Progress]:
        """Take back changes, those first that matter least, while the item stays normal, until each is needed.

        `changed` says what is changed by now, part by part: masks `(parts, *event)`.
        """
        for _ in range(rounds):
            parts = changed()
            if len(parts) < 2:
                return
            without = []
            for some in parts.split(self.batch):
                without.append(self.judge(self.seen.where(some, self.x)))
                yield self.progress()
            needless = np.concatenate([judged.is_normal for judged in without])
            if not needless.any():
                return
            order = np.concatenate([judged.score for judged in without]).argsort(kind="stable")
            growing = parts[order[needless[order]]].cumsum(0) > 0
            judged = self.judge(self.seen.where(growing[growing_counts(len(growing), self.batch) - 1], self.x))
            if not judged.is_normal.any():
                return
            yield self.take(judged, int(judged.is_normal.nonzero()[0][-1]))

    def progress(self) -> Progress:
        return Progress(self.x, self.found)

    def take(self, judged: Judged, place: int) -> Progress:
        """Go on from one of the events that were judged."""
        self.x, self.score = judged.x[place], float(judged.score[place])
        self.found = bool(judged.is_normal[place])
        return self.progress()


def growing_counts(total: int, most: int) -> np.ndarray:
    """Whole numbers from 1 to `total`: all of them, or about `most` that grow by a factor; both ends are among them."""
    if total <= most:
        return np.arange(1, total + 1)
    return np.unique(np.geomspace(1, total, most).round().astype(np.int64))
