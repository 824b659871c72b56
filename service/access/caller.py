"""Who is behind a request, for as long as it lasts."""

import asyncio
import contextlib
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from service.access.keys import ApiKey
from service.errors import DeadlineExceeded, Unauthorized

CALLER = "elbound.caller"
"""Where the scope of an admitted request has its caller."""
FIRST_ROW = 1
"""Charged at the door, so that a body that cannot be read is not free."""
T = TypeVar("T")
WAIT_S = 1.0
"""A stream that is slowed down looks again so often: its quota may have been changed."""


class Caller:
    """One request of a key. Whoever scores charges the rows; the first was charged at the door."""

    __slots__ = ("_paid_rows", "key")

    def __init__(self, key: ApiKey) -> None:
        self.key = key
        self._paid_rows = 0

    def admit(self) -> float:
        """Charge the first row, unless the key is in debt: then for how many seconds."""
        debt_s = self.key.quota.admit(FIRST_ROW)
        if not debt_s:
            self._paid_rows = FIRST_ROW
        return debt_s

    def charge(self, rows: int) -> None:
        """Take `rows` more from the key's quota; called once all are counted, or piece by piece."""
        if rows > self._paid_rows:
            self.key.quota.charge(rows - self._paid_rows)
        self._paid_rows = max(0, self._paid_rows - rows)

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
