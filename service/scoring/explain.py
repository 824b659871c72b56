"""Why an item is odd and what would be normal instead: computed through the queue, behind all who did not ask."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, Literal, TypeVar

import numpy as np
from torch import Tensor

from elbound.calibration.calibration import POOLED
from elbound.data.items import TensorItems
from elbound.errors import ConfigError, LimitExceeded
from elbound.explain import (
    FiredReasons,
    ImageShares,
    RowShares,
    explain_fired,
    explain_images,
    explain_rows,
    fired_documents,
    image_documents,
    row_documents,
)
from elbound.explain.counterfactual import Counterfactual, NearestNormal, check_counterfactual
from elbound.scorer import Scorer
from service.queue.batcher import Batcher
from service.queue.jobs import Rows
from service.scoring.score import Answer, Terms
from service.settings import Settings

SLICE_ITEMS = 16
"""The device explains at most so many items at once: nobody else waits for more."""

Document = dict[str, object]
R = TypeVar("R", bound=Rows)
T = TypeVar("T")


@dataclass(frozen=True)
class Wanted:
    """What a request asks for beyond scores; `top` is of the columns of a row, `heatmap` of images."""

    explain: bool
    top: int | None
    heatmap: Literal["png", "npy"] | None
    counterfactual: bool

    def check(self, scorer: Scorer, terms: Terms) -> None:
        """Raise ConfigError where this model has no such thing."""
        if self.top is not None and scorer.image is not None:
            raise ConfigError(f"top is for the columns of a table; {scorer.name} scores images", where="top")
        if self.heatmap is not None and scorer.table is not None:
            raise ConfigError(f"heatmap is for images; {scorer.name} scores rows of a table", where="heatmap")
        if self.counterfactual:
            check_counterfactual(scorer)
            if terms.fdr is not None:
                raise ConfigError(
                    "fdr decides over all items together, so that none has a nearest normal of its own; leave one of "
                    "them out",
                    code="counterfactual_with_fdr",
                    where="counterfactual",
                )


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


@dataclass(frozen=True)
class Slice:
    """Events `(k, *event)` that were explained together: their shares, and what the scores that fired tell of them."""

    x: Tensor
    shares: RowShares | ImageShares
    fired: Sequence[FiredReasons | None]


@dataclass(frozen=True)
class Explained:
    """The readable items in slices, where `explain` was asked for, and nearest normals by place."""

    wanted: Wanted
    max_counterfactual_items: int
    slices: list[Slice] = field(default_factory=list)
    nearest: dict[int, Counterfactual] = field(default_factory=dict)

    def columns(self, scorer: Scorer, m: int) -> dict[str, list[Document | None]]:
        """What is told of each of the `m` readable items; pictures are drawn here, so not for the event loop."""
        columns: dict[str, list[Document | None]] = {}
        if self.wanted.explain:
            columns = {"explanation": [], "fired_explanation": []}
            for one in self.slices:
                columns["explanation"] += self._documents(scorer, one)
                columns["fired_explanation"] += fired_documents(scorer, one.x, one.fired, self.wanted.top)
        if self.wanted.counterfactual:
            nearest = [self.nearest.get(place) for place in range(m)]
            columns["counterfactual"] = [None if found is None else found.document(scorer) for found in nearest]
        return columns

    def _documents(self, scorer: Scorer, one: Slice) -> list[Document]:
        if isinstance(one.shares, RowShares):
            return row_documents(scorer, one.x, one.shares, self.wanted.top)
        return image_documents(scorer, one.x, one.shares, as_npy=self.wanted.heatmap == "npy")

    def searches(self, anomalies: int) -> dict[str, int]:
        """How many of the `anomalies` had their nearest normal looked for, and how many not, by which limit."""
        return {
            "searched": len(self.nearest),
            "left_out": anomalies - len(self.nearest),
            "max_counterfactual_items": self.max_counterfactual_items,
        }


def check_count(items: TensorItems, *, max_explained_items: int) -> None:
    """Raise LimitExceeded where more items were read than one upload may have explained."""
    if len(items.x) > max_explained_items:
        raise LimitExceeded(
            f"{len(items.x):,} items; with explain=true or counterfactual=true at most {max_explained_items:,} are "
            "taken (max_explained_items)",
            where="explain",
        )


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
