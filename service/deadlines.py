"""The one timer for all connections of a server, and the clock of a body."""

import asyncio
import math
from collections.abc import Callable, Iterable
from typing import Literal, Protocol

from service.errors import RequestTimeout

SWEEP_S = 0.25
"""Every connection is looked at so often: a timeout of T s strikes within T and T + 2 SWEEP_S."""


class Watched(Protocol):
    def check(self) -> None:
        """End whatever takes too long, by the sweep's `tick`."""


class Sweep:
    """Counts ticks while connections are open and has each checked.

    Deadlines are counts of ticks, not times: while the loop is held up no tick passes, and nobody is cut for a wait
    that was ours.
    """

    def __init__(self, connections: Callable[[], Iterable[Watched]]) -> None:
        self.connections = connections
        self.tick = 0
        self.timer: asyncio.TimerHandle | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run until no connection is left; nothing where it runs already."""
        if self.timer is None:
            self.timer = loop.call_later(SWEEP_S, self._run, loop)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        self.tick += 1
        self.timer = None
        connections = list(self.connections())
        if connections:
            self.start(loop)
        for connection in connections:
            connection.check()


def ticks(seconds: float) -> int:
    """Ticks that surely last `seconds`: the first may be a part of one."""
    return math.ceil(seconds / SWEEP_S) + 1


class BodyClock(asyncio.Event):
    """The event on which uvicorn waits for more of a body; the clock runs only while the application waits there."""

    asked = False  # these stand in the class, since few requests ever change them
    _seen_bytes = 0
    _quiet_ticks = 0
    _window_ticks = 0
    _window_bytes = 0

    async def wait(self) -> Literal[True]:
        self.asked = True
        try:
            return await super().wait()
        finally:
            self.asked = False

    def check(self, body_bytes: int, *, body_idle_timeout_s: int, min_body_bytes_per_s: int) -> RequestTimeout | None:
        """Once a tick: an error where the `body_bytes` so far pause too long, or grew too little in a span so long."""
        if not self.asked:
            return None
        self._quiet_ticks = self._quiet_ticks + 1 if body_bytes == self._seen_bytes else 0
        self._seen_bytes = body_bytes
        if self._quiet_ticks >= ticks(body_idle_timeout_s):
            return RequestTimeout(f"nothing of the body came in {body_idle_timeout_s} s", where="body")
        self._window_ticks += 1
        if self._window_ticks >= ticks(body_idle_timeout_s):
            if body_bytes - self._window_bytes < min_body_bytes_per_s * body_idle_timeout_s:
                return RequestTimeout(
                    f"the body came slower than {min_body_bytes_per_s} bytes/s over {body_idle_timeout_s} s",
                    where="body",
                )
            self._window_ticks, self._window_bytes = 0, body_bytes
        return None
