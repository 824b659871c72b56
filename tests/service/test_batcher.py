"""The queue by itself: it joins, bounds, retries, drops, and never mixes callers.

A fake model answers each row with a function of the row, so that the right answer is known.
"""

import asyncio
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from elbound import errors as library
from elbound.calibration.calibration import POOLED, ScoredItems
from service.errors import DeadlineExceeded, Overloaded
from service.http.error_answers import STATUS
from service.queue.batcher import Batcher
from service.queue.jobs import BatchRecord

FAR = 1e9


class FakeModel:
    """Scores a row by its first value; negative values are a fault, and `gate` holds the device."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def score(self, x: torch.Tensor) -> ScoredItems:
        self.entered.set()
        self.gate.wait(10)
        self.sizes.append(len(x))
        values = x[:, 0].numpy().astype(np.float64)
        if (values < 0).any():
            raise RuntimeError("a negative row")
        pooled = np.full(len(values), POOLED)
        return ScoredItems({"s": values * 2}, {"s": values * 3}, values * 5, values * 7, pooled, values * 11, pooled)


@pytest.fixture
def records() -> list[BatchRecord]:
    return []


@pytest.fixture
def batcher(records: list[BatchRecord]) -> Iterator[Batcher]:
    made = Batcher(max_queue_rows=100, max_queue_bytes=1 << 20, batch_rows=16, on_batch=records.append)
    made.start()
    yield made
    made.stop()


def rows(*values: float) -> torch.Tensor:
    return torch.tensor(values).view(-1, 1)


def test_what_waits_becomes_one_batch(batcher: Batcher, records: list[BatchRecord]) -> None:
    model = FakeModel()
    model.gate.clear()

    async def run() -> list[ScoredItems]:
        first = asyncio.create_task(batcher.submit(model.score, rows(1), lane="interactive", deadline=FAR))
        await asyncio.to_thread(model.entered.wait)
        others = [
            asyncio.create_task(batcher.submit(model.score, rows(i, i), lane="interactive", deadline=FAR))
            for i in range(2, 6)
        ]
        await asyncio.sleep(0.05)
        model.gate.set()
        return list(await asyncio.gather(first, *others))

    answers = asyncio.run(run())
    assert model.sizes == [1, 8]
    assert [answer.score.tolist() for answer in answers] == [[5], [10, 10], [15, 15], [20, 20], [25, 25]]
    assert [record.rows for record in records] == [1, 8]
    assert len(records[1].waits) == 4


def test_a_fault_goes_to_its_caller_alone(batcher: Batcher) -> None:
    model = FakeModel()
    model.gate.clear()

    async def run() -> list[object]:
        tasks = [
            asyncio.create_task(batcher.submit(model.score, rows(value), lane="interactive", deadline=FAR))
            for value in (1, 2, -1, 3)
        ]
        await asyncio.sleep(0.05)
        model.gate.set()
        return list(await asyncio.gather(*tasks, return_exceptions=True))

    answers = asyncio.run(run())
    assert [a.score[0] for a in answers if isinstance(a, ScoredItems)] == [5, 10, 15]
    assert [str(a) for a in answers if isinstance(a, Exception)] == ["a negative row"]


def test_a_full_queue_refuses_at_once_and_recovers(batcher: Batcher) -> None:
    model = FakeModel()
    model.gate.clear()

    async def run() -> None:
        held = asyncio.create_task(batcher.submit(model.score, rows(1), lane="interactive", deadline=FAR))
        await asyncio.to_thread(model.entered.wait)
        waiting = asyncio.create_task(batcher.submit(model.score, torch.ones(100, 1), lane="bulk", deadline=FAR))
        await asyncio.sleep(0.01)
        with pytest.raises(Overloaded, match="100 items wait"):
            await batcher.submit(model.score, rows(1), lane="interactive", deadline=FAR)
        model.gate.set()
        await asyncio.gather(held, waiting)
        assert (await batcher.submit(model.score, rows(2), lane="interactive", deadline=FAR)).score == [10]

    asyncio.run(run())
    assert (batcher.waiting_rows, batcher.waiting_bytes) == (0, 0)


def test_passed_deadlines_and_callers_that_left_are_dropped_before_compute(batcher: Batcher) -> None:
    model = FakeModel()
    model.gate.clear()

    async def run() -> None:
        held = asyncio.create_task(batcher.submit(model.score, rows(1), lane="interactive", deadline=FAR))
        await asyncio.to_thread(model.entered.wait)
        soon = time.monotonic() + 0.02
        late = asyncio.create_task(batcher.submit(model.score, rows(2), lane="interactive", deadline=soon))
        left = asyncio.create_task(batcher.submit(model.score, rows(3), lane="interactive", deadline=FAR))
        await asyncio.sleep(0.05)
        left.cancel()
        model.gate.set()
        await held
        with pytest.raises(DeadlineExceeded):
            await late

    asyncio.run(run())
    batcher.stop()
    assert model.sizes == [1]


def test_bulk_work_keeps_a_quarter_of_the_batches(batcher: Batcher) -> None:
    order: list[str] = []
    gate = threading.Event()

    def named(name: str):  # type: ignore[no-untyped-def]
        def run(x: torch.Tensor) -> ScoredItems:
            gate.wait(10)
            order.append(name)
            return FakeModel().score(x)

        return run

    async def run() -> None:
        jobs = [
            *(batcher.submit(named("interactive"), rows(1), lane="interactive", deadline=FAR) for _ in range(8)),
            *(batcher.submit(named("bulk"), rows(1), lane="bulk", deadline=FAR) for _ in range(2)),
        ]
        tasks = [asyncio.create_task(job) for job in jobs]
        await asyncio.sleep(0.05)
        gate.set()
        await asyncio.gather(*tasks)

    asyncio.run(run())
    assert order.index("bulk") <= 4
    assert order.count("interactive") == 8


def test_a_job_is_joined_to_no_more_rows_than_it_says(batcher: Batcher) -> None:
    model = FakeModel()
    model.gate.clear()

    async def run() -> list[ScoredItems]:
        first = asyncio.create_task(batcher.submit(model.score, rows(1), lane="bulk", deadline=FAR))
        await asyncio.to_thread(model.entered.wait)
        others = [
            asyncio.create_task(batcher.submit(model.score, rows(i, i, i, i), lane="bulk", deadline=FAR, batch_rows=10))
            for i in range(2, 5)
        ]
        await asyncio.sleep(0.05)
        model.gate.set()
        return list(await asyncio.gather(first, *others))

    answers = asyncio.run(run())
    assert model.sizes == [1, 8, 4]
    assert [answer.score[0] for answer in answers] == [5, 10, 15, 20]


def test_who_comes_during_a_bulk_batch_waits_for_no_second(batcher: Batcher) -> None:
    order: list[str] = []

    async def one_round() -> None:
        model, gate, entered = FakeModel(), threading.Event(), threading.Event()

        def named(name: str):  # type: ignore[no-untyped-def]
            def run(x: torch.Tensor) -> ScoredItems:
                entered.set()
                gate.wait(10)
                order.append(name)
                return model.score(x)

            return run

        held = asyncio.create_task(batcher.submit(named("held"), rows(1), lane="bulk", deadline=FAR))
        await asyncio.to_thread(entered.wait)
        bulk = asyncio.create_task(batcher.submit(named("bulk"), rows(1), lane="bulk", deadline=FAR))
        other = asyncio.create_task(batcher.submit(named("interactive"), rows(1), lane="interactive", deadline=FAR))
        await asyncio.sleep(0.02)
        gate.set()
        await asyncio.gather(held, bulk, other)

    async def run() -> None:
        for _ in range(5):  # whatever turn the batcher was at
            await one_round()

    asyncio.run(run())
    assert order == ["held", "interactive", "bulk"] * 5


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 20), st.sampled_from(["score", "cancel", "bad"]), st.booleans()), max_size=40))
def test_every_caller_gets_exactly_its_own_rows(calls: list[tuple[int, str, bool]]) -> None:
    """Random sizes, two models, faults and cancellations, interleaved: no row ever reaches another caller."""
    batcher = Batcher(max_queue_rows=10**6, max_queue_bytes=1 << 30, batch_rows=32)
    batcher.start()
    models = (FakeModel(), FakeModel())

    async def call(number: int, size: int, kind: str, second: bool) -> None:
        x = torch.full((size, 1), float(number)) + torch.arange(size).view(-1, 1) / 100
        if kind == "bad":
            x[size // 2] = -1
        task = asyncio.create_task(
            batcher.submit(models[second].score, x, lane="bulk" if size > 10 else "interactive", deadline=FAR)
        )
        if kind == "cancel":
            await asyncio.sleep(0)
            task.cancel()
        answer = (await asyncio.gather(task, return_exceptions=True))[0]
        if kind == "bad":
            assert isinstance(answer, RuntimeError)
        elif not isinstance(answer, asyncio.CancelledError):
            assert isinstance(answer, ScoredItems)
            np.testing.assert_array_equal(answer.score, x[:, 0].numpy().astype(np.float64) * 5)
            np.testing.assert_array_equal(answer.p_values["s"], x[:, 0].numpy().astype(np.float64) * 3)

    async def run() -> None:
        await asyncio.gather(*(call(i + 1, *what) for i, what in enumerate(calls)))

    asyncio.run(run())
    batcher.stop()
    assert batcher.waiting_rows == 0


def test_every_error_class_has_a_status() -> None:
    def tree(kind: type[library.ElboundError]) -> set[type[library.ElboundError]]:
        return {kind}.union(*(tree(child) for child in kind.__subclasses__()))

    raised_while_serving = {
        kind
        for kind in tree(library.ElboundError)
        if kind.__name__ != "Interrupted" and not kind.__module__.startswith("training")
    }
    assert raised_while_serving == set(STATUS)
