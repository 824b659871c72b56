"""What every way to score shares: reading, decoding and charging a body, scoring its items, and counting them."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.types import Receive

from elbound.calibration.calibration import Decisions, ScoredItems
from elbound.data.items import TensorItems
from elbound.scorer import Scorer
from service.access.caller import Caller, caller_of, turn_key, unless_left, until_left
from service.http.body import UPLOADED, content_encoding, expand, read_body
from service.memory.budget import Budget, Holding
from service.models.registry import ModelRegistry
from service.models.store.shadow import Shadows
from service.monitoring.drift import DriftMonitor
from service.monitoring.metrics import Metrics
from service.queue.batcher import Batcher
from service.scoring.explain import Explaining
from service.scoring.score import Answer, score_items
from service.scoring.terms import Terms, Wanted
from service.settings import Settings
from service.uploads.decoding.pool import Decoders
from service.uploads.streams import Streams

INLINE_BYTES = 16_384
"""JSON up to this size is parsed on the event loop: a thread costs more than the parsing."""
INLINE_ITEMS = 64
"""An answer of so many items is written on the event loop, for the same reason."""
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class ScoreFrame:
    """The steps around scoring, for `POST /score` and for the Open Inference Protocol."""

    settings: Settings
    registry: ModelRegistry
    metrics: Metrics
    batcher: Batcher
    budget: Budget
    decoders: Decoders
    streams: Streams
    drift: DriftMonitor
    shadows: Shadows

    def until(self, due: float) -> float:
        """A request's own `due` time or the end of `deadline_ms` from now, whichever is earlier; monotonic clock."""
        return min(due, time.monotonic() + self.settings.deadline_ms / 1000)

    async def read(
        self,
        request: Request,
        decode: Callable[[bytes], Awaitable[T]],
        *,
        rows: Callable[[T], int],
        counted_at_once: bool,
        due: float,
        holding: Holding,
        encodings: Collection[str] = UPLOADED,
    ) -> T:
        """Read a body that is held in memory, `decode` it, and charge the caller for its `rows`.

        `counted_at_once` says that the rows are known as soon as the body is here; otherwise a key has one such body
        read at a time. Raises DataError, UnsupportedMedia, LimitExceeded, MemoryFull, DeadlineExceeded,
        QuotaExceeded, Unauthorized.
        """
        caller = caller_of(request.scope)
        async with contextlib.nullcontext() if counted_at_once else caller.counting(self.until(due)):
            body = await read_body(
                request, max_body_bytes=self.settings.max_body_bytes, encodings=encodings, hold=holding.take
            )
            with self.metrics.stage("decode"):
                if encoding := content_encoding(request):
                    max_expanded_bytes = self.settings.max_expanded_bytes
                    body = await asyncio.to_thread(
                        expand, body, encoding, max_expanded_bytes=max_expanded_bytes, hold=holding.take
                    )
                found = await decode(body)
            caller.charge(rows(found), unless_in_debt=counted_at_once)
        return found

    async def decode(
        self, request: Request, scorer: Scorer, task: str, *arguments: object, due: float, holding: Holding
    ) -> Any:
        """Have a decoder process do a task of `service.uploads.decoding.tasks`; raises as `Decoders.run`."""
        return await self.decoders.run(
            scorer.preprocessor,
            task,
            *arguments,
            key=turn_key(request.scope),
            until=self.until(due),
            holding=holding,
        )

    async def score(
        self,
        scorer: Scorer,
        items: TensorItems,
        terms: Terms,
        *,
        due: float,
        caller: Caller,
        receive: Receive,
        wanted: Wanted | None = None,
    ) -> Answer:
        """Score items that were read, explain them where that is asked for, and count them.

        Raises NoItemScored, Overloaded, DeadlineExceeded, ClientDisconnect.
        """
        await self.metrics.observe_upload(scorer, items)
        if not len(items.x):
            caller.use_all()  # each item is answered with its error
        deadline, left = self.until(due), partial(until_left, receive)
        answer = await score_items(
            scorer, items, self.batcher, terms=terms, deadline=deadline, left=left, on_scored=caller.use
        )
        caller.use_all()
        if wanted is not None:
            explaining = Explaining(answer, self.batcher, deadline=deadline).explain(wanted, self.settings)
            leaving = asyncio.ensure_future(until_left(receive))
            try:
                answer = replace(answer, explained=await unless_left(explaining, leaving))
            finally:
                leaving.cancel()
        await self.follow(scorer, items, answer.scored, answer.own_decisions)
        return answer

    async def write(self, items: int, encode: Callable[[], T], *, in_thread: bool = False) -> T:
        """What `encode` makes of an answer of so many items: in a thread where that takes long."""
        with self.metrics.stage("postprocess"):
            if items <= INLINE_ITEMS and not in_thread:
                return encode()
            return await asyncio.to_thread(encode)

    async def count(self, scorer: Scorer, scored: ScoredItems, own: Decisions) -> None:
        """Count scores that are answered, for metrics and drift; `own` are the decisions at the bundle's own rate."""
        self.metrics.observe_scores(scorer, scored, own)
        await self.drift.observe(scorer, scored.score)

    async def follow(
        self, scorer: Scorer, items: TensorItems, scored: ScoredItems, own: Decisions, *, start: int = 0
    ) -> None:
        """Count scores, and let the model's shadow score the same items; the first has place `start` in the upload."""
        await self.count(scorer, scored, own)
        self.shadows.show(scorer, items, scored, own.is_anomaly, start=start)


def announces_few_bytes(request: Request) -> bool:
    """Whether a body is so small that it is parsed on the event loop, by what its headers announce."""
    length = request.headers.get("content-length", "")
    return not content_encoding(request) and length.isdigit() and int(length) <= INLINE_BYTES
