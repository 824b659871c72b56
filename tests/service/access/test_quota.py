"""The balance of a key: who is admitted, what is charged, how long a debt lasts."""

import asyncio
import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.access.caller import Caller
from service.access.keys import UNLIMITED, ApiKey, Quota
from service.errors import DeadlineExceeded, QuotaExceeded, Unauthorized

RATES = st.floats(0.01, 1e6)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@given(
    rate=RATES,
    burst=st.floats(0, 1e6),
    steps=st.lists(st.tuples(st.floats(0, 100), st.integers(0, 10_000)), min_size=1, max_size=50),
)
def test_no_span_has_more_than_its_rate_the_burst_and_one_request(rate: float, burst: float, steps) -> None:  # type: ignore[no-untyped-def]
    """The promise of a quota, for any pattern of pauses and requests, from any admission to any other."""
    clock = Clock()
    quota = Quota(rate, burst, clock)
    admitted: list[tuple[float, int]] = []
    for pause, rows in steps:
        clock.now += pause
        if quota.debt_s == 0:
            quota.charge(rows)
            admitted.append((clock.now, rows))
    for i, (start, _) in enumerate(admitted):
        for j in range(i, len(admitted)):
            end = admitted[j][0]
            before_the_last = sum(rows for _, rows in admitted[i:j])
            assert before_the_last <= (burst + rate * (end - start)) * (1 + 1e-6) + 1e-6


@given(rate=RATES, burst=st.floats(0, 1e6), rows=st.integers(1, 10**6))
def test_a_debt_is_paid_after_its_rows(rate: float, burst: float, rows: int) -> None:
    clock = Clock()
    quota = Quota(rate, burst, clock)
    quota.charge(rows)
    assert quota.debt_s == pytest.approx(max(0.0, (rows - burst) / rate), rel=1e-6, abs=1e-6)
    clock.now += quota.debt_s + 1e-6
    assert quota.debt_s == 0


@given(rate=RATES, other=RATES, rows=st.integers(10**5, 10**6))
def test_another_rate_leaves_the_rows_of_a_debt(rate: float, other: float, rows: int) -> None:
    quota = Quota(rate, 0, Clock())
    quota.charge(rows)
    quota.change(other, 0)
    assert quota.debt_s * other == pytest.approx(rows, rel=1e-6)
    quota.change(UNLIMITED, 0)
    assert quota.debt_s == 0


def test_without_a_quota_nothing_is_a_debt() -> None:
    quota = Quota(UNLIMITED, UNLIMITED)
    quota.charge(10**12)
    assert quota.debt_s == 0


def caller(rate: float) -> Caller:
    return Caller(ApiKey("line-3", frozenset({"score"}), Quota(rate, 0)))


def test_the_row_that_was_charged_at_the_door_is_not_charged_again() -> None:
    clock = Clock()
    one = Caller(ApiKey("line-3", frozenset({"score"}), Quota(1, 0, clock)))
    one.admit()
    assert one.key.quota.debt_s == pytest.approx(1)
    for rows in (0, 3, 5):
        one.charge(rows)
    assert one.key.quota.debt_s == pytest.approx(8)


def door_of(quota: Quota) -> Caller:
    """A new request of the one key of `quota`."""
    return Caller(ApiKey("line-3", frozenset({"score"}), quota))


SOON = 30.0
"""Seconds until the deadline of a request that is in no hurry."""


async def upload(one: Caller, rows: int, read: asyncio.Event | None = None) -> str:
    """What becomes of an upload that is scored: its rows are counted once `read` is set."""
    try:
        one.admit()
        async with one.counting(time.monotonic() + SOON):
            if read is not None:
                await read.wait()
            one.charge(rows)
        one.use(rows)
        return "scored"
    except QuotaExceeded:
        return "refused"
    finally:
        one.settle()


def test_of_many_uploads_at_once_one_is_read_and_the_others_see_what_it_cost() -> None:
    """Charged by one row each, all that the burst admits would be read before the first of them is counted."""
    quota = Quota(10, 100, Clock())

    async def send() -> list[str]:
        read = asyncio.Event()
        tasks = [asyncio.create_task(upload(door_of(quota), 20_000, read)) for _ in range(60)]
        await asyncio.sleep(0.01)
        read.set()
        return await asyncio.gather(*tasks)

    assert asyncio.run(send()) == ["scored"] + ["refused"] * 59
    assert quota.debt_s == pytest.approx((20_000 - 100) / 10)


def test_uploads_of_a_key_within_its_quota_are_all_scored_in_their_order() -> None:
    quota, order = Quota(10, 100, Clock()), []

    async def send(number: int) -> None:
        assert await upload(door_of(quota), 10) == "scored"
        order.append(number)

    async def send_all() -> None:
        await asyncio.gather(*map(send, range(10)))

    asyncio.run(send_all())
    assert order == list(range(10))
    quota.charge(1)
    assert quota.debt_s == pytest.approx(0.1), "just the burst was used"


def test_whoever_waits_past_its_deadline_gives_its_turn_and_its_row_back() -> None:
    quota = Quota(10, 100, Clock())

    async def wait() -> None:
        read = asyncio.Event()
        first = asyncio.create_task(upload(door_of(quota), 1, read))
        await asyncio.sleep(0)
        late = door_of(quota)
        late.admit()
        with pytest.raises(DeadlineExceeded, match="send fewer at once"):
            async with late.counting(time.monotonic() + 0.01):
                pass
        late.settle()
        read.set()
        assert await first == "scored"
        assert await upload(door_of(quota), 99) == "scored"

    asyncio.run(wait())
    assert quota.debt_s == 0


def test_a_key_that_is_withdrawn_while_a_request_waits_is_refused() -> None:
    quota = Quota(10, 100, Clock())
    waiting = door_of(quota)

    async def wait() -> None:
        async with door_of(quota).counting(time.monotonic() + SOON):
            task = asyncio.create_task(upload(waiting, 1))
            await asyncio.sleep(0)
            waiting.key.withdrawn.set()
        await task

    with pytest.raises(Unauthorized, match="withdrawn"):
        asyncio.run(wait())


@pytest.mark.parametrize(("used", "kept"), [(0, 1), (1, 1), (30, 30), (50, 50)])
def test_rows_that_were_not_scored_are_given_back_but_for_the_first(used: int, kept: int) -> None:
    quota = Quota(10, 0, Clock())
    one = door_of(quota)
    one.admit()
    one.charge(50)
    assert quota.debt_s == pytest.approx(5)
    one.use(used)
    one.settle()
    one.settle()
    assert quota.debt_s == pytest.approx(kept / 10)


def test_rows_with_an_error_of_their_own_are_answered_and_cost_as_much() -> None:
    quota = Quota(10, 0, Clock())
    one = door_of(quota)
    one.admit()
    one.charge(50)
    one.use(20)
    one.use_all()
    one.settle()
    assert quota.debt_s == pytest.approx(5)


def test_small_requests_that_come_at_once_are_not_all_admitted_by_one_balance() -> None:
    quota = Quota(10, 100, Clock())
    callers = [door_of(quota) for _ in range(20)]
    for one in callers:
        one.admit()
    callers[0].charge(4_000, unless_in_debt=True)
    for one in callers[1:]:
        with pytest.raises(QuotaExceeded):
            one.charge(4_000, unless_in_debt=True)
        one.settle()
    assert quota.debt_s == pytest.approx((4_000 - 100) / 10)


def test_without_a_quota_nobody_waits() -> None:
    quota = Quota(UNLIMITED, UNLIMITED)

    async def both() -> None:
        async with door_of(quota).counting(0), door_of(quota).counting(0):
            pass

    asyncio.run(both())


def test_a_stream_waits_until_its_debt_is_paid_and_no_longer() -> None:
    one = caller(100)
    one.charge(10)
    started = time.monotonic()
    asyncio.run(one.until_solvent(math.inf))
    assert 0.08 <= time.monotonic() - started < 1
    assert one.key.quota.debt_s == 0


def test_a_stream_does_not_wait_past_its_deadline_nor_for_a_key_that_is_gone() -> None:
    one = caller(1)
    one.charge(1000)
    with pytest.raises(DeadlineExceeded, match="line-3"):
        asyncio.run(one.until_solvent(time.monotonic() + 1))

    async def withdraw() -> None:
        waiting = asyncio.create_task(one.until_solvent(math.inf))
        await asyncio.sleep(0)
        one.key.withdrawn.set()
        await waiting

    with pytest.raises(Unauthorized, match="withdrawn"):
        asyncio.run(withdraw())
