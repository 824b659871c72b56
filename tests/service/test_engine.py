"""Hundreds of callers at once, in process, through the whole application: each gets its own items and nobody else's."""

import asyncio
import random
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import orjson
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from elbound.calibration.calibration import ScoredItems
from elbound.scorer import Scorer
from service.answers import documents as answers
from service.answers import shared_batch
from service.app import create_app
from service.errors import CallerLeft, DeadlineExceeded, DeviceFault
from service.queue.batcher import Batcher
from service.queue.jobs import Costs, Job
from service.score import endpoint
from service.settings import Settings
from tests.service.test_batcher import FAR, FakeModel, rows

TOLERANCE = 1e-5
App = Callable[..., Awaitable[None]]


@dataclass
class Call:
    """One caller, all of it drawn from one number."""

    seed: int

    def __post_init__(self) -> None:
        draw = random.Random(self.seed)
        size = draw.choice([1, 1, 1, 2, 5, 40, 300])
        self.kind = draw.choice(["plain", "plain", "plain", "cancel", "leave", "deadline"])
        self.patience = draw.random() * 0.03
        self.start = draw.random() * 0.05
        self.deadline_ms = draw.randint(1, 40)
        self.chunked = draw.random() < 0.3
        self.rows: list[object] = []
        self.bad = set()
        for i in range(size):
            row: dict[str, object] = {name: draw.gauss(0, 2) for name in "abc"}
            if draw.random() < 0.1:
                self.bad.add(i)
                row["a"] = draw.choice(["x", [1], 1e999])
            elif draw.random() < 0.1:
                row["b"] = draw.choice([None, " 1.5 ", True])
            self.rows.append(row)

    async def run(self, app: App) -> tuple[int, bytes] | None:
        """Status and body; None where the caller was not there for them."""
        await asyncio.sleep(self.start)
        body = orjson.dumps(self.rows).replace(b'"a":null', b'"a":1e999')  # orjson writes infinity as null
        headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
        if not self.chunked:
            headers.append((b"content-length", b"%d" % len(body)))
        if self.kind == "deadline":
            headers.append((b"x-request-deadline-ms", b"%d" % self.deadline_ms))
        sent: list[dict[str, object]] = []
        pieces = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> dict[str, object]:
            if pieces:
                return pieces.pop()  # type: ignore[return-value]
            await asyncio.sleep(self.patience if self.kind == "leave" else 60)
            return {"type": "http.disconnect"}

        async def send(message: dict[str, object]) -> None:
            sent.append(message)

        scope = {
            "type": "http", "method": "POST", "path": "/score", "raw_path": b"/score", "query_string": b"",
            "headers": headers, "root_path": "", "scheme": "http", "http_version": "1.1", "client": None,
            "server": ("test", 80),
        }  # fmt: skip
        task = asyncio.ensure_future(app(scope, receive, send))
        if self.kind == "cancel":
            await asyncio.sleep(self.patience)
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if task.cancelled() or task.exception():
            assert self.kind == "cancel", task.exception()
            return None
        return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)  # type: ignore[return-value,misc]

    def check(self, outcome: tuple[int, bytes] | None, scorer: Scorer) -> None:
        if outcome is None:
            return
        status, body = outcome
        document = orjson.loads(body)
        if status == 504:
            assert self.kind == "deadline"
        elif status == 400:
            assert (self.kind, document["error"]["code"]) == ("leave", "client_disconnected")
        elif status == 422:
            assert len(self.bad) == len(self.rows) == len(document["items"])
        else:
            assert status == 200, body
            self._check_items(document["items"], scorer)

    def _check_items(self, items: list[dict], scorer: Scorer) -> None:
        assert [item["index"] for item in items] == list(range(len(self.rows)))
        assert {item["index"] for item in items if "error" in item} == self.bad
        alone = scorer.score_tensor(scorer.to_tensor([r for i, r in enumerate(self.rows) if i not in self.bad]).only())  # type: ignore[misc]
        good = [item for item in items if "error" not in item]
        for name, expected in {"": alone.score, **alone.scores}.items():
            found = np.array([item["scores"][name]["value"] if name else item["score"] for item in good])
            assert (np.abs(found - expected) <= TOLERANCE * np.maximum(np.abs(expected), 1)).all()


@pytest.mark.slow
@settings(max_examples=6, deadline=None)
@given(seeds=st.lists(st.integers(0, 2**32), min_size=100, max_size=300))
def test_every_caller_gets_exactly_its_own_items(numeric_bundle: Path, numeric_scorer: Scorer, seeds) -> None:  # type: ignore[no-untyped-def]
    """Random sizes, bad items, deadlines, callers that leave or are cancelled, both ways, slow encoders."""
    app = create_app(Settings(device="cpu"), [numeric_bundle])
    calls = [Call(seed) for seed in seeds]

    def slowly(encode: Callable[..., object]) -> Callable[..., object]:
        def slow(*arguments: object) -> object:
            time.sleep(random.random() * 0.002)
            return encode(*arguments)

        return slow

    async def run() -> list[tuple[int, bytes] | None]:
        async with app.router.lifespan_context(app):
            return list(await asyncio.gather(*(call.run(app) for call in calls)))

    with (
        mock.patch.object(endpoint, "answer_document", slowly(answers.answer_document)),
        mock.patch.object(shared_batch.BatchPart, "content", slowly(shared_batch.BatchPart.content)),
    ):
        outcomes = asyncio.run(run())
    for call, outcome in zip(calls, outcomes, strict=True):
        call.check(outcome, numeric_scorer)
    state = app.state.elbound
    assert (state.batcher.waiting_rows, state.batcher.waiting_bytes) == (0, 0)


@pytest.fixture
def on_loop():  # type: ignore[no-untyped-def]
    """A batcher that runs short batches on the event loop; it knows that the fake model is short."""
    made = Batcher(max_queue_rows=1000, max_queue_bytes=1 << 20, batch_rows=16, short_on_loop=True)
    made.start()
    yield made
    made.stop()


def submit(batcher: Batcher, run: object, x: torch.Tensor, **terms: object) -> Awaitable[ScoredItems]:
    return batcher.submit(run, x, **{"lane": "interactive", "deadline": FAR, **terms})  # type: ignore[arg-type]


def test_short_batches_of_one_turn_run_together_on_the_loop(on_loop: Batcher) -> None:
    model = FakeModel()
    threads = []

    def run(x: torch.Tensor) -> ScoredItems:
        threads.append(threading.current_thread().name)
        return model.score(x)

    async def turns() -> None:
        for _ in range(2):
            answers = await asyncio.gather(*(submit(on_loop, run, rows(i, i)) for i in range(5)))
            assert [answer.score.tolist() for answer in answers] == [[5 * i, 5 * i] for i in range(5)]

    asyncio.run(turns())
    assert model.sizes == [10, 10]
    assert threads == ["elbound-device", "MainThread"]  # the worker learns what it costs


def test_what_is_long_goes_to_the_worker(on_loop: Batcher) -> None:
    threads = []

    def burn(x: torch.Tensor) -> ScoredItems:
        threads.append(threading.current_thread().name)
        until = time.thread_time() + 0.008
        while time.thread_time() < until:
            pass
        return FakeModel().score(x)

    async def turns() -> None:
        for _ in range(4):
            await submit(on_loop, burn, rows(1))

    asyncio.run(turns())
    assert threads == ["elbound-device"] * 4


def test_what_many_callers_sent_in_one_turn_may_keep_the_loop_as_long_as_receiving_it_did(on_loop: Batcher) -> None:
    threads = []

    def burn(x: torch.Tensor) -> ScoredItems:
        threads.append((threading.current_thread().name, len(x)))
        until = time.thread_time() + 0.008
        while time.thread_time() < until:
            pass
        return FakeModel().score(x)

    async def turns() -> None:
        for callers in (256, 256, 32):
            await asyncio.gather(*(submit(on_loop, burn, rows(i), batch_rows=256) for i in range(callers)))

    asyncio.run(turns())
    assert threads[:2] == [("MainThread", 256)] * 2
    assert threads[2] == ("elbound-device", 32)


def test_an_upload_is_cut_into_slices_of_ten_milliseconds(on_loop: Batcher) -> None:
    def run(x: torch.Tensor) -> ScoredItems:
        time.sleep(0.0001 * len(x))
        return FakeModel().score(x)

    on_loop.batch_rows = 4096
    assert on_loop.slice_rows(run, "bulk") == 64  # nothing is known yet

    async def upload() -> None:
        for _ in range(6):
            await submit(on_loop, run, torch.zeros(on_loop.slice_rows(run, "bulk"), 1), lane="bulk", batch_rows=4096)

    asyncio.run(upload())
    assert 64 <= on_loop.slice_rows(run, "bulk") <= 100  # 0.1 ms a row, or somewhat more
    assert on_loop.slice_rows(run, "interactive") == 4096


def test_slices_of_an_upload_stay_within_their_bounds() -> None:
    def run(x: torch.Tensor) -> ScoredItems:
        return FakeModel().score(x)

    async def learn(seconds: float) -> int:
        costs = Costs()
        job = Job(run, torch.zeros(100, 1), "bulk", FAR, 100, asyncio.get_running_loop())
        costs.learn([job], cpu_seconds=0, seconds=seconds)
        return costs.slice_rows(run, 4096)

    assert [asyncio.run(learn(seconds)) for seconds in (0.0001, 0.005, 10)] == [4096, 200, 64]


def test_a_fault_on_the_loop_goes_to_its_caller_alone_and_is_tried_by_the_worker(on_loop: Batcher) -> None:
    model = FakeModel()

    async def turns() -> list[object]:
        await asyncio.gather(*(submit(on_loop, model.score, rows(1)) for _ in range(4)))
        calls = [submit(on_loop, model.score, rows(value)) for value in (1, 2, -1, 3)]
        return list(await asyncio.gather(*calls, return_exceptions=True))

    outcomes = asyncio.run(turns())
    assert [o.score[0] for o in outcomes if isinstance(o, ScoredItems)] == [5, 10, 15]
    assert [str(o) for o in outcomes if isinstance(o, Exception)] == ["a negative row"]
    assert (on_loop.waiting_rows, on_loop.waiting_bytes) == (0, 0)


def test_deadlines_and_departures_are_answered_while_the_device_is_busy(on_loop: Batcher) -> None:
    """Not only when the device comes to them, and neither is computed."""
    model = FakeModel()
    model.gate.clear()
    asked = []

    async def leaves() -> None:
        asked.append(time.monotonic())
        await asyncio.sleep(0.01)

    async def run() -> None:
        held = asyncio.ensure_future(submit(on_loop, model.score, rows(1), lane="bulk"))
        await asyncio.to_thread(model.entered.wait)
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            await submit(on_loop, model.score, rows(2), deadline=started + 0.03)
        with pytest.raises(CallerLeft):
            await submit(on_loop, model.score, rows(3), left=leaves)
        assert time.monotonic() - started < 5
        model.gate.set()
        await held
        assert (await submit(on_loop, model.score, rows(4), left=leaves)).score == [20]

    asyncio.run(run())
    assert model.sizes == [1, 1]
    assert len(asked) == 1  # of the last one nobody asked: it did not wait


def test_an_error_of_the_device_is_not_retried_and_ends_the_service() -> None:
    ended, calls = [], []
    batcher = Batcher(max_queue_rows=100, max_queue_bytes=1 << 20, batch_rows=16, on_fault=lambda: ended.append(True))
    model = FakeModel()
    model.gate.clear()

    def broken(x: torch.Tensor) -> ScoredItems:
        model.score(x)
        calls.append(len(x))
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered", 700)

    async def run() -> list[object]:
        batcher.start()
        first = asyncio.ensure_future(submit(batcher, broken, rows(1)))
        await asyncio.to_thread(model.entered.wait)
        others = [asyncio.ensure_future(submit(batcher, model.score, rows(i))) for i in range(3)]
        await asyncio.sleep(0.01)
        model.gate.set()
        outcomes = await asyncio.gather(first, *others, return_exceptions=True)
        with pytest.raises(DeviceFault):
            await submit(batcher, model.score, rows(1))
        return list(outcomes)

    outcomes = asyncio.run(run())
    assert all(isinstance(outcome, DeviceFault) for outcome in outcomes)
    assert (calls, ended, batcher.alive) == ([1], [True], False)
    assert batcher.waiting_rows == 0
