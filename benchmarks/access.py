"""What keys, a quota and request ids add to a request of one row, in CPU time of the event loop.

python -m benchmarks.access [--rounds N]. In one process and without sockets: bytes into the protocol, an answer out of
it, by turns with the door (a key, a quota, an id) and without; nothing is logged.
"""

import asyncio
import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import orjson
import pyarrow as pa
import uvloop
from starlette.types import Scope
from uvicorn.config import Config
from uvicorn.server import ServerState

from benchmarks.serving.apps import KEY, write_keys
from benchmarks.serving.bundles import COLUMNS, NAMES
from benchmarks.tables import keep, rounds
from benchmarks.training import correlated
from elbound import VAEDetector
from service.access.caller import CALLER, Caller
from service.access.local import LocalRules
from service.access.middleware import AccessMiddleware
from service.app import create_app
from service.http import protocol
from service.settings import Settings

CALLERS, WARM_UP = 64, 20
"""At once, and turns that are not counted."""
LIMIT = 0.10


class Wire(asyncio.Transport):
    """Takes an answer and tells when it is whole."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.answered: Callable[[], None] = lambda: None
        self.last = b""

    def write(self, data: Any) -> None:
        self.last = bytes(data)
        if self.last.endswith(b"}"):
            self.answered()

    def get_write_buffer_size(self) -> int:
        return 0

    def close(self) -> None: ...

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Callers:
    """`CALLERS` connections whose callers send the same at once, again and again."""

    def __init__(self, app: Any, settings: Settings, request: bytes) -> None:
        config = Config(app, http="httptools", ws="none", log_config=None, access_log=False, server_header=False)
        config.load()
        reception = protocol.Reception(settings, lambda _: None, lambda: None)
        self.senders = [Sender(reception.protocol(config, ServerState(), {}), request) for _ in range(CALLERS)]

    async def seconds_a_request(self) -> float:
        """CPU time of one turn, in which each caller asks once."""
        loop = asyncio.get_running_loop()
        started = time.process_time()
        await asyncio.gather(*(sender.send(loop) for sender in self.senders))
        spent = time.process_time() - started
        assert all(b'"items"' in sender.wire.last for sender in self.senders)
        return spent / CALLERS

    def hang_up(self) -> None:
        for sender in self.senders:
            sender.connection.connection_lost(None)


class Sender:
    """A connection and its caller, who sends the same again and again."""

    def __init__(self, connection: protocol.ReceivingProtocol, request: bytes) -> None:
        self.connection = connection
        self.request = request
        self.wire = Wire()
        connection.connection_made(self.wire)

    async def send(self, loop: asyncio.AbstractEventLoop) -> None:
        answered = loop.create_future()
        self.wire.answered = lambda: answered.done() or answered.set_result(None)
        self.connection.data_received(self.request)
        await answered


@contextlib.contextmanager
def without_the_door() -> Iterator[None]:
    """Every request is everybody's, costs nothing, and has no id of its own."""
    caller = Caller(LocalRules(any_host=True).everybody)

    def admit(_: AccessMiddleware, scope: Scope) -> None:
        scope[CALLER] = caller

    def nothing(*_: object) -> bytes:  # a mock would cost more than what it stands for
        return b"0"

    with (
        mock.patch.object(AccessMiddleware, "_admit", admit),
        mock.patch.object(Caller, "charge", nothing),
        mock.patch.object(protocol, "request_id_of", nothing),
    ):
        yield


async def by_turns(settings: Settings, bundle: Path, request: bytes, times: int) -> np.ndarray:
    """CPU seconds a request `(times, 2)`: without the door and with it, turn by turn, each first every other time."""
    app = create_app(settings, [bundle])
    found = []
    async with app.router.lifespan_context(app):
        callers = Callers(app, settings, request)
        for turn in range(times + WARM_UP):
            spent = {}
            for with_door in (False, True) if turn % 2 else (True, False):
                with contextlib.nullcontext() if with_door else without_the_door():
                    spent[with_door] = await callers.seconds_a_request()
            found.append((spent[False], spent[True]))
        callers.hang_up()
    return np.array(found[WARM_UP:])


def main() -> None:
    times = rounds("Measure access.", 1_000)
    X = correlated(2_000, COLUMNS)
    body = orjson.dumps([dict(zip(NAMES, X[0].tolist(), strict=True))])
    head = f"POST /score HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = Settings(device="cpu", api_keys_file=str(write_keys(folder, rows_per_s=1e9)), log_level="error")
        for profile in ("fast", "default"):
            VAEDetector(steps=50, profile=profile, device="cpu").fit(pa.table(dict(zip(NAMES, X.T, strict=True)))).save(
                folder / profile
            )
            found = uvloop.run(by_turns(settings, folder / profile, request, times)) * 1e6
            bare, door = np.median(found, axis=0)
            ratio = np.median(found[:, 1] / found[:, 0])
            rows.append([f"`{profile}`", f"{bare:.1f}", f"{door:.1f}", f"{ratio:.3f}", f"{1 + LIMIT:.2f}"])
    keep(
        "access",
        "Keys, quotas and request ids",
        ["detector", "us without", "us with", "ratio", "at most"],
        rows,
        f"CPU time of a request of one row of {COLUMNS} columns: HTTP, scoring and answer, without sockets. "
        f"The middle of {times:,} turns of {CALLERS} callers at once; the ratio is the middle one of those of "
        "neighbouring turns, whose order alternates.",
    )


if __name__ == "__main__":
    main()
