"""Why an item is odd and what would be normal instead: computed through the queue, behind all who did not ask."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

import numpy as np
from torch import Tensor

from elbound.calibration.calibration import POOLED
from elbound.explain import (
    FiredReasons,
    ImageShares,
    RowShares,
    explain_fired,
    explain_images,
    explain_rows,
)
from elbound.explain.counterfactual import Counterfactual, NearestNormal
from elbound.scorer import Scorer
from service.queue.batcher import Batcher
from service.queue.jobs import Rows
from service.scoring.explained import Explained, Slice
from service.scoring.score import Answer
from service.scoring.terms import Wanted
from service.settings import Settings

SLICE_ITEMS = 16
"""The device explains at most so many items at once: nobody else waits for more."""

R = TypeVar("R", bound=Rows)
T = TypeVar("T")


@dataclass(frozen=True)
class ShareRun:
    """What the device runs; two of the same model are equal, so that their jobs join."""

    scorer: Scorer

    def __call__(self, x: Tensor) -> RowShares | ImageShares:
        return explain_rows(self.scorer, x) if self.scorer.image is None else explain_images(self.scorer, x)


@dataclass(frozen=True)
class Whole(Generic[T]):
    """What belongs to one caller as it is."""

    value: T

    def part(self, start: int, stop: int) -> "Whole[T]":  # noqa: ARG002
        return self


@dataclass(frozen=True, eq=False)
class OwnRun(Generic[T]):
    """Work of one caller, which joins no other."""

    work: Callable[[Tensor], T]

    def __call__(self, x: Tensor) -> Whole[T]:
        return Whole(self.work(x))


class Explaining:
    """The work for one answer, slice by slice and step by step in the bulk lane until `deadline`."""

    def __init__(self, answer: Answer, batcher: Batcher, *, deadline: float) -> None:
        self.answer = answer
        self.scorer = answer.scorer
        self.batcher = batcher
        self.deadline = deadline

    async def explain(self, wanted: Wanted, settings: Settings) -> Explained:
        """What is wanted. Raises Overloaded, DeadlineExceeded."""
        explained = Explained(wanted, settings.max_counterfactual_items)
        if wanted.explain:
            for start in range(0, len(self.answer.scored), SLICE_ITEMS):
                explained.slices.append(await self._slice(start, settings.nearest_items))
        if wanted.counterfactual:
            for place in self._oddest()[: settings.max_counterfactual_items]:
                explained.nearest[place] = await self._nearest_normal(place)
        return explained

    async def _slice(self, start: int, nearest_items: int) -> Slice:
        own = slice(start, start + SLICE_ITEMS)
        x, names = self.answer.items.x[own], self.answer.fired[own]
        shares = await self._submit(ShareRun(self.scorer), x)
        fired: Sequence[FiredReasons | None] = [None] * len(x)
        if any(names):
            fired = await self._alone(x, lambda x: explain_fired(self.scorer, x, names, nearest_items=nearest_items))
        return Slice(x, shares, fired)

    def _oddest(self) -> list[int]:
        """The places of the anomalies by rising p-value, then by falling score."""
        scored, odd = self.answer.scored, np.flatnonzero(self.answer.is_anomaly)
        places: list[int] = odd[np.lexsort((-scored.score[odd], scored.p_value[odd]))].tolist()
        return places

    async def _nearest_normal(self, place: int) -> Counterfactual:
        scorer, answer = self.scorer, self.answer
        groups, number = scorer.calibration.item_groups, int(answer.scored.group[place])
        begin = partial(
            NearestNormal,
            scorer,
            alpha=answer.terms.alpha,
            guarantee=answer.terms.guarantee,
            group=None if groups is None or number == POOLED else groups.names[number],
        )
        row = answer.items.x[place : place + 1]
        search = await self._alone(row, begin)
        while not search.done:
            await self._alone(row, lambda _: search.step())
        return await self._alone(row, lambda _: search.result())

    async def _alone(self, rows: Tensor, work: Callable[[Tensor], T]) -> T:
        return (await self._submit(OwnRun(work), rows)).value

    async def _submit(self, run: Callable[[Tensor], R], rows: Tensor) -> R:
        return await self.batcher.submit(run, rows, lane="bulk", deadline=self.deadline, batch_rows=SLICE_ITEMS)
