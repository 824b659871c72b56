"""The decoder processes of a server, and how an upload is given to one of them."""

import asyncio
import contextlib
import logging
import multiprocessing
import pickle
import socket
import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import count
from multiprocessing import forkserver
from multiprocessing.context import BaseContext
from typing import Any
from weakref import WeakKeyDictionary

from elbound.data.preprocessor import Preprocessor
from service.errors import DeadlineExceeded, DecoderFailed
from service.memory.budget import Budget, Holding
from service.settings import Settings
from service.uploads.decoding.channel import Channel
from service.uploads.decoding.turns import Turns
from service.uploads.decoding.worker import (
    MAX_PREPROCESSORS,
    Done,
    Failed,
    Grant,
    Need,
    Piece,
    Task,
    out_of_memory,
    received,
    run_decoder,
)

FREE_BYTES = 64 << 20
"""What a decoder process may take beside the budget for requests: most uploads need no more."""
START_SECONDS = 60
PRELOADED = ["service.uploads.decoding.preload"]

logger = logging.getLogger("elbound")


class Decoders:
    """`settings.decoders` processes, each with a thread that waits for it.

    A process that takes longer than a task's deadline, or more memory than it was granted, is ended, and another one
    takes its place: it is a copy of one that has everything loaded, so that takes some ten milliseconds.
    """

    def __init__(self, settings: Settings, budget: Budget) -> None:
        self.settings = settings
        self.budget = budget
        self.turns = Turns(settings.decoders)
        self.started = 0
        """Processes that were started so far."""
        self._threads = ThreadPoolExecutor(settings.decoders, "elbound-decode")
        self._local = threading.local()
        self._numbers: WeakKeyDictionary[Preprocessor, int] = WeakKeyDictionary()
        self._next_number = count()
        self._processes: set[Process] = set()
        self._lock = threading.Lock()
        self._context = _context()

    async def start(self) -> None:
        """Start all processes, so that no upload waits for one. Raises DecoderFailed."""
        loop, ready = asyncio.get_running_loop(), threading.Barrier(self.settings.decoders)

        def begin() -> None:
            self._process()
            with contextlib.suppress(threading.BrokenBarrierError):
                ready.wait(START_SECONDS)  # or one thread would start them all

        await asyncio.gather(*(loop.run_in_executor(self._threads, begin) for _ in range(self.settings.decoders)))

    def stop(self) -> None:
        """End all processes."""
        for process in list(self._processes):
            process.interrupt()
        self._threads.shutdown(cancel_futures=True)
        for process in list(self._processes):
            process.kill()

    async def run(
        self,
        preprocessor: Preprocessor,
        function: str,
        *args: object,
        key: Hashable,
        until: float,
        holding: Holding,
        files: tuple[int, ...] = (),
        on_piece: Callable[[Any], object] | None = None,
    ) -> Any:
        """What `function` of `service.uploads.decoding.tasks` makes of `args` and the open `files` for a model.

        Callers of one `key` share their turns. `until` is on the monotonic clock. What it takes beyond a process's
        own memory is held by `holding`, as is the result. `on_piece` is given the parts of a result, in a thread.
        Raises what the function raises, LimitExceeded, MemoryFull, DeadlineExceeded.
        """
        task = Task(function, tuple(map(_as_buffers, args)), self._number(preprocessor), preprocessor)
        order = Order(task, files, until, holding, on_piece)
        async with self.turns.of(key, until):
            work = asyncio.wrap_future(self._threads.submit(self._decode, order))
            try:
                return await asyncio.shield(work)
            except asyncio.CancelledError:  # nobody waits any more; the process is free when it has stopped
                order.interrupt()
                with contextlib.suppress(Exception):
                    await work
                raise

    def _decode(self, order: "Order") -> Any:
        process = self._process()
        order.begin(process)
        try:
            return process.run(order)
        finally:
            order.end()
            if process.ended:
                self._processes.discard(process)
            order.holding.give(order.granted_bytes)

    def _number(self, preprocessor: Preprocessor) -> int:
        with self._lock:
            return self._numbers.setdefault(preprocessor, next(self._next_number))

    def _process(self) -> "Process":
        """The process of this thread."""
        found: Process | None = getattr(self._local, "process", None)
        if found is None or found.ended:
            found = self._local.process = Process(self._context, self.settings)
            self._processes.add(found)
            self.started += 1
        return found


@dataclass(eq=False)
class Order:
    """One task on its way, and what it took: `granted_bytes` beyond the process's own memory."""

    task: Task
    files: tuple[int, ...]
    until: float
    holding: Holding
    on_piece: Callable[[Any], object] | None
    granted_bytes: int = 0
    _process: "Process | None" = None
    _is_over: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, process: "Process") -> None:
        """`process` works on it from now on."""
        with self._lock:
            self._process = process
            if self._is_over:
                process.interrupt()

    def end(self) -> None:
        """Nobody works on it any more."""
        with self._lock:
            self._process = None

    def interrupt(self) -> None:
        """End the process that works on it, and no other: it may have ended, and its process be busy for another."""
        with self._lock:
            self._is_over = True
            if self._process is not None:
                self._process.interrupt()

    @property
    def sent_bytes(self) -> int:
        """What its arguments come to."""
        return sum(map(_size, self.task.args))

    def grant(self, size: int) -> None:
        """Raises LimitExceeded, MemoryFull."""
        self.holding.take(size)
        self.granted_bytes += size


class Process:
    """One decoder process, used by one thread."""

    def __init__(self, context: BaseContext, settings: Settings) -> None:
        ours, theirs = socket.socketpair()
        self.channel = Channel(ours)
        self.ended = False
        self.known: set[int] = set()
        self._process = context.Process(  # type: ignore[attr-defined]
            target=run_decoder, args=(theirs, settings, FREE_BYTES), daemon=True, name="elbound-decoder"
        )
        self._process.start()
        theirs.close()
        ours.settimeout(START_SECONDS)
        try:
            self.channel.receive()
        except (EOFError, OSError) as error:
            self.kill()
            raise DecoderFailed("a process to decode uploads could not be started") from error

    def run(self, order: Order) -> Any:
        """The result of `order`. Whatever keeps the process from answering ends it."""
        try:
            self._allow_until(order.until)
            if order.sent_bytes > FREE_BYTES // 4:
                order.grant(order.sent_bytes)
                self.channel.send(Grant(order.sent_bytes))
            self.channel.send(self._with_known(order.task), order.files)
            answer = self._answer(order)
        except (EOFError, ConnectionError):
            self.kill()
            raise out_of_memory() from None
        except TimeoutError:
            self.kill()
            raise DeadlineExceeded("decoding the upload took longer than its deadline") from None
        except BaseException:
            self.kill()
            raise
        if isinstance(answer, Done):
            if answer.grown:  # its memory goes back to the system with it
                self.kill()
            return received(answer.value)
        if answer.error is not None:
            raise answer.error
        logger.error("an upload could not be decoded\n%s", answer.log)
        raise DecoderFailed("the server failed; its log has the reason")

    def _answer(self, order: Order) -> Done | Failed:
        """The last message of the process; those before it are seen to."""
        while True:
            self._allow_until(order.until)
            message, _ = self.channel.receive(order.holding.take)
            if isinstance(message, Need):
                order.grant(message.size)
                self.channel.send(Grant(message.size))
            elif isinstance(message, Piece):
                assert order.on_piece is not None
                order.on_piece(message.value)
            else:
                assert isinstance(message, Done | Failed)
                return message

    def _allow_until(self, until: float) -> None:
        self.channel.socket.settimeout(max(0.001, until - time.monotonic()))

    def _with_known(self, task: Task) -> Task:
        """Without the preprocessor where the process has it."""
        if task.number in self.known:
            return replace(task, preprocessor=None)
        if len(self.known) == MAX_PREPROCESSORS:
            self.known.clear()
        self.known.add(task.number)
        return task

    def interrupt(self) -> None:
        """End the process; its thread finds that it is gone."""
        self._process.kill()

    def kill(self) -> None:
        """End the process and wait until it is gone."""
        self.ended = True
        self._process.kill()
        self.channel.close()
        self._process.join()


def _as_buffers(arg: object) -> object:
    """Bytes, alone or in a list, so that they are sent as they are and not copied first."""
    if isinstance(arg, bytes):
        return pickle.PickleBuffer(arg)
    return list(map(_as_buffers, arg)) if isinstance(arg, list) else arg


def _size(arg: object) -> int:
    if isinstance(arg, pickle.PickleBuffer):
        return arg.raw().nbytes
    return sum(map(_size, arg)) if isinstance(arg, list) else 0


def _context() -> BaseContext:
    """Copies of one process that has loaded everything, where the system can copy."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    forkserver.ensure_running()
    return context
