"""An upload that is scored while it arrives, and its answer, which is written once all of it is there."""

import asyncio
import contextlib
import logging
import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from torch import Tensor

from elbound.calibration.calibration import ScoredItems
from elbound.data.items import TensorItems
from elbound.data.memory import asking
from elbound.errors import ElboundError
from service.access.caller import Caller, caller_of, turn_key, unless_left
from service.answers.documents import fixed_header, groups_document, summary_document
from service.answers.held import HeldResults
from service.answers.writers import WRITERS
from service.errors import CallerLeft, DeadlineExceeded, Overloaded
from service.http.body import body_too_large, check_encoding
from service.http.error_answers import BREAK_OFF, ERROR_CODE, forget_frames
from service.monitoring.metrics import STREAMED
from service.score.frame import ScoreFrame
from service.score.request import ScoreRequest
from service.scoring.score import TOLD_ERRORS, Answer, none_scored
from service.uploads.decode import join
from service.uploads.feed import Feed, Unpacked
from service.uploads.pieces import Reader

BACK_OFF_SECONDS = 0.05
ANSWERING = "elbound.answering"
"""In the scope of a request once its streamed answer has begun: no error can be answered any more."""
STREAM_BYTES = 24 << 20
"""What every upload holds: what waits to be read, a piece that is read and one that is scored, held scores."""

logger = logging.getLogger("elbound")


@dataclass
class Tally:
    """What the items come to so far."""

    items: int = 0
    scored: int = 0
    anomalies: int = 0
    errors: int = 0
    groups: set[int] = field(default_factory=set)

    def add(self, answer: Answer) -> None:
        self.items += answer.items.n
        self.scored += len(answer.scored)
        self.anomalies += int(answer.is_anomaly.sum())
        self.errors += len(answer.items.errors)
        self.groups.update(np.unique(answer.scored.group).tolist())


class StreamedScore(Response):
    """The answer to an upload. Until its first byte errors are raised; then they end it."""

    def __init__(self, frame: ScoreFrame, asked: ScoreRequest, headers: Headers) -> None:
        """What the head of a request can be refused for is refused here. Raises UnsupportedMedia, LimitExceeded."""
        super().__init__(media_type=asked.form)
        self.frame = frame
        self.asked = asked
        self.reader = Reader(
            asked.scorer.preprocessor, headers.get("content-type", ""), frame.settings, frame.streams.spool
        )
        self.encoding = headers.get("content-encoding", "").strip().lower()
        announced, max_body_bytes = headers.get("content-length", ""), self.reader.max_body_bytes
        check_encoding(self.encoding)
        if announced.isdigit() and int(announced) > max_body_bytes:
            raise body_too_large(announced, max_body_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises ElboundError, ClientDisconnect where nothing is answered yet."""
        scope[STREAMED] = True
        caller = caller_of(scope)
        with self.frame.streams.admit(caller.key):
            work = Work(self.frame, self.asked, self.reader, self.encoding, caller, scope)
            receiving = asyncio.create_task(work.receive(receive))
            scoring = asyncio.create_task(work.score())
            watching = asyncio.create_task(work.end_with_its_key())
            try:
                await self._answer(work, receiving, scope, send)
            finally:
                work.feed.abort(CallerLeft("the caller left before the answer"))
                tasks = {receiving, scoring, watching}
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
                work.held.close()
                work.holding.close()

    async def _answer(self, work: "Work", receiving: "asyncio.Task[None]", scope: Scope, send: Send) -> None:
        await unless_left(work.held.until_answerable(), receiving)
        if not work.held.scored:
            raise await work.why_nothing()
        await unless_left(work.received.wait(), receiving)
        if refusal := work.caller.refusal:
            raise refusal
        headers = [(b"content-type", self.asked.form.encode())]
        scope[ANSWERING] = True
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        with contextlib.suppress(ClientDisconnect):  # nobody listens any more
            await self._write(work, receiving, scope, send)

    async def _write(self, work: "Work", receiving: "asyncio.Task[None]", scope: Scope, send: Send) -> None:
        """The body of the answer, piece by piece."""
        writer = WRITERS[self.asked.form](fixed_header(self.asked.scorer, self.asked.terms))
        tally = Tally()
        stage = self.frame.metrics.stage
        while not work.caller.refusal and (piece := await unless_left(work.held.take(), receiving)) is not None:
            with stage("postprocess"):
                answer = Answer(self.asked.scorer, *piece, self.asked.terms)
                data = await asyncio.to_thread(writer.items, answer, tally.items)
                tally.add(answer)
            await send({"type": "http.response.body", "body": data, "more_body": True})
        failure = work.caller.refusal or work.failure
        if failure is None:
            data = writer.end(self._summary(tally, work.unseen))
            await send({"type": "http.response.body", "body": data})
            return
        scope[ERROR_CODE] = failure.code
        data = writer.fail(failure)
        await send({"type": "http.response.body", "body": data, "more_body": True})
        scope[BREAK_OFF]()

    def _summary(self, tally: Tally, unseen: Counter[str]) -> dict[str, object]:
        document: dict[str, object] = {
            "summary": summary_document(
                items=tally.items,
                scored=tally.scored,
                anomalies=tally.anomalies,
                errors=tally.errors,
                unseen=unseen,
            )
        }
        if self.asked.scorer.calibration.item_groups is not None:
            document["groups"] = groups_document(self.asked.scorer, self.asked.terms, sorted(tally.groups))
        return document


class Work:
    """One upload: received, read and scored at the same time, each waiting for the other where it must."""

    def __init__(
        self, frame: ScoreFrame, asked: ScoreRequest, reader: Reader, encoding: str, caller: Caller, scope: Scope
    ) -> None:
        """Raises LimitExceeded, MemoryFull where there is no memory for one more."""
        self.holding = frame.budget.hold()
        self.holding.take(STREAM_BYTES)
        self.more_bytes = 0
        """What the piece that is read takes beyond `STREAM_BYTES`."""
        self.key = turn_key(scope)
        self.frame = frame
        self.asked = asked
        self.caller = caller
        self.loop = asyncio.get_running_loop()
        self.feed = Feed(self.loop, max_bytes=reader.max_body_bytes)
        raw = Unpacked(self.feed, max_bytes=reader.max_opened_bytes) if encoding == "gzip" else self.feed
        self.pieces = reader.pieces(raw, self._decode)
        self.held = HeldResults(asked.scorer, frame.streams.spool, max_held_bytes=frame.settings.max_held_bytes)
        self.received = asyncio.Event()
        """Whether all of the body is here, or as much as is read of one that is of no use any more."""
        self.failure: ElboundError | None = None
        self.unseen: Counter[str] = Counter()

    async def receive(self, receive: Receive) -> None:
        """Take in the body, then wait until the caller leaves."""
        settings = self.frame.settings
        dropped, until = 0, math.inf
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body = message.get("body", b"")
            await self.feed.put(body)
            if self.feed.dropping:
                until = min(until, time.monotonic() + settings.drain_timeout_s)
                dropped += len(body)
            if not message.get("more_body", False):
                break
            if dropped > settings.max_drain_bytes or time.monotonic() > until:
                break
        self.feed.end()
        self.received.set()
        while (await receive())["type"] != "http.disconnect":
            await asyncio.sleep(0)

    async def end_with_its_key(self) -> None:
        """Stop reading and scoring once the key is withdrawn, which ends the answer, begun or not."""
        await self.caller.key.withdrawn.wait()
        if refusal := self.caller.refusal:
            self.feed.abort(refusal)
        self.received.set()

    async def score(self) -> None:
        """Score piece after piece; while one is scored, the next is read. What goes wrong is kept in `failure`."""
        timer = None
        if self.asked.due < math.inf:
            late = DeadlineExceeded("the upload took longer than its deadline")
            timer = self.loop.call_later(self.asked.due - time.monotonic(), self.feed.abort, late)
        coming = self._read()
        try:
            while (items := await asyncio.shield(coming)) is not None:
                coming = self._read()
                await self._score_piece(items)
        except ElboundError as error:
            forget_frames(error)
            self.failure = error
        except Exception:
            logger.exception("an upload could not be scored")
            self.failure = ElboundError("the server failed; its log has the reason", code="internal_error")
        finally:
            if timer is not None:
                timer.cancel()
            self.feed.abort(self.failure or CallerLeft("the upload is read"))
            with contextlib.suppress(Exception):
                await asyncio.shield(coming)
            await self.loop.run_in_executor(self.frame.streams.threads, self.pieces.close)
            await self.held.end()

    def _read(self) -> "asyncio.Future[TensorItems | None]":
        return self.loop.run_in_executor(self.frame.streams.threads, self._next)

    def _next(self) -> TensorItems | None:
        started, waited = time.perf_counter(), self.feed.waited_seconds
        self.holding.give(self.more_bytes)
        self.more_bytes = 0
        with asking(self._ask):
            items = next(self.pieces, None)
        seconds = time.perf_counter() - started - (self.feed.waited_seconds - waited)
        self.frame.metrics.stages["decode"].observe(seconds)
        return items

    def _ask(self, size: int) -> None:
        """Hold what a piece takes beyond what every upload has. Raises LimitExceeded, MemoryFull."""
        more = size - STREAM_BYTES - self.more_bytes
        if more > 0:
            self.holding.take(more)
            self.more_bytes += more

    def _decode(
        self,
        task: str,
        *args: object,
        files: tuple[int, ...] = (),
        on_piece: Callable[[memoryview], object] | None = None,
    ) -> Any:
        """Have a task done by a decoder process, from the thread that reads; see `Decoders.run`."""
        before = self.holding.size
        run = self.frame.decoders.run(
            self.asked.scorer.preprocessor,
            task,
            *args,
            key=self.key,
            until=self.frame.until(self.asked.due),
            holding=self.holding,
            files=files,
            on_piece=on_piece,
        )
        try:
            return asyncio.run_coroutine_threadsafe(run, self.loop).result()
        finally:
            self.holding.give(self.holding.size - before)  # a piece has its place in STREAM_BYTES

    async def _score_piece(self, items: TensorItems) -> None:
        scorer, metrics = self.asked.scorer, self.frame.metrics
        if self.asked.query.group is not None:
            items = items.in_group(self.asked.query.group)
        await self.caller.until_solvent(self.asked.due)
        self.caller.charge(items.n)
        await metrics.observe_upload(scorer, items)
        self.unseen += items.unseen
        parts, start = [], 0
        while start < len(items.x):
            parts.append(await self._submit(items.x[start:]))
            start += len(parts[-1])
            self.caller.use(len(parts[-1]))
        self.caller.use_all()
        parts = parts or [scorer.score_tensor(items.x)]
        scored = scorer.within_groups(ScoredItems.concatenate(parts), items)
        await self.frame.follow(scorer, items, scored, scorer.decide(scored), start=self.held.items)
        await self.held.put(items, scored)

    async def _submit(self, rows: Tensor) -> ScoredItems:
        """The first of `rows` through the bulk lane; an upload that is half scored waits where the queue is full."""
        batcher, run = self.frame.batcher, self.asked.scorer.score_tensor
        until = self.frame.until(self.asked.due)
        while True:
            n = batcher.slice_rows(run, "bulk")
            try:
                return await batcher.submit(run, rows[:n], lane="bulk", deadline=until, batch_rows=n)
            except Overloaded:
                if not self.held.scored or time.monotonic() + BACK_OFF_SECONDS > until:
                    raise
            await asyncio.sleep(BACK_OFF_SECONDS)

    async def why_nothing(self) -> ElboundError:
        """The error of an upload of which not one item could be scored."""
        if self.failure is not None:
            return self.failure
        parts: list[TensorItems] = []
        while sum(part.n for part in parts) < TOLD_ERRORS and (piece := await self.held.take()) is not None:
            parts.append(piece[0])
        return none_scored(join(parts), n=self.held.items)
