"""Table files in pieces of a fixed number of rows: for files larger than memory, and runs that are continued.

What a piece holds depends on the file and on the number of rows alone, not on which pieces are wanted.
"""

import codecs
import io
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet

from elbound.data.csvstream import csv_pieces, first_bytes
from elbound.data.encodings import written_bytes
from elbound.data.formats import NO_LIMITS, RawTable, TableLimits, decoding, json_row, plain_table, text_columns
from elbound.data.jsonbounds import HeldRows
from elbound.data.kinds import check_binary
from elbound.data.partitions import Partitions, with_partitions
from elbound.data.pieces import Cutter, TablePiece, Wanted
from elbound.data.readers import (
    BROKEN_FILE,
    KIND_OF,
    WITHOUT_HEADER,
    check_suffix,
    csv_line,
    open_bytes,
    packed_suffix,
)
from elbound.errors import DataError, DecodeError, ItemError, LimitExceeded, SchemaError

INDEXED = (".parquet", ".arrow", ".ipc", ".feather")
"""Suffixes of files that may have their index at the end."""
ARROW_FILE = b"ARROW1"
MAX_LINE_BYTES = 64 << 20
PARQUET_BUFFER_BYTES = 1 << 20
Check = Callable[[pa.Table], None]


def table_pieces(
    path: Path, *, rows: int, wanted: Wanted, check: Check, partitions: Partitions | None = None
) -> Iterator[TablePiece]:
    """The rows of a table file, `rows` at a time, with the columns of its folder (`partitions`).

    Those of a piece that is not `wanted` are passed over.

    `check` is given an empty table of the file's columns before any row, where the format has a header. A file
    that breaks off gives the rows before the break and raises DecodeError; a row group of Parquet that cannot be
    read costs the pieces it lies in. Raises UnsupportedMedia, SchemaError. Messages do not name the file.
    """
    given = partitions or {}

    def check_whole(head: pa.Table) -> None:
        check(with_partitions(RawTable(table=head), given).table)

    for piece in _file_pieces(path, rows=rows, wanted=wanted, check=check_whole):
        try:
            raw = None if piece.raw is None else with_partitions(piece.raw, given)
        except SchemaError as error:
            yield replace(piece, raw=None, error=error)
        else:
            yield replace(piece, raw=raw)


def _file_pieces(path: Path, *, rows: int, wanted: Wanted, check: Check) -> Iterator[TablePiece]:
    suffix = check_suffix(path)
    try:
        with _seekable(path) if suffix in INDEXED else open_bytes(path) as source:
            if suffix in KIND_OF:
                check_binary(first_bytes(cast("io.BufferedReader", source)), KIND_OF[suffix])
            if suffix == ".parquet":
                yield from parquet_pieces(source, rows=rows, wanted=wanted, check=check)
            elif suffix in INDEXED:
                yield from arrow_pieces(source, rows=rows, wanted=wanted, check=check)
            elif suffix in WITHOUT_HEADER:
                yield from ndjson_pieces(source, rows=rows, wanted=wanted)
            else:
                line_of = partial(csv_line, path)
                yield from csv_pieces(source, rows=rows, wanted=wanted, check=check, line_of=line_of)
    except BROKEN_FILE as error:
        raise DecodeError(f"{path} cannot be read: {error}", where=str(path)) from error


def parquet_rows(path: Path) -> int:
    """How many rows the footer of a Parquet file counts. Raises DecodeError."""
    with decoding("Parquet"):
        rows: int = pyarrow.parquet.read_metadata(path).num_rows
        return rows


def parquet_pieces(
    source: BinaryIO, *, rows: int, wanted: Wanted, check: Check, limits: TableLimits = NO_LIMITS
) -> Iterator[TablePiece]:
    """The rows of a Parquet file; row groups in which nothing is wanted are not read.

    A piece whose text passes the `max_bytes` of `limits` when it is written out cannot be read. Raises DecodeError,
    LimitExceeded.
    """
    with decoding("Parquet"):
        reader = pyarrow.parquet.ParquetFile(source, buffer_size=PARQUET_BUFFER_BYTES)
        found = reader.metadata
        limits.check(columns=found.num_columns)
        counts = [found.row_group(i).num_rows for i in range(found.num_row_groups)]
        head = plain_table(reader.schema_arrow.empty_table())
        if limits is not NO_LIMITS:
            text = text_columns(reader)
            source.seek(0)
            reader = pyarrow.parquet.ParquetFile(source, buffer_size=PARQUET_BUFFER_BYTES, read_dictionary=text)
    if sum(counts) != found.num_rows or min(counts, default=0) < 0:
        raise DecodeError(
            f"not readable as Parquet: the footer counts {found.num_rows:,} rows, its row groups {sum(counts):,}"
        )
    check(head)
    groups = RowGroups(reader, counts, batch_rows=rows, limits=limits)
    for start in range(0, max(1, found.num_rows), rows):
        n = min(rows, found.num_rows - start)
        if not wanted(start // rows):
            yield TablePiece(start, n)
            continue
        try:
            yield TablePiece(start, n, RawTable(table=groups.read(start, n, head), start=start))
        except DataError as error:
            yield TablePiece(start, n, error=error)


class RowGroups:
    """Ranges of rows of a Parquet file, asked for in ascending order and decoded batch by batch.

    Batches begin with their row group, so that where a broken one ends does not depend on what is asked for.
    """

    def __init__(
        self, reader: pyarrow.parquet.ParquetFile, counts: list[int], *, batch_rows: int, limits: TableLimits
    ) -> None:
        self.reader = reader
        self.limits = limits
        self.counts = counts
        self.batch_rows = batch_rows
        self.group = -1

    def read(self, start: int, n: int, head: pa.Table) -> pa.Table:
        """The `n` rows from `start` on. Raises DecodeError, which says which row group and rows are broken."""
        parts = [head]
        first = 0
        try:
            for group, count in enumerate(self.counts):
                low, high = max(start, first), min(start + n, first + count)
                if low < high:
                    parts.append(self._read(group, low - first, high - first))
                first += count
        except DecodeError as error:
            last = start + n - 1
            raise DecodeError(f"rows {start:,} to {last:,}: {error.message}", code=error.code) from error
        return pa.concat_tables(parts)

    def _read(self, group: int, low: int, high: int) -> pa.Table:
        if group != self.group:
            self.group, self.done = group, 0
            self.error: DecodeError | None = None
            self.held: list[pa.Table] = []
            self.batches = self.reader.iter_batches(self.batch_rows, row_groups=[group])
        while self.done < high:
            self.held.append(self._next(group))
            self.done += self.held[-1].num_rows
            if self.done <= low:
                self.held.clear()
        table = pa.concat_tables(self.held)
        first = self.done - table.num_rows
        self.held = [table.slice(high - first)]
        return table.slice(low - first, high - low)

    def _next(self, group: int) -> pa.Table:
        if self.error is not None:
            raise self.error
        try:
            with decoding("Parquet"):
                batch = next(self.batches, None)
                if batch is None:
                    raise DecodeError(f"not readable as Parquet: the footer counts {self.counts[group]:,} rows")
                batch.validate(full=True)
                return plain_table(pa.Table.from_batches([batch]), self.limits)
        except DecodeError as error:
            self.error = DecodeError(f"row group {group} ends after {self.done:,} rows: {error.message}")
            raise self.error from error


def arrow_pieces(
    source: BinaryIO, *, rows: int, wanted: Wanted, check: Check, limits: TableLimits = NO_LIMITS
) -> Iterator[TablePiece]:
    """The rows of an Arrow IPC stream, or of a file where `source` can seek; one record batch in memory at a time."""
    failure: DataError | None = None
    with decoding("Arrow IPC"):
        file = pyarrow.ipc.open_file(source) if is_arrow_file(source) else pyarrow.ipc.open_stream(source)
        limits.check(columns=len(file.schema))
        head = plain_table(file.schema.empty_table())
    check(head)
    cutter = Cutter(head, rows, wanted)
    try:
        for table in _batches(file, limits):
            yield from cutter.add(table)
    except DecodeError as error:
        failure = DecodeError(f"after {cutter.end:,} rows: {error.message}", code=error.code)
    except LimitExceeded as error:
        failure = error
    if failure is None or cutter.end:
        yield from cutter.rest(cutter.end)
    if failure is not None:
        raise failure


def is_arrow_file(source: BinaryIO) -> bool:
    """Whether a buffered `source` at its start is the file format, whose index is at the end."""
    return cast("io.BufferedReader", source).peek(len(ARROW_FILE))[: len(ARROW_FILE)] == ARROW_FILE


def _batches(
    file: pyarrow.ipc.RecordBatchFileReader | pyarrow.ipc.RecordBatchStreamReader, limits: TableLimits
) -> Iterator[pa.Table]:
    with decoding("Arrow IPC"):
        batches = (
            (file.get_batch(i) for i in range(file.num_record_batches))
            if isinstance(file, pyarrow.ipc.RecordBatchFileReader)
            else file
        )
        for batch in batches:
            batch.validate()
            views = (column for column in batch.columns if pa.types.is_string_view(column.type))
            limits.check(size=sum(written_bytes(pa.chunked_array([column])) for column in views))
            batch.validate(full=True)  # before `nbytes`, which ends the whole process where a batch is broken
            yield plain_table(pa.Table.from_batches([batch]), limits)


def ndjson_pieces(
    source: BinaryIO,
    *,
    rows: int,
    wanted: Wanted,
    piece_bytes: int | None = None,
    limits: TableLimits = NO_LIMITS,
) -> Iterator[TablePiece]:
    """The lines of an NDJSON file; a piece of more than `piece_bytes` ends before `rows`. Raises DecodeError."""
    place = number = size = 0
    failure: DataError | None = None
    lines: list[tuple[int, bytes]] = []
    while True:
        number += 1
        try:
            line = source.readline(MAX_LINE_BYTES + 1)
        except BROKEN_FILE as error:
            failure = DecodeError(f"line {number:,} cannot be read: {error}", where=f"line {number}")
            break
        except DataError as error:  # a stream that is longer than it may be
            failure = error
            break
        if len(line) > MAX_LINE_BYTES:
            failure = DecodeError(f"line {number:,} is longer than {MAX_LINE_BYTES:,} bytes")
        if not line or failure is not None:
            break
        line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        if not line.strip():
            continue
        lines.append((number, line))
        size += len(line)
        if len(lines) == rows or (piece_bytes and size > piece_bytes):
            yield _json_piece(place, lines, wanted(place // rows), limits)
            place += len(lines)
            lines, size = [], 0
    if lines or (place == 0 and failure is None):
        yield _json_piece(place, lines, wanted(place // rows), limits)
    if failure is not None:
        raise failure


def _json_piece(start: int, lines: list[tuple[int, bytes]], is_wanted: bool, limits: TableLimits) -> TablePiece:
    if not is_wanted:
        return TablePiece(start, len(lines))
    rows: list[dict[str, object] | list[object]] = []
    bad: dict[int, ItemError] = {}
    held = HeldRows(limits.max_bytes)
    for place, (number, line) in enumerate(lines):
        try:
            row = json_row(line, number, limits)
        except ItemError as error:  # kept as another one: this holds the frames that raised it, and its causes
            bad[place] = ItemError(error.message, code=error.code, where=error.where)
            continue
        held.add(line, row)
        rows.append(row)
    return TablePiece(start, len(lines), RawTable(rows=rows, bad=bad, start=start))


def _seekable(path: Path) -> BinaryIO:
    """The bytes of a file whose index is at its end; a packed one is unpacked onto the disk first."""
    source = open_bytes(path)
    if not packed_suffix(path):
        return source
    unpacked = cast("BinaryIO", tempfile.TemporaryFile())  # noqa: SIM115 - the caller closes it
    with source:
        shutil.copyfileobj(source, unpacked)
    unpacked.seek(0)
    return unpacked
