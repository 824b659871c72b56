"""The one timer for all connections of a server, and the clocks of bodies and answers."""

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


class Rate:
    """Whether bytes that should come or go do so, by their number so far at each tick."""

    def __init__(self, so_far_bytes: int = 0) -> None:
        self.seen_bytes = self.window_bytes = so_far_bytes
        self.quiet_ticks = self.window_ticks = 0

    def look(self, so_far_bytes: int, *, timeout_s: int, min_bytes_per_s: int) -> Literal["idle", "slow"] | None:
        """Once a tick: idle where none moved for `timeout_s`, slow where too few did in a span so long."""
        self.quiet_ticks = self.quiet_ticks + 1 if so_far_bytes == self.seen_bytes else 0
        self.seen_bytes = so_far_bytes
        if self.quiet_ticks >= ticks(timeout_s):
            return "idle"
        self.window_ticks += 1
        if self.window_ticks >= ticks(timeout_s):
            if so_far_bytes - self.window_bytes < min_bytes_per_s * timeout_s:
                return "slow"
            self.window_ticks, self.window_bytes = 0, so_far_bytes
        return None


class BodyClock(asyncio.Event):
    """The event on which uvicorn waits for more of a body; the clock runs only while the application waits there."""

    asked = False  # these stand in the class, since few requests ever change them
    rate: Rate | None = None

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
        self.rate = self.rate or Rate()
        fault = self.rate.look(body_bytes, timeout_s=body_idle_timeout_s, min_bytes_per_s=min_body_bytes_per_s)
        if fault is None:
            return None
        text = {
            "idle": f"nothing of the body came in {body_idle_timeout_s} s",
            "slow": f"the body came slower than {min_body_bytes_per_s} bytes/s over {body_idle_timeout_s} s",
        }[fault]
        return RequestTimeout(text, where="body")
