"""Whose turn it is at something that only a few can have at once: keys in a circle, each with its own queue."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Hashable

from service.errors import DeadlineExceeded


class Turns:
    """At most `places` at once. Keys take turns, so a key with many requests delays another by one of them at most."""

    def __init__(self, places: int) -> None:
        self.free = places
        self._waiting: dict[Hashable, deque[asyncio.Future[None]]] = {}

    @property
    def waiting(self) -> int:
        return sum(map(len, self._waiting.values()))

    @contextlib.asynccontextmanager
    async def of(self, key: Hashable, until: float) -> AsyncIterator[None]:
        """A place for `key`, on the event loop. Raises DeadlineExceeded at `until` on the monotonic clock."""
        await self._take(key, until)
        try:
            yield
        finally:
            self._give()

    async def _take(self, key: Hashable, until: float) -> None:
        if self.free:
            self.free -= 1
            return
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, deque()).append(mine)
        try:
            async with asyncio.timeout(max(0.0, until - time.monotonic())):
                await mine
        except BaseException as error:
            if mine.done() and not mine.cancelled():  # the place came at the same moment
                self._give()
            else:
                self._forget(key, mine)
            if isinstance(error, TimeoutError):
                raise DeadlineExceeded("the upload waited longer than its deadline to be decoded") from None
            raise

    def _forget(self, key: Hashable, mine: "asyncio.Future[None]") -> None:
        queue = self._waiting.get(key, deque())
        with contextlib.suppress(ValueError):  # `_give` has passed it over already
            queue.remove(mine)
            if not queue:
                del self._waiting[key]

    def _give(self) -> None:
        """Give the place to the next key in the circle; a key that still waits goes to its end."""
        while self._waiting:
            key = next(iter(self._waiting))
            queue = self._waiting.pop(key)
            mine = queue.popleft()
            if queue:
                self._waiting[key] = queue
            if not mine.done():
                mine.set_result(None)
                return
        self.free += 1
