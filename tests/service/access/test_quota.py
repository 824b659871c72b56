"""The balance of a key: who is admitted, what is charged, how long a debt lasts."""

import asyncio
import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.access.caller import Caller
from service.access.keys import ApiKey
from service.access.quota import UNLIMITED, Quota
from service.errors import DeadlineExceeded, Unauthorized

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
