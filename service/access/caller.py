"""Who is behind a request, for as long as it lasts."""

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from service.access.keys import ApiKey
from service.errors import DeadlineExceeded, QuotaExceeded, Unauthorized

CALLER = "elbound.caller"
"""Where the scope of an admitted request has its caller."""
FIRST_ROW = 1
"""Charged at the door, so that a body that cannot be read is not free."""
T = TypeVar("T")
WAIT_S = 1.0
"""A stream that is slowed down looks again so often: its quota may have been changed."""


class Caller:
    """One request of a key, and what it takes from the key's quota.

    The first row is charged at the door and the others once they are counted; at the end what was not used is given
    back, but for the first row. Nothing of this concerns a key without a quota.
    """

    __slots__ = ("_charged", "_limited", "_uncounted", "_used", "key")

    def __init__(self, key: ApiKey) -> None:
        self.key = key
        self._limited = key.quota.limited
        self._charged = 0
        self._uncounted = 0
        """Rows that were charged before any was counted."""
        self._used = 0

    def admit(self) -> None:
        """Charge the first row. Raises QuotaExceeded where the key is in debt."""
        if self._limited:
            self._take(FIRST_ROW)
            self._uncounted = FIRST_ROW

    @contextlib.asynccontextmanager
    async def counting(self, until: float) -> AsyncIterator[None]:
        """Read a body of unknown rows, and charge them, while no other such body of the key is read.

        Without this any number of uploads would be admitted before the first of them is charged. Who comes later waits
        here before its body is read, in the order of arrival until `until` on the monotonic clock, and is then admitted
        or refused as the balance says. Raises QuotaExceeded, DeadlineExceeded, and Unauthorized for a withdrawn key.
        """
        if not self._limited:
            yield
            return
        turn = self.key.quota.counting
        try:
            async with asyncio.timeout(until - time.monotonic()):
                await turn.acquire()
        except TimeoutError:
            self._release()
            message = f"other uploads of the key {self.key.name!r} were read until the deadline; send fewer at once"
            raise DeadlineExceeded(message) from None
        try:
            if refusal := self.refusal:
                raise refusal
            self._release()
            self.admit()
            yield
        finally:
            turn.release()

    def charge(self, rows: int, *, unless_in_debt: bool = False) -> None:
        """Take `rows` that are counted now from the quota: all of a request, or those of a piece.

        With `unless_in_debt` for a request that did not wait in `counting`: raises QuotaExceeded where others have
        brought the key into debt since it was admitted.
        """
        if not self._limited:
            return
        if unless_in_debt and rows > self._uncounted:
            self._release()
            self._take(rows)
            return
        more = max(0, rows - self._uncounted)
        self._uncounted = max(0, self._uncounted - rows)
        self._charged += more
        self.key.quota.charge(more)

    def use(self, rows: int) -> None:
        """Say that `rows` of the charged ones were scored."""
        self._used += rows

    def use_all(self) -> None:
        """Say that all rows so far are answered, with a score or an error of their own."""
        self._used = self._charged

    def settle(self) -> None:
        """Give back, at the end of the request, the rows that were charged and never used."""
        unused = self._charged - max(self._used, FIRST_ROW)
        if unused > 0:
            self._charged -= unused
            self.key.quota.give_back(unused)

    def _take(self, rows: int) -> None:
        """Charge `rows`. Raises QuotaExceeded where the key is in debt."""
        debt_s = self.key.quota.admit(rows)
        if debt_s:
            rate = f"{self.key.quota.rows_per_s:g} rows/s"
            raise QuotaExceeded(
                f"the key {self.key.name!r} has {rate} and is in debt for {debt_s:,.1f} s",
                retry_after_s=math.ceil(debt_s),
            )
        self._charged += rows

    def _release(self) -> None:
        """Give back what was charged at the door."""
        self.key.quota.give_back(self._uncounted)
        self._charged -= self._uncounted
        self._uncounted = 0

    @property
    def refusal(self) -> Unauthorized | None:
        """Why the request must end, once its key was revoked or lost a scope."""
        if not self.key.withdrawn.is_set():
            return None
        return Unauthorized(f"the key {self.key.name!r} was withdrawn", code="key_revoked", where="authorization")

    async def until_solvent(self, due: float) -> None:
        """Wait until the key is out of debt. Raises Unauthorized once it is revoked, DeadlineExceeded.

        `due` is on the monotonic clock; where the debt lasts longer than that, nobody waits.
        """
        while (seconds := self.key.quota.debt_s) > 0:
            if refusal := self.refusal:
                raise refusal
            if time.monotonic() + seconds > due:
                raise DeadlineExceeded(f"the key {self.key.name!r} is in debt until after the deadline")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.key.withdrawn.wait(), min(seconds, WAIT_S))


def caller_of(scope: Scope) -> Caller:
    """The caller of an admitted request."""
    caller = scope[CALLER]
    assert isinstance(caller, Caller)
    return caller


def turn_key(scope: Scope) -> bytes | str:
    """By whom turns are taken: the caller's key, or the address where there are no keys."""
    client = scope.get("client")
    return caller_of(scope).key.digest or (client[0] if client else "")


async def until_left(receive: Receive) -> None:
    """The body has been read: what comes now is that the caller has left."""
    while (await receive())["type"] != "http.disconnect":
        await asyncio.sleep(0)  # a server that says the same again must not hold the event loop


async def unless_left(waiting: Coroutine[Any, Any, T], receiving: "asyncio.Future[None]") -> T:
    """What `waiting` comes to. Raises ClientDisconnect where `receiving` ends first: the caller has left."""
    task: asyncio.Future[T] = asyncio.ensure_future(waiting)
    both: list[asyncio.Future[Any]] = [task, receiving]
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientDisconnect
    finally:
        task.cancel()
