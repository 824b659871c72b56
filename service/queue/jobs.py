"""Jobs that wait for the device, and what a batch of them is expected to cost."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias
from weakref import WeakKeyDictionary

from torch import Tensor

from service.errors import CallerLeft, DeadlineExceeded

Lane = Literal["interactive", "bulk", "idle"]
"""Jobs of the lane `idle` are taken while no other job waits."""

PATIENCE_SECONDS = 0.005
"""Once a job has waited this long, it is watched whether its caller is still there; fast requests are not watched."""
LONGEST_TIMER_SECONDS = 86_400.0


class Rows(Protocol):
    """The answer of a run: one result for each row, which can be cut into parts."""

    def part(self, start: int, stop: int) -> "Rows":
        """The answer for the rows from `start` to `stop`."""


Run: TypeAlias = Callable[[Tensor], Rows]
Left: TypeAlias = Callable[[], Awaitable[None]]
"""Ends when the caller has left."""
Outcome: TypeAlias = "Rows | Exception"


@dataclass(frozen=True)
class BatchRecord:
    """A batch that was scored: its rows, the seconds that each job waited, and the seconds that the device took.

    `contexts` has the result of `current_context` for each job, for tracing.
    """

    rows: int
    waits: Sequence[float]
    seconds: float
    contexts: Sequence[Any] = ()


class Job:
    """Rows of one caller that wait for `run`, in batches of at most `batch_rows`.

    `deadline` is on the monotonic clock, in seconds.
    """

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


SMOOTHING = 1 / 8
SLICE_SECONDS = 0.01
"""What a slice of an upload may keep the device while small requests wait for it."""
MIN_SLICE_ROWS = 64
FORGETTING = 1.02
"""The estimate for a row of an upload is a running minimum that grows by 2 % with each slice: on a busy machine most
slices take longer than they need."""


class Costs:
    """What a batch is expected to cost, learned from every batch that was scored.

    A run that was not scored yet is expected to cost what the caller assumes.
    """

    def __init__(self) -> None:
        self.cpu_seconds: WeakKeyDictionary[object, dict[int, float]] = WeakKeyDictionary()
        """CPU seconds of a batch of small requests, by model and by the power of two that its rows do not exceed."""
        self.row_seconds: WeakKeyDictionary[object, float] = WeakKeyDictionary()
        """Seconds of a row of an upload, by model; on the clock, since that is how long others wait."""

    def expected(self, batch: Sequence[Job], otherwise: float) -> float:
        """CPU seconds of a batch of small requests; of a size not seen yet, twice those of half as many rows."""
        by_size, size = self.cpu_seconds.get(_owner(batch[0].run), {}), _size_of(batch)
        for smaller in range(size, 0, -1):
            known = by_size.get(smaller)
            if known is not None:
                return known * (1 << (size - smaller))
        return otherwise

    def slice_rows(self, run: Run, most: int) -> int:
        """How many rows of an upload to score at once: so many as take `SLICE_SECONDS`, at least `MIN_SLICE_ROWS`."""
        known = self.row_seconds.get(_owner(run))
        return min(most, MIN_SLICE_ROWS if known is None else max(MIN_SLICE_ROWS, int(SLICE_SECONDS / known)))

    def learn(self, batch: Sequence[Job], *, cpu_seconds: float, seconds: float) -> None:
        """Take note of a batch that has been scored."""
        owner = _owner(batch[0].run)
        if batch[0].lane == "interactive":
            size, by_size = _size_of(batch), self.cpu_seconds.setdefault(owner, {})
            known = by_size.get(size, cpu_seconds)
            by_size[size] = known + SMOOTHING * (cpu_seconds - known)
        else:
            found = seconds / sum(job.rows for job in batch)
            self.row_seconds[owner] = min(found, FORGETTING * self.row_seconds.get(owner, found))


def _size_of(batch: Sequence[Job]) -> int:
    """Batches of one run cost about the same with up to the same power of two of rows."""
    return sum(job.rows for job in batch).bit_length()


def _owner(run: Run) -> object:
    """The model of a run, whatever its terms, or the run itself; what is known of it is forgotten with it."""
    return getattr(run, "__self__", None) or getattr(run, "scorer", run)
