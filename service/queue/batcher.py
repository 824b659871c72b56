"""The queue in front of the device: bounded, without a timer, one worker thread.

Whatever waits when the device is free becomes the next batch. Jobs with the same `run` are joined; each gets its
own rows back, sliced by the offsets at which they were joined, before the caller's future completes. On a CPU, jobs
submitted in turns of the event loop that follow each other are run there while that is short: the way to the worker and
back costs more.
No HTTP here and no torch.nn.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from service.errors import DeadlineExceeded, DeviceFault, Overloaded
from service.queue.jobs import BatchRecord, Costs, Job, Lane, Left, Outcome, Rows, Run, deliver
from service.queue.niceness import give_way

BULK_SHARE = 4
"""While both lanes wait, every fourth batch is bulk, and never two in a row."""
SHORT_ROWS = 256
SHORT_SECONDS = 0.004
"""What the jobs of one turn may keep the event loop; measured in CPU time, so that a busy machine changes nothing."""
SHORT_JOBS = 64
"""Up to 64 jobs of one turn of the event loop share `SHORT_SECONDS`; the allowance grows in proportion beyond, since
receiving so many has kept the loop for longer anyway."""

R = TypeVar("R", bound=Rows)
logger = logging.getLogger("elbound")


class Batcher:
    """One device worker for all models of the process; `short_on_loop` says that the device is the CPU."""

    def __init__(
        self,
        *,
        max_queue_rows: int,
        max_queue_bytes: int,
        batch_rows: int,
        short_on_loop: bool = False,
        on_batch: Callable[[BatchRecord], None] = lambda _: None,
        on_fault: Callable[[], None] = lambda: None,
        current_context: Callable[[], object] | None = None,
    ) -> None:
        self.max_queue_rows = max_queue_rows
        self.max_queue_bytes = max_queue_bytes
        self.batch_rows = batch_rows
        self.short_on_loop = short_on_loop
        self.on_batch = on_batch
        self.on_fault = on_fault
        self.current_context = current_context
        self.lanes: dict[Lane, deque[Job]] = {"interactive": deque(), "bulk": deque(), "idle": deque()}
        self.waiting_rows = 0
        self.waiting_bytes = 0
        self.turn = 0
        self.arrived: deque[Job] = deque()
        """Jobs that were submitted in this turn of the event loop."""
        self.costs = Costs()
        self.changed = threading.Condition()
        self.stopping = False
        self.faulty = False
        self.worker = threading.Thread(target=self._work, name="elbound-device", daemon=True)

    def start(self) -> None:
        self.worker.start()

    def stop(self) -> None:
        """Finish what waits, then end the worker."""
        arrived, self.arrived = self.arrived, deque()
        self._enqueue([job for job in arrived if not job.loop.is_closed()])
        with self.changed:
            self.stopping = True
            self.changed.notify()
        self.worker.join()

    @property
    def alive(self) -> bool:
        return self.worker.is_alive() and not self.faulty

    def slice_rows(self, run: Run, lane: Lane) -> int:
        """Rows to submit at once: for an upload few enough that small requests do not wait long behind them."""
        return self.batch_rows if lane == "interactive" else self.costs.slice_rows(run, self.batch_rows)

    async def submit(
        self,
        run: Callable[[Tensor], R],
        x: Tensor,
        *,
        lane: Lane,
        deadline: float,
        batch_rows: int | None = None,
        left: Left | None = None,
    ) -> R:
        """Score the rows of `x` by `run`, in one batch with other jobs of the same run, and return its answer for them.

        A batch has at most `batch_rows` rows, by default the batcher's own limit. `deadline` is on the monotonic clock,
        in seconds. `left` returns when the caller has left; it is awaited once the job has waited some milliseconds.
        Raises Overloaded at once where the queue is full, DeadlineExceeded, CallerLeft, or what `run` raises.
        """
        job = Job(run, x, lane, deadline, batch_rows or self.batch_rows, asyncio.get_running_loop(), left)
        if self.current_context is not None:
            job.context = self.current_context()
        self._admit(job)
        if self.short_on_loop and lane == "interactive" and job.rows <= SHORT_ROWS:
            if not self.arrived or self.arrived[-1].loop is not job.loop:
                job.loop.call_soon(self._end_turn, 0)
            self.arrived.append(job)
        else:
            self._enqueue([job])
        try:
            result: R = await job.future
        finally:
            job.stop_watching()
        return result

    def _admit(self, job: Job) -> None:
        with self.changed:
            if self.faulty:
                raise _device_fault()
            rows, size = self.waiting_rows + job.rows, self.waiting_bytes + job.size
            if self.stopping or (self.waiting_rows and (rows > self.max_queue_rows or size > self.max_queue_bytes)):
                raise Overloaded(f"{self.waiting_rows:,} items wait for the device already; try again shortly")
            self.waiting_rows, self.waiting_bytes = rows, size

    def _release(self, jobs: Sequence[Job]) -> None:
        """What waits no longer; `changed` is held."""
        self.waiting_rows -= sum(job.rows for job in jobs)
        self.waiting_bytes -= sum(job.size for job in jobs)

    def _enqueue(self, jobs: Sequence[Job]) -> None:
        """To the worker; called in the event loop, which looks after jobs that wait long."""
        with self.changed:
            if self.faulty:
                self._release(jobs)
                deliver([(job, _device_fault()) for job in jobs], on_loop=True)
                return
            for job in jobs:
                job.watch_later()
                self.lanes[job.lane].append(job)
            self.changed.notify()

    def _end_turn(self, before: int) -> None:
        """Run here what is short, send the rest to the worker; first look once more while each turn brings more."""
        if self.arrived and before < len(self.arrived) < SHORT_ROWS:
            self.arrived[-1].loop.call_soon(self._end_turn, len(self.arrived))
            return
        arrived, self.arrived = self.arrived, deque()
        left = SHORT_SECONDS * max(1, len(arrived) / SHORT_JOBS)
        while arrived:
            batch = _take(arrived)
            expected = self.costs.expected(batch, SHORT_SECONDS)
            if expected < left:
                left -= expected
                with self.changed:
                    self._release(batch)
                self._score(batch, on_loop=True)
            else:
                self._enqueue(batch)

    def _work(self) -> None:
        torch.set_num_threads(1)  # of this thread: large batches are spread over the cores chunk by chunk
        if self.short_on_loop:
            give_way()
        while self._score_next():
            pass

    def _score_next(self) -> bool:
        """Wait for a batch and score it; while the worker waits it holds none, nor its model."""
        batch = self._next_batch()
        if batch:
            self._score(batch)
        return bool(batch)

    def _next_batch(self) -> list[Job]:
        """Wait for work; take the oldest job of the lane whose turn it is and what can join it."""
        with self.changed:
            while not any(self.lanes.values()):
                if self.stopping:
                    return []
                self.changed.wait()
            lane = self._choose_lane()
            batch = _take(lane)
            self._release(batch)
            return batch

    def _choose_lane(self) -> deque[Job]:
        interactive, bulk = self.lanes["interactive"], self.lanes["bulk"]
        if interactive and bulk:
            self.turn = (self.turn + 1) % BULK_SHARE
            return bulk if self.turn == 0 else interactive
        if bulk:
            self.turn = 0  # whoever comes meanwhile waits for this one and for no second
        return interactive or bulk or self.lanes["idle"]

    def _score(self, batch: Sequence[Job], *, on_loop: bool = False) -> None:
        """Score what is still wanted; where a joined batch fails, each job is tried once by itself."""
        now, cpu = time.monotonic(), time.thread_time()
        wanted, outcomes = _still_wanted(batch, now)
        results: list[Rows] | None = None
        if wanted:
            try:
                results = _run_joined(wanted)
            except torch.AcceleratorError:
                self._fail()
                outcomes += [(job, _device_fault()) for job in wanted]
            except Exception as error:
                if len(wanted) == 1:
                    outcomes.append((wanted[0], error))
                else:
                    self._retry(wanted, on_loop=on_loop)
        if results is not None:
            outcomes += zip(wanted, results, strict=True)
            self.costs.learn(wanted, cpu_seconds=time.thread_time() - cpu, seconds=time.monotonic() - now)
        deliver(outcomes, on_loop=on_loop)
        if results is not None and wanted[0].lane != "idle":
            rows = sum(job.rows for job in wanted)
            contexts = [job.context for job in wanted] if self.current_context else ()
            self.on_batch(BatchRecord(rows, [now - job.queued for job in wanted], time.monotonic() - now, contexts))

    def _retry(self, jobs: Sequence[Job], *, on_loop: bool) -> None:
        """Each job by itself, on the worker: one after the other they would keep the event loop."""
        if not on_loop:
            for job in jobs:
                self._score([job])
            return
        with self.changed:
            for job in jobs:
                job.alone = True
            self.waiting_rows += sum(job.rows for job in jobs)
            self.waiting_bytes += sum(job.size for job in jobs)
        self._enqueue(jobs)

    def _fail(self) -> None:
        """The device computes nothing any more: nobody is admitted, who waits is told, the process is to end."""
        with self.changed:
            self.faulty = self.stopping = True
            waiting = [job for lane in self.lanes.values() for job in lane]
            for lane in self.lanes.values():
                lane.clear()
            self._release(waiting)
        logger.exception("the device has failed")
        deliver([(job, _device_fault()) for job in waiting], on_loop=False)
        self.on_fault()


def _take(jobs: deque[Job]) -> list[Job]:
    """The first of `jobs` and what can be run with it, in their order; who has left joins for nothing."""
    first = jobs.popleft()
    batch, rows = [first], first.rows
    others: deque[Job] = deque()
    while jobs and rows < first.batch_rows and not first.alone:
        job = jobs.popleft()
        wanted = 0 if job.future.done() else job.rows
        if job.run == first.run and not job.alone and rows + wanted <= first.batch_rows:
            batch.append(job)
            rows += wanted
        else:
            others.append(job)
    jobs.extendleft(reversed(others))
    return batch


def _device_fault() -> DeviceFault:
    return DeviceFault("the device has failed; this process ends")


def _still_wanted(batch: Sequence[Job], now: float) -> tuple[list[Job], list[tuple[Job, Outcome]]]:
    """Jobs whose caller still waits, and the outcome of those whose deadline has passed."""
    wanted: list[Job] = []
    late: list[tuple[Job, Outcome]] = []
    for job in batch:
        if job.future.done():
            continue
        if job.deadline < now:
            late.append((job, DeadlineExceeded("the request waited longer than its deadline")))
        else:
            wanted.append(job)
    return wanted, late


def _run_joined(jobs: Sequence[Job]) -> list[Rows]:
    if len(jobs) == 1:
        return [jobs[0].run(jobs[0].x)]
    joined = jobs[0].run(torch.cat([job.x for job in jobs]))
    results, start = [], 0
    for job in jobs:
        results.append(joined.part(start, start + job.rows))
        start += job.rows
    return results
