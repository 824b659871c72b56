"""What waits for the device: rows of one caller, until when they are wanted, and by whom."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

from torch import Tensor

from service.errors import CallerLeft, DeadlineExceeded

Lane = Literal["interactive", "bulk", "idle"]
"""What is idle has its turn while nobody else waits."""

PATIENCE_SECONDS = 0.005
"""Whether a caller is still there is asked once its job has waited so long: fast requests pay nothing for it."""
LONGEST_TIMER_SECONDS = 86_400.0


class Rows(Protocol):
    """What a run answers: something for each row, which can be parted."""

    def part(self, start: int, stop: int) -> "Rows":
        """The answer for the rows from `start` to `stop`."""


Run: TypeAlias = Callable[[Tensor], Rows]
Left: TypeAlias = Callable[[], Awaitable[None]]
"""Ends when the caller has left."""
Outcome: TypeAlias = "Rows | Exception"


@dataclass(frozen=True)
class BatchRecord:
    """What metrics want of a batch: rows, and seconds that each job waited and that the device took.

    `contexts` are those of `current_context`, one a job, where that is asked for.
    """

    rows: int
    waits: Sequence[float]
    seconds: float
    contexts: Sequence[Any] = ()


class Job:
    """Rows of one caller for one `run`, joined up to `batch_rows`; `deadline` is on the monotonic clock, in seconds."""

    __slots__ = (
        "alone", "batch_rows", "context", "deadline", "future", "lane", "left", "loop", "queued", "rows", "run", "size",
        "timer", "watcher", "x",
    )  # fmt: skip

    def __init__(
        self,
        run: Run,
        x: Tensor,
        lane: Lane,
        deadline: float,
        batch_rows: int,
        loop: asyncio.AbstractEventLoop,
        left: Left | None = None,
    ) -> None:
        self.run = run
        self.x = x
        self.lane = lane
        self.deadline = deadline
        self.batch_rows = batch_rows
        self.loop = loop
        self.left = left
        self.future: asyncio.Future[Any] = loop.create_future()
        self.queued = time.monotonic()
        self.rows: int = x.shape[0]
        self.size = x.nbytes
        self.alone = False
        self.context: object | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.watcher: asyncio.Future[None] | None = None

    def watch_later(self) -> None:
        """Begin to watch deadline and caller when the job has waited `PATIENCE_SECONDS`."""
        self._after(min(PATIENCE_SECONDS, self.deadline - time.monotonic()), self._watch)

    def stop_watching(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
        if self.watcher is not None:
            self.watcher.cancel()

    def settle(self, outcome: Outcome) -> None:
        """Complete the caller's future, in its event loop, unless that is done."""
        if self.future.done():
            return
        if isinstance(outcome, Exception):
            self.future.set_exception(outcome)
        else:
            self.future.set_result(outcome)

    def _after(self, seconds: float, call: Callable[[], None]) -> None:
        if self.timer is not None:
            self.timer.cancel()
        self.timer = self.loop.call_later(min(max(seconds, 0), LONGEST_TIMER_SECONDS), call)

    def _watch(self) -> None:
        if self.future.done():
            return
        self._after(self.deadline - time.monotonic(), self._expire)
        if self.left is not None and self.watcher is None:
            self.watcher = asyncio.ensure_future(self.left())
            self.watcher.add_done_callback(self._leave)

    def _expire(self) -> None:
        self.settle(DeadlineExceeded("the request waited longer than its deadline"))

    def _leave(self, watcher: "asyncio.Future[None]") -> None:
        if not watcher.cancelled() and watcher.exception() is None:
            self.settle(CallerLeft("the caller left before the answer"))


def deliver(outcomes: Sequence[tuple[Job, Outcome]], *, on_loop: bool) -> None:
    """Complete the futures of jobs, each in its own event loop: one wake-up a batch and not one a job."""
    if on_loop:
        _settle(outcomes)
        return
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Job, Outcome]]] = {}
    for job, outcome in outcomes:
        by_loop.setdefault(job.loop, []).append((job, outcome))
    for loop, own in by_loop.items():
        if not loop.is_closed():
            loop.call_soon_threadsafe(_settle, own)


def _settle(outcomes: Sequence[tuple[Job, Outcome]]) -> None:
    for job, outcome in outcomes:
        job.settle(outcome)
