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

from elbound.data.encodings import written_bytes
from elbound.data.items import keep_error
from elbound.data.raw import RawTable
from elbound.errors import DataError, DecodeError, ItemError, LimitExceeded, SchemaError
from elbound.files.arrow import MeasuredStream
from elbound.files.csv_stream import csv_pieces, first_bytes
from elbound.files.json import HeldRows, json_row
from elbound.files.kinds import check_binary
from elbound.files.limits import NO_LIMITS, TableLimits, decoding, plain_table
from elbound.files.parquet import ParquetFile, parquet_pieces
from elbound.files.partitions import Partitions, with_partitions
from elbound.files.pieces import Cutter, TablePiece, Wanted
from elbound.files.readers import (
    BROKEN_FILE,
    KIND_OF,
    WITHOUT_HEADER,
    check_suffix,
    csv_line,
    open_bytes,
    packed_suffix,
)

INDEXED = (".parquet", ".arrow", ".ipc", ".feather")
"""Suffixes of files that may have their index at the end."""
ARROW_FILE = b"ARROW1"
MAX_LINE_BYTES = 64 << 20
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
                yield from parquet_pieces(ParquetFile(source, rows=rows), rows=rows, wanted=wanted, check=check)
            elif suffix in INDEXED:
                yield from arrow_pieces(source, rows=rows, wanted=wanted, check=check)
            elif suffix in WITHOUT_HEADER:
                yield from ndjson_pieces(source, rows=rows, wanted=wanted)
            else:
                line_of = partial(csv_line, path)
                yield from csv_pieces(source, rows=rows, wanted=wanted, check=check, line_of=line_of)
    except BROKEN_FILE as error:
        raise DecodeError(f"{path} cannot be read: {error}", where=str(path)) from error


def arrow_pieces(
    source: BinaryIO, *, rows: int, wanted: Wanted, check: Check, limits: TableLimits = NO_LIMITS
) -> Iterator[TablePiece]:
    """The rows of an Arrow IPC stream, or of a file where `source` can seek; one record batch in memory at a time.

    With `limits` a file is read as the stream that it contains, and each batch is measured before it is opened.
    """
    failure: DataError | None = None
    with decoding("Arrow IPC"):
        if limits is not NO_LIMITS:
            file = pyarrow.ipc.open_stream(MeasuredStream(source, max_bytes=limits.max_bytes))
        else:
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
        except ItemError as error:
            keep_error(bad, place, error)
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
