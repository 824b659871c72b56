"""The queue in front of the device: bounded, without a timer, one worker thread.

Whatever waits when the device is free becomes the next batch. Jobs with the same `run` are joined; each gets its
own rows back, sliced by the offsets at which they were joined, before the caller's future completes. No HTTP here
and no torch.nn.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeVar

import torch
from torch import Tensor

from service.errors import DeadlineExceeded, Overloaded

Lane = Literal["interactive", "bulk"]

BULK_SHARE = 4
"""While both lanes wait, every fourth batch is bulk, and never two in a row."""


class Rows(Protocol):
    """What a run answers: something for each row, which can be parted."""

    def part(self, start: int, stop: int) -> "Rows":
        """The answer for the rows from `start` to `stop`."""


Run = Callable[[Tensor], Rows]
R = TypeVar("R", bound=Rows)


@dataclass(eq=False)
class Job:
    """Rows of one caller for one `run`, joined up to `batch_rows`; `deadline` is on the monotonic clock, in seconds."""

    run: Run
    x: Tensor
    lane: Lane
    deadline: float
    batch_rows: int
    future: "asyncio.Future[Rows]"
    loop: asyncio.AbstractEventLoop
    queued: float = field(default_factory=time.monotonic)

    @property
    def size(self) -> int:
        return self.x.nbytes


@dataclass(frozen=True)
class BatchRecord:
    """What metrics want of a batch: rows, and seconds that each job waited and that the device took."""

    rows: int
    waits: Sequence[float]
    seconds: float


class Batcher:
    """One device worker for all models of the process."""

    def __init__(
        self,
        *,
        max_queue_rows: int,
        max_queue_bytes: int,
        batch_rows: int,
        on_batch: Callable[[BatchRecord], None] = lambda _: None,
    ) -> None:
        self.max_queue_rows = max_queue_rows
        self.max_queue_bytes = max_queue_bytes
        self.batch_rows = batch_rows
        self.on_batch = on_batch
        self.lanes: dict[Lane, deque[Job]] = {"interactive": deque(), "bulk": deque()}
        self.waiting_rows = 0
        self.waiting_bytes = 0
        self.turn = 0
        self.changed = threading.Condition()
        self.stopping = False
        self.worker = threading.Thread(target=self._work, name="elbound-device", daemon=True)

    def start(self) -> None:
        self.worker.start()

    def stop(self) -> None:
        """Finish what waits, then end the worker."""
        with self.changed:
            self.stopping = True
            self.changed.notify()
        self.worker.join()

    @property
    def alive(self) -> bool:
        return self.worker.is_alive()

    async def submit(
        self, run: Callable[[Tensor], R], x: Tensor, *, lane: Lane, deadline: float, batch_rows: int | None = None
    ) -> R:
        """What `run` answers for the rows of `x`, joined with others to at most `batch_rows`.

        By default that is the batcher's own limit. Raises Overloaded at once, DeadlineExceeded, or what `run` raises.
        """
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        job = Job(run, x, lane, deadline, batch_rows or self.batch_rows, future, loop)
        with self.changed:
            rows, size = self.waiting_rows + len(x), self.waiting_bytes + job.size
            if self.stopping or (self.waiting_rows and (rows > self.max_queue_rows or size > self.max_queue_bytes)):
                raise Overloaded(f"{self.waiting_rows:,} items wait for the device already; try again shortly")
            self.waiting_rows, self.waiting_bytes = rows, size
            self.lanes[lane].append(job)
            self.changed.notify()
        result: R = await future
        return result

    def _work(self) -> None:
        torch.set_num_threads(1)  # of this thread: large batches are spread over the cores chunk by chunk
        while batch := self._next_batch():
            self._score(batch)

    def _next_batch(self) -> list[Job]:
        """Wait for work; take the oldest job of the lane whose turn it is and what can join it."""
        with self.changed:
            while not (self.lanes["interactive"] or self.lanes["bulk"]):
                if self.stopping:
                    return []
                self.changed.wait()
            lane = self._choose_lane()
            first = lane.popleft()
            batch, rows = [first], len(first.x)
            others: deque[Job] = deque()
            while lane and rows < first.batch_rows:
                job = lane.popleft()
                if job.run == first.run and rows + len(job.x) <= first.batch_rows:
                    batch.append(job)
                    rows += len(job.x)
                else:
                    others.append(job)
            lane.extendleft(reversed(others))
            self.waiting_rows -= rows
            self.waiting_bytes -= sum(job.size for job in batch)
            return batch

    def _choose_lane(self) -> deque[Job]:
        interactive, bulk = self.lanes["interactive"], self.lanes["bulk"]
        if interactive and bulk:
            self.turn = (self.turn + 1) % BULK_SHARE
            return bulk if self.turn == 0 else interactive
        if bulk:
            self.turn = 0  # whoever comes meanwhile waits for this one and for no second
        return interactive or bulk

    def _score(self, batch: list[Job]) -> None:
        """Score what is still wanted; where a joined batch fails, each job is tried once by itself."""
        now = time.monotonic()
        wanted = []
        for job in batch:
            if job.deadline < now:
                self._finish(job, DeadlineExceeded("the request waited longer than its deadline"))
            elif not job.future.cancelled():
                wanted.append(job)
        if not wanted:
            return
        try:
            results = self._run_joined(wanted)
        except Exception as error:
            if len(wanted) == 1:
                self._finish(wanted[0], error)
                return
            for job in wanted:
                self._score([job])
            return
        record = BatchRecord(
            sum(len(job.x) for job in wanted), [now - job.queued for job in wanted], time.monotonic() - now
        )
        for job, result in zip(wanted, results, strict=True):
            self._finish(job, result)
        self.on_batch(record)

    @staticmethod
    def _run_joined(jobs: list[Job]) -> list[Rows]:
        if len(jobs) == 1:
            return [jobs[0].run(jobs[0].x)]
        joined = jobs[0].run(torch.cat([job.x for job in jobs]))
        results, start = [], 0
        for job in jobs:
            results.append(joined.part(start, start + len(job.x)))
            start += len(job.x)
        return results

    @staticmethod
    def _finish(job: Job, outcome: Rows | Exception) -> None:
        def settle() -> None:
            if job.future.done():
                return
            if isinstance(outcome, Exception):
                job.future.set_exception(outcome)
            else:
                job.future.set_result(outcome)

        if not job.loop.is_closed():
            job.loop.call_soon_threadsafe(settle)
