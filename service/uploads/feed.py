"""Bytes that arrive on the event loop, as a file that a thread reads."""

import asyncio
import io
import threading
import time
import zlib
from collections import deque

from elbound.errors import ElboundError, LimitExceeded
from service.http.body import WINDOW_BYTES, body_too_large

FEED_BYTES = 4 << 20
"""What may wait to be read; beyond, the sender is not listened to."""
PACKED_BYTES = 1 << 18


class BrokenGzip(OSError):
    """The bytes are no gzip, or it ends too early."""


class Feed(io.RawIOBase):
    """A body of at most `max_bytes`. The event loop puts in, and waits while it is full; one thread reads.

    A read is filled unless the body ends, so that what is read never depends on how the body was cut.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, max_bytes: int) -> None:
        self.loop = loop
        self.max_bytes = max_bytes
        self.received_bytes = 0
        self.waited_seconds = 0.0
        """How long the reader waited for the sender."""
        self.dropping = False
        """Whether nobody reads any more."""
        self._chunks: deque[memoryview] = deque()
        self._size = 0
        self._ended = False
        self._error: ElboundError | None = None
        self._aborted: ElboundError | None = None
        self._changed = threading.Condition()
        self._room = asyncio.Event()
        self._sender_waits = False

    # In the event loop
    async def put(self, data: bytes) -> None:
        """Take more of the body; what passes `max_bytes` ends it with LimitExceeded."""
        self.received_bytes += len(data)
        if self.received_bytes > self.max_bytes:
            self.end(body_too_large(f"more than {self.max_bytes:,}", self.max_bytes))
        with self._changed:
            if self.dropping or self._ended or not data:
                return
            self._chunks.append(memoryview(data))
            self._size += len(data)
            self._changed.notify()
            if self._size < FEED_BYTES:
                return
            self._sender_waits = True
            self._room.clear()
        await self._room.wait()

    def end(self, error: ElboundError | None = None) -> None:
        """No more comes; `error` says why where that is no good end, and is raised after what came."""
        with self._changed:
            if not self._ended:
                self._ended, self._error = True, error
            self._changed.notify()

    def abort(self, error: ElboundError) -> None:
        """Whoever reads gets `error` at once, and what still comes is dropped."""
        with self._changed:
            self._aborted = self._aborted or error
            self.dropping = True
            self._chunks.clear()
            self._size = 0
            self._changed.notify_all()
        self._room.set()

    # In a thread
    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "memoryview | bytearray") -> int:  # type: ignore[override]
        view = memoryview(buffer).cast("B")
        filled = 0
        while filled < len(view):
            with self._changed:
                if not (self._chunks or self._ended or self._aborted):
                    self._wait()
                if self._aborted is not None:
                    raise self._aborted
                if not self._chunks:
                    if self._error is not None and not filled:
                        raise self._error
                    break
                chunk = self._chunks.popleft()
                part = chunk[: len(view) - filled]
                if len(part) < len(chunk):
                    self._chunks.appendleft(chunk[len(part) :])
                self._size -= len(part)
                if self._sender_waits and self._size <= FEED_BYTES // 2:
                    self._sender_waits = False
                    self._wake_sender()
            view[filled : filled + len(part)] = part
            filled += len(part)
        return filled

    def _wait(self) -> None:
        started = time.perf_counter()
        while not (self._chunks or self._ended or self._aborted):
            self._changed.wait()
        self.waited_seconds += time.perf_counter() - started

    def _wake_sender(self) -> None:
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._room.set)


class Unpacked(io.RawIOBase):
    """What a gzip of one or several members opens to, at most `max_bytes`. Raises BrokenGzip, LimitExceeded."""

    def __init__(self, packed: io.RawIOBase, *, max_bytes: int) -> None:
        self.packed = packed
        self.max_bytes = max_bytes
        self._size = 0
        self._held = memoryview(b"")
        self._window = WINDOW_BYTES
        self._member: zlib._Decompress | None = None
        self._failure: OSError | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "memoryview | bytearray") -> int:  # type: ignore[override]
        view = memoryview(buffer).cast("B")
        filled = 0
        while filled < len(view) and self._failure is None:
            try:
                data = self._unpack(len(view) - filled)
            except BrokenGzip as error:  # what was whole before it is given first
                self._failure = error
                break
            if not data:
                break
            view[filled : filled + len(data)] = data
            filled += len(data)
        if self._failure is not None and not filled:
            raise self._failure
        self._size += filled
        if self._size > self.max_bytes:
            raise LimitExceeded(
                f"the body opens to more than {self.max_bytes:,} bytes", code="body_too_large", where="body"
            )
        return filled

    def _unpack(self, size: int) -> bytes:
        """At least one byte; none at the end."""
        while True:
            self._held = self._held or memoryview(self.packed.read(PACKED_BYTES) or b"")
            if not self._held and self._member is None:
                return b""
            if self._member is None:
                self._member, self._window = zlib.decompressobj(wbits=31), WINDOW_BYTES
            at_end = not self._held
            piece = self._held[: self._window]
            try:
                data = self._member.decompress(piece, size)
            except zlib.error as error:
                raise BrokenGzip(f"the body is not readable as gzip: {error}") from error
            left = len(self._member.unused_data if self._member.eof else self._member.unconsumed_tail)
            self._held = self._held[len(piece) - left :]
            self._window *= 2
            if self._member.eof:
                self._member = None
            if data:
                return data
            if at_end and self._member is not None:
                raise BrokenGzip("the gzip body is truncated")
