"""From event tensors to scored items: the one function between any transport and the device."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from elbound.calibration.calibration import Decisions, ScoredItems
from elbound.calibration.fdr import Discoveries, discover
from elbound.data.items import TensorItems
from elbound.scorer import Scorer
from service.errors import NoItemScored
from service.queue.batcher import Batcher
from service.queue.jobs import Lane, Left
from service.scoring.explained import Explained
from service.scoring.terms import Terms

INTERACTIVE_ROWS = 256
"""Uploads up to this size wait in the interactive lane."""
TOLD_ERRORS = 1_000
"""Items whose errors are listed where not one of an upload could be scored; the others are counted."""


@dataclass(frozen=True)
class Answer:
    """Scored items of one upload, ready to be written; explained where asked for."""

    scorer: Scorer
    items: TensorItems
    scored: ScoredItems
    terms: Terms
    explained: Explained | None = None

    @cached_property
    def decisions(self) -> Decisions:
        """At alpha, item by item."""
        return self.scorer.calibration.decide(self.scored, self.terms.alpha, self.terms.guarantee)

    @cached_property
    def discoveries(self) -> Discoveries | None:
        """Of the upload as a whole, where `fdr` asks for it."""
        fdr = self.terms.fdr
        return None if fdr is None else discover(self.scorer.calibration.verdict, self.scored.score, fdr)

    @property
    def is_anomaly(self) -> np.ndarray:
        """The decision that counts, `(m,)`."""
        return self.decisions.is_anomaly if self.discoveries is None else self.discoveries.is_discovery

    @cached_property
    def fired(self) -> list[str | None]:
        """The name of the score that decided for each anomaly, None for normal items."""
        is_anomaly = self.is_anomaly.tolist()
        if not any(is_anomaly):
            return [None] * len(is_anomaly)
        loudest = self.scorer.calibration.rule.fired(self.scored.scores)
        return [name if odd else None for name, odd in zip(loudest, is_anomaly, strict=True)]

    @property
    def own_decisions(self) -> Decisions:
        """At the bundle's own alpha and guarantee."""
        if (self.terms.alpha, self.terms.guarantee) == (self.scorer.alpha, self.scorer.guarantee):
            return self.decisions
        return self.scorer.decide(self.scored)


async def score_items(
    scorer: Scorer,
    items: TensorItems,
    batcher: Batcher,
    *,
    terms: Terms,
    deadline: float,
    left: Left | None = None,
    on_scored: Callable[[int], None] = lambda _: None,
) -> Answer:
    """Score through the queue, large uploads slice by slice so that nobody waits behind all of one.

    `deadline` is on the monotonic clock; `left` ends when the caller has left; `on_scored` is called with the number of
    items of each slice that was scored. Raises Overloaded, DeadlineExceeded, CallerLeft, NoItemScored.
    """
    m = items.x.shape[0]
    if m == 0:
        raise none_scored(items, n=items.n)
    run, parts, start = scorer.score_tensor, [], 0
    lane: Lane = "interactive" if m <= INTERACTIVE_ROWS else "bulk"
    while start < m:
        rows = batcher.slice_rows(run, lane)
        part = items.x[start : start + rows]
        parts.append(await batcher.submit(run, part, lane=lane, deadline=deadline, batch_rows=rows, left=left))
        on_scored(len(part))
        start += rows
    scored = ScoredItems.concatenate(parts)
    if m > INTERACTIVE_ROWS and items.groups is not None:
        scored = await asyncio.to_thread(scorer.within_groups, scored, items)
    else:
        scored = scorer.within_groups(scored, items)
    return Answer(scorer, items, scored, terms)


def none_scored(items: TensorItems, *, n: int) -> NoItemScored:
    """The error of an upload of `n` items, of which these `items` tell why: the first `TOLD_ERRORS` are listed."""
    if not items.errors:
        return NoItemScored("the upload holds no items", where="body", items=[])
    told = sorted(items.errors)[:TOLD_ERRORS]
    first = items.errors[told[0]]
    documents: list[dict[str, object]] = [
        {"index": i, "name": items.names[i] if items.names else None, "error": item_error(items, i)} for i in told
    ]
    more = f"; the errors of {n - len(told):,} more are not listed" if n > len(told) else ""
    return NoItemScored(
        f"none of {n:,} items could be scored; the first: {first.message}{more}", where=first.where, items=documents
    )


def item_error(items: TensorItems, i: int) -> dict[str, object] | None:
    """The error of the item at place `i` of the upload, as it is told."""
    error = items.errors.get(i)
    return None if error is None else {"code": error.code, "message": error.message, "where": error.where}
