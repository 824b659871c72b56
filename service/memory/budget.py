"""Bytes that all requests together hold: bodies, what they open to, their items, and answers that wait to be read."""

import threading

from elbound.errors import LimitExceeded
from service.errors import MemoryFull
from service.memory.freed import GivingBack

FREE_BYTES = 1 << 16
"""What each request may hold beside the budget, so that a row is scored however full it is."""


class Budget:
    """At most `max_inflight_bytes`, shared by event loop and threads."""

    def __init__(self, max_inflight_bytes: int) -> None:
        self.max_bytes = max_inflight_bytes
        self.used_bytes = 0
        self._lock = threading.Lock()
        self._giving_back = GivingBack()

    def take(self, own_bytes: int, more_bytes: int) -> None:
        """`more_bytes` for a request that has `own_bytes`. Raises LimitExceeded, MemoryFull."""
        with self._lock:
            if own_bytes + more_bytes > self.max_bytes:
                raise LimitExceeded(
                    f"the request takes more than {self.max_bytes:,} bytes of memory (max_inflight_bytes); "
                    "send it in several parts, or ask for a streamed answer",
                    code="body_too_large",
                    where="body",
                )
            if self.used_bytes + more_bytes > self.max_bytes:
                raise MemoryFull("other requests take the memory that there is; try again shortly", where="body")
            self.used_bytes += more_bytes

    def count(self, more_bytes: int) -> None:
        """Take note of bytes that are held already, or fewer of them."""
        with self._lock:
            self.used_bytes += more_bytes
        if more_bytes < 0:
            self._giving_back.freed(-more_bytes)

    def hold(self) -> "Holding":
        """What one request holds: nothing so far."""
        return Holding(self)


class Holding:
    """The bytes of one request, given back when it is closed. Used by one thread at a time."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.size = 0

    def take(self, more_bytes: int) -> None:
        """Hold so many more. Raises LimitExceeded where no room can ever be for them, MemoryFull where none is now."""
        before, after = max(0, self.size - FREE_BYTES), max(0, self.size + more_bytes - FREE_BYTES)
        if after > before:
            self.budget.take(before, after - before)
        self.size += more_bytes

    def give(self, fewer_bytes: int) -> None:
        """Hold so many fewer."""
        before, after = max(0, self.size - FREE_BYTES), max(0, self.size - fewer_bytes - FREE_BYTES)
        self.budget.count(after - before)
        self.size -= fewer_bytes

    def settle(self, size: int) -> None:
        """Hold `size` bytes from now on, whatever it was before."""
        if size > self.size:
            self.budget.count(max(0, size - FREE_BYTES) - max(0, self.size - FREE_BYTES))
            self.size = size
        else:
            self.give(self.size - size)

    def close(self) -> None:
        self.give(self.size)

    def __enter__(self) -> "Holding":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
