"""A decoder process: reads uploads for the server, one at a time, within a limit on its address space."""

import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from elbound.data.items import TensorItems
from elbound.data.memory import asking
from elbound.data.preprocessor import Preprocessor
from elbound.errors import ElboundError, LimitExceeded
from service.memory.freed import C, give_back
from service.queue.niceness import give_way
from service.settings import Settings
from service.uploads.decoding.channel import Channel

try:
    import resource
except ImportError:  # Windows has no such limits
    resource = None  # type: ignore[assignment]

M_ARENA_MAX = -8
SLACK_BYTES = 8 << 20
"""What an allocator maps beyond what it is asked for."""
MAX_PREPROCESSORS = 32
"""How many a process keeps; the server counts along."""


@dataclass(frozen=True)
class Task:
    """What is decoded: `function` of `service.uploads.decoding.tasks` with its arguments, for the model of a number.

    `preprocessor` comes with the number's first task.
    """

    function: str
    args: tuple[Any, ...]
    number: int
    preprocessor: Preprocessor | None


@dataclass(frozen=True)
class Grant:
    """The process may take so many bytes more: the answer to `Need`, or before a task that is large itself."""

    size: int


@dataclass(frozen=True)
class Need:
    """The process asks for so many bytes beyond its own."""

    size: int


@dataclass(frozen=True)
class Piece:
    """A part of the result; more comes."""

    value: Any


@dataclass(frozen=True)
class Done:
    """The whole result, or the last of it. `grown` says that the process holds more memory than it should keep."""

    value: Any
    grown: bool = False


@dataclass(frozen=True)
class Failed:
    """Why there is no result: an error for the caller, or a traceback for the log."""

    error: ElboundError | None
    log: str = ""


class Limit:
    """The limit on the address space of this process: `free_bytes` beyond what it starts with, more by asking."""

    def __init__(self, channel: Channel, free_bytes: int) -> None:
        self.channel = channel
        self.own_bytes = _mapped_bytes() + free_bytes
        self.bytes = self.own_bytes
        self._set()

    def ask(self, size: int) -> None:
        """Make room for `size` bytes more than are mapped now. Raises LimitExceeded where the server has none."""
        needed = _mapped_bytes() + size + SLACK_BYTES
        if not self.own_bytes or needed <= self.bytes:
            return
        self.channel.send(Need(needed - self.bytes))
        self.raise_by(self.channel.receive()[0])

    def raise_by(self, grant: Grant) -> None:
        self.bytes += grant.size
        self._set()

    @property
    def is_grown(self) -> bool:
        return self.bytes > self.own_bytes

    def _set(self) -> None:
        if self.own_bytes and resource is not None:
            resource.setrlimit(resource.RLIMIT_AS, (self.bytes, resource.RLIM_INFINITY))


def run_decoder(end: socket.socket, settings: Settings, free_bytes: int) -> None:
    """Decode what comes until the server closes the connection."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which then closes the connection
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    give_way()
    torch.set_num_threads(1)
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    pa.set_memory_pool(pa.system_memory_pool())  # others reserve address space far ahead
    if hasattr(C, "mallopt"):
        C.mallopt(M_ARENA_MAX, 1)  # as does glibc for each thread
    channel = Channel(end)
    limit = Limit(channel, free_bytes)
    preprocessors: dict[int, Preprocessor] = {}
    channel.send(Done(None))
    with asking(limit.ask):
        while True:
            try:
                task, files = channel.receive()
            except (EOFError, OSError):
                return
            if isinstance(task, Grant):
                limit.raise_by(task)
                continue
            if task.preprocessor is not None:
                if len(preprocessors) == MAX_PREPROCESSORS:
                    preprocessors.clear()
                preprocessors[task.number] = task.preprocessor
            _answer(channel, task, files, preprocessors[task.number], settings, limit)
            del task, files
            give_back()


def _answer(
    channel: Channel, task: Task, files: list[int], preprocessor: Preprocessor, settings: Settings, limit: Limit
) -> None:
    from service.uploads.decoding.tasks import TASKS

    function: Callable[..., object] = TASKS[task.function]
    try:
        found = function(preprocessor, settings, *task.args, *files)
        if isinstance(found, Iterator):
            for piece in found:
                channel.send(Piece(_sendable(piece)))
            found = None
        channel.send(Done(_sendable(found), limit.is_grown))
    except MemoryError:
        channel.send(Failed(out_of_memory()))
    except ElboundError as error:
        channel.send(Failed(error.with_traceback(None)))
    except Exception:
        channel.send(Failed(None, traceback.format_exc()))


def out_of_memory() -> LimitExceeded:
    """The error of an upload that takes more memory than it announces."""
    return LimitExceeded(
        "the body opens to more than it announces, or takes more memory than there is for one upload",
        code="body_too_large",
        where="body",
    )


def _sendable(value: Any) -> Any:
    """Tensors as arrays, whose memory is sent as it is."""
    if isinstance(value, tuple):
        return tuple(map(_sendable, value))
    if isinstance(value, TensorItems):
        return replace(value, x=value.x.numpy())  # type: ignore[arg-type]
    return value


def received(value: Any) -> Any:
    """What was sent, tensors as tensors."""
    if isinstance(value, tuple):
        return tuple(map(received, value))
    if isinstance(value, TensorItems):
        return replace(value, x=torch.from_numpy(value.x))
    return value


def _mapped_bytes() -> int:
    """The address space of this process; 0 where it is not known."""
    if resource is None or sys.platform != "linux":
        return 0
    return int(Path("/proc/self/statm").read_bytes().split()[0]) * resource.getpagesize()
