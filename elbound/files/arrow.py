"""Arrow IPC: announced sizes are added up before anything is opened."""

import io
import struct
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet

from elbound.data.encodings import written_bytes
from elbound.data.memory import announce
from elbound.data.raw import RawTable
from elbound.errors import DecodeError, LimitExceeded
from elbound.files.limits import NO_LIMITS, TableLimits, decoding, plain_table

MAGIC = b"ARROW1"
MAGIC_BYTES = 8
CONTINUES = b"\xff\xff\xff\xff"
RECORD_BATCH, DICTIONARY_BATCH = 3, 2
COPIES = 2
"""Of the columns of a batch: as they are opened, and as the cells of items."""
INT32, INT64, UINT16, UINT32 = (struct.Struct(kind) for kind in ("<i", "<q", "<H", "<I"))


class MeasuredStream(io.RawIOBase):
    """The bytes of an Arrow IPC stream for Arrow to read, message by message: each is measured before it is passed on.

    `max_bytes` bounds a message as it comes and as it opens. A file of the file format is read as the stream that it
    contains. Raises LimitExceeded, DecodeError.
    """

    def __init__(self, source: BinaryIO, *, max_bytes: int) -> None:
        self.source = source
        self.max_bytes = max_bytes
        self._left = memoryview(b"")
        self._begun = self._passed = self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "memoryview | bytearray") -> int:  # type: ignore[override]
        view = memoryview(buffer).cast("B")
        filled = 0
        while filled < len(view):
            if not self._left and not self._read_message():
                break
            part = self._left[: len(view) - filled]
            view[filled : filled + len(part)] = part
            self._left = self._left[len(part) :]
            filled += len(part)
        return filled

    def read(self, size: int = -1) -> bytes:
        """A part of one message where that is enough, which saves a copy."""
        if not self._left:
            self._read_message()
        if 0 <= size <= len(self._left):
            found = bytes(self._left[:size])
            self._left = self._left[size:]
            return found
        return super().read(size) or b""

    def _read_message(self) -> bool:
        """Take in the next message; False at the end."""
        if self._ended:
            return False
        prefix = self.source.read(4)
        if not self._begun and MAGIC.startswith(prefix) and prefix:
            self.source.read(MAGIC_BYTES - 4)
            prefix = self.source.read(4)
        self._begun = True
        if prefix == CONTINUES:
            prefix += self.source.read(4)
        length = INT32.unpack(prefix[-4:])[0] if len(prefix) >= 4 else 0
        if length <= 0:  # the end, or what Arrow will complain of
            self._ended = True
            self._left = memoryview(prefix)
            return bool(prefix)
        self._check(length)
        head = self.source.read(length)
        if len(head) < length:
            self._ended = True
            self._left = memoryview(prefix + head)
            return True
        try:
            message = _Table.root(head)
            body_bytes = message.int64(3)
            self._check(body_bytes)
            body = self.source.read(body_bytes)
            opened = _opened_bytes(message, body)
        except (struct.error, ValueError, IndexError) as error:
            raise DecodeError("not readable as Arrow IPC: a message is broken", where="body") from error
        self._check(opened)
        announce(COPIES * opened)
        self._left = memoryview(b"".join((prefix, head, body)))
        self._passed = True
        return True

    def _check(self, size: int) -> None:
        if size < 0:
            raise DecodeError("not readable as Arrow IPC: a message of negative size", where="body")
        if size > self.max_bytes and not self._passed:
            raise DecodeError(f"not readable as Arrow IPC: it begins with a message of {size:,} bytes", where="body")
        if size > self.max_bytes:
            raise LimitExceeded(
                f"a part of the body has or opens to {size:,} bytes; at most {self.max_bytes:,} are read at once",
                where="body",
            )


def _opened_bytes(message: "_Table", body: bytes) -> int:
    """What the buffers of a message come to, once they are opened."""
    kind = message.uint8(1)
    batch = message.table(2)
    if batch is not None and kind == DICTIONARY_BATCH:
        batch = batch.table(1)
    elif kind != RECORD_BATCH:
        return 0
    if batch is None or batch.table(3) is None:
        return len(body)
    places, lengths = batch.pairs(2)
    total = 0
    for place in places[lengths > 0].tolist():
        (opened,) = INT64.unpack_from(body, place)
        total += max(0, opened)
    return total + len(body)


class _Table:
    """A table of a flatbuffer, of which only what is needed here is read."""

    def __init__(self, data: bytes, place: int) -> None:
        self.data = data
        self.place = place
        self.fields = place - INT32.unpack_from(data, place)[0]
        if not 0 <= self.fields <= len(data) - 4:
            raise ValueError("a table outside of its message")
        self.size = UINT16.unpack_from(data, self.fields)[0]

    @classmethod
    def root(cls, data: bytes) -> "_Table":
        return cls(data, UINT32.unpack_from(data, 0)[0])

    def _at(self, field: int) -> int | None:
        """Where a field lies; None where it has its default."""
        entry = 4 + 2 * field
        offset = UINT16.unpack_from(self.data, self.fields + entry)[0] if entry + 2 <= self.size else 0
        return self.place + offset if offset else None

    def uint8(self, field: int) -> int:
        place = self._at(field)
        return 0 if place is None else self.data[place]

    def int64(self, field: int) -> int:
        place = self._at(field)
        return 0 if place is None else int(INT64.unpack_from(self.data, place)[0])

    def table(self, field: int) -> "_Table | None":
        place = self._at(field)
        return None if place is None else _Table(self.data, place + UINT32.unpack_from(self.data, place)[0])

    def pairs(self, field: int) -> tuple[np.ndarray, np.ndarray]:
        """The two columns of a vector of pairs of int64."""
        place = self._at(field)
        if place is None:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        place += UINT32.unpack_from(self.data, place)[0]
        count = UINT32.unpack_from(self.data, place)[0]
        pairs = np.frombuffer(self.data, "<i8", 2 * count, place + 4).reshape(-1, 2)
        return pairs[:, 0], pairs[:, 1]


def parse_arrow(source: BinaryIO, *, limits: TableLimits = NO_LIMITS) -> RawTable:
    """An Arrow IPC stream or file (Feather 2). Raises DecodeError, LimitExceeded."""
    with decoding("Arrow IPC"):
        stream = pyarrow.ipc.open_stream(MeasuredStream(source, max_bytes=limits.max_bytes))
        limits.check(columns=len(stream.schema))
        return RawTable(table=plain_table(pa.Table.from_batches(_bounded(stream, limits), stream.schema), limits))


def _bounded(batches: Iterator[pa.RecordBatch], limits: TableLimits) -> list[pa.RecordBatch]:
    kept = []
    rows = size = 0
    for batch in batches:
        rows += batch.num_rows
        limits.check(rows=rows)
        batch.validate()
        views = (column for column in batch.columns if pa.types.is_string_view(column.type))
        limits.check(size=size + sum(written_bytes(pa.chunked_array([column])) for column in views))
        batch.validate(full=True)  # before `nbytes`, which ends the whole process where a batch is broken
        size += batch.nbytes
        limits.check(size=size)
        kept.append(batch)
    return kept
