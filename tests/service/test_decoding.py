"""Decoder processes: what they answer, what ends them, whose turn it is, and the budget that they take from."""

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elbound.data.items import TensorItems
from elbound.data.memory import announce, asking
from elbound.data.preprocessor import Preprocessor
from elbound.errors import DecodeError, ElboundError, LimitExceeded
from elbound.schema import Column, ImageSchema, TableSchema
from service.errors import DeadlineExceeded, MemoryFull
from service.memory.budget import FREE_BYTES, Budget, Holding
from service.settings import Settings
from service.uploads.decoding.pool import Decoders
from service.uploads.decoding.turns import Turns
from tests.abuse import bombs

TABLE = Preprocessor("rows", TableSchema(columns=tuple(Column(name=name, kind="numeric") for name in "abc")))
PICTURES = Preprocessor("pictures", ImageSchema(height=12, width=12, channels=1))
MB = 1 << 20


@asynccontextmanager
async def running(**changed: int) -> AsyncIterator[Decoders]:
    limits = Settings(**{"decoders": 1, **changed})  # type: ignore[arg-type]
    decoders = Decoders(limits, Budget(limits.max_inflight_bytes))
    await decoders.start()
    try:
        yield decoders
    finally:
        decoders.stop()


async def decode(
    decoders: Decoders, preprocessor: Preprocessor, body: bytes, media_type: str, *, seconds: float = 30, key: str = ""
) -> TensorItems:
    with decoders.budget.hold() as holding:
        found = await decoders.run(
            preprocessor,
            "uploads",
            body,
            media_type,
            key=key,
            until=time.monotonic() + seconds,
            holding=holding,
        )
        assert isinstance(found, TensorItems)
        return found


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


def test_items_errors_and_refusals_come_back_as_they_are() -> None:
    async def test() -> None:
        async with running() as decoders:
            items = await decode(decoders, TABLE, b"a,b,c\n1,2,3\nx,5,6\n7,8,9\n", "text/csv")
            np.testing.assert_array_equal(items.x.numpy(), [[1, 2, 3], [7, 8, 9]])
            assert items.index.tolist() == [0, 2]
            assert (items.errors[1].code, items.errors[1].where) == ("cell_invalid", "a")
            with pytest.raises(DecodeError) as refused:
                await decode(decoders, TABLE, b"", "text/csv")
            assert (refused.value.code, refused.value.where) == ("body_empty", "body")
            large = b"a,b,c\n" + b"1.5,2.5,3.5\n" * 90_000
            assert (await decode(decoders, TABLE, large, "text/csv")).n == 90_000
            assert decoders.started == 1, "none of these is a reason to end the process"
            assert decoders.budget.used_bytes == 0

    run(test)


def test_a_task_past_its_deadline_ends_its_process_and_the_next_is_answered() -> None:
    async def test() -> None:
        async with running() as decoders:
            started = time.monotonic()
            with pytest.raises(DeadlineExceeded):
                await decode(decoders, PICTURES, bombs.chunky_png(2_000_000), "image/png", seconds=0.5)
            assert time.monotonic() - started < 2
            assert (await decode(decoders, PICTURES, bombs.png(12, 12), "image/png")).n == 1
            assert decoders.started == 2
            assert decoders.budget.used_bytes == 0

    run(test)


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        pytest.param(bombs.lying_parquet(4, 120_000_000), "application/vnd.apache.parquet", id="Parquet"),
        pytest.param(bombs.arrow(4_500_000_000), "application/vnd.apache.arrow.stream", id="Arrow"),
        pytest.param(b"{" + b",".join(b'"%d":1' % i for i in range(1_000_000)) + b"}", "application/json", id="names"),
    ],
)
def test_what_takes_more_than_it_announces_is_refused(body: bytes, media_type: str) -> None:
    async def test() -> None:
        async with running(max_inflight_bytes=200 * MB) as decoders:
            with pytest.raises(ElboundError) as refused:
                await decode(decoders, TABLE, body, media_type)
            assert isinstance(refused.value, LimitExceeded | DecodeError)
            assert (await decode(decoders, TABLE, b"a,b,c\n1,2,3\n", "text/csv")).n == 1
            assert decoders.budget.used_bytes == 0

    run(test)


def test_a_large_upload_asks_for_memory_and_gives_it_back() -> None:
    """8,000 x 8,000 pixels take 512 MB with their copies."""

    async def test() -> None:
        body = bombs.png(8_000, 8_000)
        async with running() as decoders:
            assert not (await decode(decoders, PICTURES, body, "image/png")).errors
            assert decoders.budget.used_bytes == 0
        async with running(max_inflight_bytes=100 * MB) as decoders:
            with pytest.raises(LimitExceeded, match="max_inflight_bytes"):
                await decode(decoders, PICTURES, body, "image/png")
            with decoders.budget.hold() as other:
                other.take(90 * MB)
                with pytest.raises(MemoryFull):
                    await decode(decoders, TABLE, b"a,b,c\n" + b"1.5,2.5,3.5\n" * 2_000_000, "text/csv")

    run(test)


def test_a_caller_that_leaves_frees_its_process() -> None:
    async def test() -> None:
        async with running() as decoders:
            long = asyncio.create_task(decode(decoders, PICTURES, bombs.chunky_png(2_000_000), "image/png"))
            await asyncio.sleep(0.3)
            long.cancel()
            started = time.monotonic()
            assert (await decode(decoders, PICTURES, bombs.png(12, 12), "image/png")).n == 1
            assert time.monotonic() - started < 3
            assert decoders.budget.used_bytes == 0

    run(test)


def test_keys_take_turns() -> None:
    async def test() -> None:
        turns, order = Turns(1), []

        async def take(key: str) -> None:
            async with turns.of(key, time.monotonic() + 10):
                order.append(key)
                await asyncio.sleep(0.001)

        async with turns.of("first", time.monotonic() + 10):
            tasks = [asyncio.create_task(take(key)) for key in "aaaaabbc"]
            await asyncio.sleep(0.01)
            assert turns.waiting == 8
        await asyncio.gather(*tasks)
        assert "".join(order) == "abcabaaa"
        assert (turns.free, turns.waiting) == (1, 0)

    run(test)


def test_who_waits_past_the_deadline_or_leaves_takes_no_turn() -> None:
    async def test() -> None:
        turns = Turns(1)
        async with turns.of("a", time.monotonic() + 10):
            with pytest.raises(DeadlineExceeded):
                async with turns.of("b", time.monotonic() + 0.05):
                    pass
            waiting = asyncio.create_task(turns._take("c", time.monotonic() + 10))
            await asyncio.sleep(0.01)
            waiting.cancel()
            await asyncio.wait([waiting])
            assert turns.waiting == 0
        async with turns.of("d", time.monotonic() + 1):
            assert turns.free == 0
        assert turns.free == 1

    run(test)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3 * FREE_BYTES)), max_size=30))
def test_the_budget_is_the_sum_of_what_is_held(steps: list[tuple[int, int]]) -> None:
    budget = Budget(5 * FREE_BYTES)
    holdings = [budget.hold() for _ in range(4)]
    for which, size in steps:
        try:
            holdings[which].take(size)
        except (LimitExceeded, MemoryFull):
            holdings[which].give(holdings[which].size // 2)
        assert budget.used_bytes == sum(max(0, one.size - FREE_BYTES) for one in holdings) <= budget.max_bytes
    for one in holdings:
        one.close()
    assert budget.used_bytes == 0


def test_a_row_is_held_however_full_the_budget_is() -> None:
    budget = Budget(MB)
    with budget.hold() as all_of_it, budget.hold() as row:
        all_of_it.take(MB + FREE_BYTES)
        row.take(FREE_BYTES)
        with pytest.raises(MemoryFull):
            row.take(1)


@pytest.mark.slow
def test_answers_that_wait_for_their_callers_count(start, numeric_bundle) -> None:  # type: ignore[no-untyped-def]
    server = start(numeric_bundle)
    rows = b"[" + b",".join([b"[1,2,3]"] * 20_000) + b"]"
    head = b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        deaf.sendall(head % len(rows) + rows)
        until = time.monotonic() + 20
        while server.metric("elbound_inflight_bytes") < 2 * MB and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(1)
        assert server.metric("elbound_inflight_bytes") > 2 * MB
    time.sleep(1)
    assert server.metric("elbound_inflight_bytes") == 0


def test_only_who_is_asked_in_a_thread_is_asked_there() -> None:
    asked: list[int] = []
    with asking(asked.append):
        announce(1)
        other = threading.Thread(target=announce, args=(2,))
        other.start()
        other.join()
    announce(3)
    assert asked == [1]
    assert isinstance(Budget(1).hold(), Holding)
