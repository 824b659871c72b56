"""Tables from bytes: CSV, Parquet, Arrow IPC and NDJSON.

Cells of CSV are read as text and typed later by the schema, so that one bad cell costs one row. A row that
cannot be read at all is set aside in `bad`, by its place among the rows.
"""

import codecs
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import orjson
import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet

from elbound.data.encodings import is_compact, write_out, written_bytes
from elbound.data.items import keep_error
from elbound.data.memory import announce
from elbound.data.raw import RawTable
from elbound.errors import DecodeError, ItemError, LimitExceeded
from elbound.files.arrow_sizes import MeasuredStream
from elbound.files.csv_head import MAX_HEADER_BYTES, CsvHead, csv_head
from elbound.files.csv_text import CsvText, RaggedRows, csv_options
from elbound.files.json_bounds import MAX_PARSED_DEPTH, MOST_BYTES, HeldRows, check_depth, check_size
from elbound.files.kinds import START_BYTES, as_utf8, check_csv
from elbound.files.long_cells import long_cell

DICTIONARY_BYTES = 1 << 30
"""Text in row groups of Parquet up to this size is read as dictionaries, which Arrow ends at 2 GiB."""


PARQUET_COPIES = 3
"""Of a table that is read: its pages, its columns, and its cells as numbers."""


@dataclass(frozen=True)
class TableLimits:
    """What one table may hold; LimitExceeded names the one that is passed."""

    max_columns: int = 10_000
    max_rows: int = 50_000_000
    max_bytes: int = MOST_BYTES
    max_cell_bytes: int = MOST_BYTES
    max_json_depth: int = MAX_PARSED_DEPTH

    def check(self, *, columns: int = 0, rows: int = 0, size: int = 0) -> None:
        for name, value, limit in (
            ("columns", columns, self.max_columns),
            ("rows", rows, self.max_rows),
            ("bytes when decoded", size, self.max_bytes),
        ):
            if value > limit:
                raise LimitExceeded(f"{value:,} {name}; at most {limit:,} are read", where=name)


NO_LIMITS = TableLimits()


def parse_csv(source: BinaryIO, *, limits: TableLimits = NO_LIMITS) -> RawTable:
    """Comma, semicolon, tab or bar separated text with a header row. Raises DecodeError, LimitExceeded."""
    start = source.read(START_BYTES)
    check_csv(start)
    text_of_marks = as_utf8(source, start)
    source.seek(0)
    source = source if text_of_marks is None else io.BytesIO(text_of_marks.read())
    head = csv_head(source.read(MAX_HEADER_BYTES))
    limits.check(columns=len(head.cells))
    head.check()
    text = CsvText(source, head)
    ragged = RaggedRows(limits.max_rows)
    bad = ragged.bad
    try:
        table = pyarrow.csv.read_csv(text, *csv_options(head, ragged, nameless=True))
    except pa.ArrowException as error:
        limits.check(rows=len(bad))
        raise DecodeError(f"not readable as CSV: {error}") from error
    end = table.num_rows + len(bad) - 1
    if end not in bad or ragged.last != text.last_row:
        raise DecodeError(f"not readable as CSV: a quote is opened in row {end:,} and never closed")
    del bad[end]
    limits.check(rows=table.num_rows + len(bad), size=table.nbytes)
    return RawTable(table=table.select(head.names), bad=bad, notes=_notes(head, table), delimiter=head.delimiter)


def _notes(head: CsvHead, table: pa.Table) -> tuple[str, ...]:
    """What was passed over of a CSV, in words: lines above the header, columns without a name."""
    notes = [f"line {line:,} ({text!r}) stands above the header and is passed over" for line, text in head.above]
    for place in head.nameless:
        filled = len(table) - table.column(head.columns[place]).null_count
        if filled:
            notes.append(
                f"column {place + 1:,} has no name and is left out, with its {filled:,} values; name it to train on it"
            )
    empty = sum(table.column(head.columns[place]).null_count == len(table) for place in head.nameless)
    if empty:
        notes.append(f"{empty:,} column{'s' * (empty > 1)} without a name and without values left out")
    return tuple(notes)


def parse_parquet(source: BinaryIO, *, limits: TableLimits = NO_LIMITS) -> RawTable:
    """A Parquet file. Raises DecodeError, LimitExceeded.

    Text is read as dictionaries and written out once it is known to fit: one long text can stand in every
    row of a very small file.
    """
    with decoding("Parquet"):
        reader = pyarrow.parquet.ParquetFile(source)
        _check_footer(reader, limits)
        text = text_columns(reader)
        source.seek(0)
        reader = pyarrow.parquet.ParquetFile(source, read_dictionary=text)
        tables = [reader.schema_arrow.empty_table()]
        size = 0
        announce(PARQUET_COPIES * _footer_bytes(reader))
        for i in range(reader.num_row_groups):
            tables.append(reader.read_row_group(i))
            tables[-1].validate(full=True)
            size += tables[-1].nbytes
            limits.check(size=size)
        return RawTable(table=plain_table(pa.concat_tables(tables), limits))


def parse_arrow(source: BinaryIO, *, limits: TableLimits = NO_LIMITS) -> RawTable:
    """An Arrow IPC stream or file (Feather 2). Raises DecodeError, LimitExceeded."""
    with decoding("Arrow IPC"):
        stream = pyarrow.ipc.open_stream(MeasuredStream(source, max_bytes=limits.max_bytes))
        limits.check(columns=len(stream.schema))
        return RawTable(table=plain_table(pa.Table.from_batches(_bounded(stream, limits), stream.schema), limits))


def parse_ndjson(source: BinaryIO, *, limits: TableLimits = NO_LIMITS) -> RawTable:
    """One JSON object or array a line; blank lines are passed over, a broken line is one bad row."""
    rows: list[dict[str, object] | list[object]] = []
    bad: dict[int, ItemError] = {}
    held = HeldRows(limits.max_bytes)
    for number, line in enumerate(source, start=1):
        line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        if not line.strip():
            continue
        place = len(rows) + len(bad)
        limits.check(rows=place + 1)
        try:
            row = json_row(line, number, limits)
        except ItemError as error:
            keep_error(bad, place, error)
            continue
        limits.check(columns=len(row))
        held.add(line, row)
        rows.append(row)
    return RawTable(rows=rows, bad=bad)


def json_row(line: bytes, number: int, limits: TableLimits) -> dict[str, object] | list[object]:
    """The row on a line of NDJSON, `number` counted from 1. Raises ItemError."""
    try:
        row = load_json(line, max_json_depth=limits.max_json_depth, max_bytes=limits.max_bytes)
    except (DecodeError, LimitExceeded) as error:
        verb = "has" if error.message.startswith("row ") else "is"
        raise ItemError(f"line {number} {verb} {error.message}", code=error.code, where=f"line {number}") from error
    if not isinstance(row, dict | list):
        raise ItemError(f"line {number} must be an object or an array", code="json_invalid", where=f"line {number}")
    too_long = long_cell(row, limits.max_cell_bytes) if len(line) > limits.max_cell_bytes else None
    if too_long is not None:
        raise too_long
    return row


def load_json(data: bytes, *, max_json_depth: int = MAX_PARSED_DEPTH, max_bytes: int = MOST_BYTES) -> object:
    """The document in `data`. Numbers beyond float64 (1e400) are infinite, which is their cell's error.

    `max_bytes` is what its cells may take once they are parsed. Raises DecodeError, for a bare NaN or Infinity too
    (which Python's json.dumps writes), and LimitExceeded.
    """
    check_size(data, max_bytes)
    check_depth(data, max_json_depth)
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        reason = error.msg  # the error itself holds all of the text
    constants: list[NotJson] = []

    def constant(name: str) -> NotJson:
        constants.append(NotJson(name))
        return constants[-1]

    try:
        document = json.loads(data, parse_constant=constant)
    except (ValueError, RecursionError):
        raise DecodeError(f"not JSON: {reason}", code="json_invalid") from None
    if constants:
        raise _refused_constant(document, constants[0].name)
    return document


@dataclass(frozen=True)
class NotJson:
    """A bare NaN, Infinity or -Infinity in a document."""

    name: str


def _refused_constant(document: object, name: str) -> DecodeError:
    """The error of a document with the constant `name`, which names the first of its rows that has one."""
    rows = next(iter(document.values())) if isinstance(document, dict) and len(document) == 1 else document
    for i, row in enumerate(rows if isinstance(rows, list) else []):
        if isinstance(row, dict | list) and _has_constant(row):
            return DecodeError(f"row {i}: {name} is not JSON, write null", code="json_invalid", where=f"row {i}")
    return DecodeError(f"not JSON: write null for {name}", code="json_invalid")


def _has_constant(value: object) -> bool:
    if isinstance(value, dict | list):
        return any(map(_has_constant, value.values() if isinstance(value, dict) else value))
    return isinstance(value, NotJson)


def _footer_bytes(reader: pyarrow.parquet.ParquetFile) -> int:
    """What the footer says that the file opens to."""
    found = reader.metadata
    groups = (found.row_group(i) for i in range(found.num_row_groups))
    return int(max(found.num_rows * found.num_columns * 8, sum(group.total_byte_size for group in groups)))


def _check_footer(reader: pyarrow.parquet.ParquetFile, limits: TableLimits) -> None:
    """Raise LimitExceeded for what the footer announces.

    A broken footer ends the whole process where the metadata of a column chunk are asked for: they are not.
    """
    found = reader.metadata
    groups = [found.row_group(i) for i in range(found.num_row_groups)]
    rows = max(found.num_rows, sum(group.num_rows for group in groups))
    limits.check(columns=found.num_columns, rows=rows)
    limits.check(size=max(rows * found.num_columns * 8, _footer_bytes(reader)))


def text_columns(reader: pyarrow.parquet.ParquetFile) -> list[str]:
    """The columns of text to read as dictionaries, where that is possible: one text may stand in every row."""
    found = reader.metadata
    if any(found.row_group(i).total_byte_size > DICTIONARY_BYTES for i in range(found.num_row_groups)):
        return []
    leaves = [reader.schema.column(i) for i in range(found.num_columns)]
    return [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]


def plain_table(table: pa.Table, limits: TableLimits = NO_LIMITS) -> pa.Table:
    """Compact columns written out, once they are known to fit. Raises LimitExceeded."""
    size = table.nbytes
    columns = []
    for column in table.columns:
        if is_compact(column.type):
            written = written_bytes(column)
            size += written
            limits.check(size=size)
            announce(2 * written)
            column = write_out(column)
        columns.append(column)
    return pa.Table.from_arrays(columns, names=table.column_names)


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


class decoding:  # noqa: N801 - reads as a statement
    """Everything that Arrow raises on bad bytes becomes DecodeError, for sizes too that no memory has."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, MemoryError) and not _is_absurd(error):  # Arrow's own is one too
            raise LimitExceeded(
                f"the {self.name} takes more memory than it announces, or more than there is", where="body"
            ) from None
        if isinstance(error, pa.ArrowException | MemoryError | OSError | ValueError | NotImplementedError):
            raise DecodeError(f"not readable as {self.name}: {error}") from error


def _is_absurd(error: MemoryError) -> bool:
    """Whether more was asked for than any table takes: the file is broken."""
    found = re.search(r"size (\d{1,30})", str(error))
    return found is not None and int(found[1]) > MOST_BYTES
