"""Answers that are written piece by piece: NDJSON, CSV, Arrow.

Each has the header (what holds for all items) and the summary (what they come to). An answer that ends without its
summary is not whole.
"""

from collections.abc import Mapping
from typing import Protocol

import orjson
import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc

from elbound.calibration.results import result_table
from elbound.errors import ElboundError
from service.answers.documents import item_documents
from service.http.error_answers import error_body
from service.http.media_types import ARROW, CSV, NDJSON
from service.scoring.score import Answer

HEADER, SUMMARY = "header", "summary"
"""Trailing columns of CSV: JSON, on the first row and on the last."""
ARROW_HEADER, ARROW_SUMMARY = b"elbound.header", b"elbound.summary"
"""Metadata of an Arrow stream's schema, and of its last batch, which has no rows."""

Document = Mapping[str, object]


class Writer(Protocol):
    """Bytes of an answer, in the order of the calls: `items` as often as needed, then `end` or `fail`."""

    def items(self, answer: Answer, start: int) -> bytes:
        """A piece whose first item is at the place `start` of the upload."""

    def end(self, summary: Document) -> bytes:
        """The rest of a whole answer."""

    def fail(self, error: ElboundError) -> bytes:
        """What is left to say where the items after the last piece cannot be answered."""


class NdjsonWriter:
    """The header, then a record an item, then `{"summary": ...}` or `{"error": ...}`."""

    def __init__(self, header: Document) -> None:
        self._first = orjson.dumps(header) + b"\n"

    def items(self, answer: Answer, start: int) -> bytes:
        first, self._first = self._first, b""
        return first + b"".join(orjson.dumps(item) + b"\n" for item in item_documents(answer, start))

    def end(self, summary: Document) -> bytes:
        return self._first + orjson.dumps(summary) + b"\n"

    def fail(self, error: ElboundError) -> bytes:
        return self._first + orjson.dumps(error_body(error.code, error.message, error.where)) + b"\n"


class CsvWriter:
    """A row an item; the last columns are `header`, on the first row, and `summary`, on the last."""

    def __init__(self, header: Document) -> None:
        self._sink = Sink()
        self._writer: pyarrow.csv.CSVWriter | None = None
        self._header: str | None = orjson.dumps(header).decode()
        self._last: pa.Table | None = None

    def items(self, answer: Answer, start: int) -> bytes:
        self._write(None)
        table = _rows(answer, start)
        header = [self._header, *[None] * (table.num_rows - 1)] if self._header else None
        self._header = None
        self._last = table.append_column(HEADER, _texts(header, table.num_rows))
        return self._sink.take()

    def end(self, summary: Document) -> bytes:
        self._write(orjson.dumps(summary).decode())
        return self._sink.take()

    def fail(self, error: ElboundError) -> bytes:  # noqa: ARG002 - the format has no place for it
        self._write(None)
        return self._sink.take()

    def _write(self, summary: str | None) -> None:
        """Write what was held back: only then it is known whether its last row is the last of all."""
        if self._last is None:
            return
        n = self._last.num_rows
        table = self._last.append_column(SUMMARY, _texts([*[None] * (n - 1), summary] if summary else None, n))
        if self._writer is None:
            self._writer = pyarrow.csv.CSVWriter(self._sink, table.schema)
        self._writer.write_table(table)


class ArrowWriter:
    """A row an item; the header is metadata of the schema, the summary of the last batch, which has no rows."""

    def __init__(self, header: Document) -> None:
        self._sink = Sink()
        self._writer: pyarrow.ipc.RecordBatchStreamWriter | None = None
        self._schema: pa.Schema | None = None
        self._header = orjson.dumps(header)

    def items(self, answer: Answer, start: int) -> bytes:
        table = _rows(answer, start)
        if self._writer is None:
            self._schema = table.schema.with_metadata({ARROW_HEADER: self._header})
            self._writer = pyarrow.ipc.new_stream(self._sink, self._schema)
        self._writer.write_table(table)
        return self._sink.take()

    def end(self, summary: Document) -> bytes:
        assert self._writer is not None
        assert self._schema is not None
        nothing = pa.RecordBatch.from_arrays([pa.array([], kind) for kind in self._schema.types], schema=self._schema)
        self._writer.write_batch(nothing, custom_metadata={ARROW_SUMMARY: orjson.dumps(summary)})
        self._writer.close()
        return self._sink.take()

    def fail(self, error: ElboundError) -> bytes:  # noqa: ARG002 - the format has no place for it
        return self._sink.take()


class Sink:
    """What was written to it since somebody took it."""

    closed = False

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None: ...

    def close(self) -> None:
        self.closed = True

    def take(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)


WRITERS: dict[str, type[NdjsonWriter] | type[CsvWriter] | type[ArrowWriter]] = {
    NDJSON: NdjsonWriter,
    CSV: CsvWriter,
    ARROW: ArrowWriter,
}


def _rows(answer: Answer, start: int) -> pa.Table:
    groups = answer.scorer.calibration.item_groups
    return result_table(answer.items, answer.scored, answer.decisions, groups, start=start)


def _texts(values: list[str | None] | None, n: int) -> pa.Array:
    return pa.nulls(n, pa.string()) if values is None else pa.array(values, pa.string())
