"""Tables from files: one file, or every table of a folder."""

import bz2
import csv
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa

from elbound.data.cells import as_text, is_text
from elbound.data.raw import RawTable
from elbound.errors import DataError, DecodeError, SchemaError, UnsupportedMedia
from elbound.files.arrow import parse_arrow
from elbound.files.csv import parse_csv
from elbound.files.csv_head import MAX_HEADER_BYTES, csv_head
from elbound.files.extra_rows import ExtraRows, find_extra_rows, header_of_numbers, without_rows
from elbound.files.folders import passed_over, visible_files
from elbound.files.json import parse_ndjson
from elbound.files.kinds import START_BYTES, as_utf8, check_binary
from elbound.files.parquet import parse_parquet
from elbound.files.partitions import partitions_of, refuse_versioned, with_partitions
from elbound.files.workbooks import WORKBOOKS, read_workbook
from elbound.schema import doubled_names, list_names

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet", ".arrow", ".ipc", ".feather", ".ndjson", ".jsonl", *WORKBOOKS)
WITHOUT_HEADER = (".ndjson", ".jsonl")
PACKED = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd"}
"""Suffixes that may follow that of a format, but for workbooks, and how it is then packed."""
JSON_LIST = "jq -c '.[]' FILE > NEW.ndjson"
BROKEN_FILE = (OSError, EOFError, zlib.error, lzma.LZMAError)
"""What reading a file may raise, its unpacking included."""


@dataclass(frozen=True)
class TrainingTable:
    """Rows to train on. `warnings` say what was passed over or decided, `doubts` what probably is not meant;
    `delimiter` is that of the (first) file where it is a CSV."""

    table: pa.Table
    warnings: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    delimiter: str | None = None


def read_table(path: Path) -> TrainingTable:
    """The rows of a file, or of every table in a folder (sorted by name), to train on.

    Rows that are no items (`find_extra_rows`) are left out. Folders named `line=A` are columns. Raises DecodeError
    that names the file and, for CSV and NDJSON, the line; SchemaError where the files of a folder differ in their
    columns (a key that no line of an NDJSON file has is missing there).
    """
    files = table_files(path)
    read = [_read_file(file) for file in files]
    tables = [one.table for one in read]
    _check_columns(files, tables)
    try:
        table = pa.concat_tables(_alike(tables), promote_options="permissive")
    except pa.ArrowException as error:
        raise SchemaError(f"the files of {path} do not have the same columns: {error}", where=str(path)) from error
    if table.num_rows == 0:
        raise DataError(f"{path} holds no rows", where=str(path))
    warnings = [*passed_over_tables(path, files), *(note for one in read for note in one.warnings)]
    return TrainingTable(table, warnings, [doubt for one in read for doubt in one.doubts], read[0].delimiter)


def table_files(path: Path) -> list[Path]:
    """The table files at `path` without hidden ones; DataError where there are none.

    Workbooks of a folder count where it has no other tables: they often lie beside the data.
    """
    if path.is_file():
        return [path]
    if not path.exists():
        raise DataError(f"{path} does not exist", where=str(path))
    refuse_versioned(path)
    visible = visible_files(path)
    files = [file for file in visible if table_suffix(file) is not None]
    files = [file for file in files if table_suffix(file) not in WORKBOOKS] or files
    if not files:
        others = "".join(f"; {note}" for note in passed_over_tables(path, files))
        raise DataError(f"{path} holds no tables ({', '.join(TABLE_SUFFIXES)}){others}", where=str(path))
    return files


def passed_over_tables(path: Path, files: Collection[Path]) -> list[str]:
    """What of the folder `path` is not among its table `files`, in words; nothing for a file."""
    if not path.is_dir():
        return []
    visible = visible_files(path)
    hidden = sorted({*path.rglob("*")}.difference(visible))
    hidden = [file for file in hidden if table_suffix(file) is not None and file.is_file()]
    notes = [passed_over(set(visible).difference(files))]
    if hidden:
        shown = hidden[0].relative_to(path).as_posix()
        n = len(hidden)
        what = "table in a hidden or temporary place was" if n == 1 else "tables in hidden or temporary places were"
        notes.append(f"{n:,} {what} passed over, as {shown}")
    return [f"{note} ({path})" for note in notes if note]


def table_suffix(path: Path) -> str | None:
    """The format's suffix of a table file, also where it is packed; None where it is none."""
    name = path.name.lower()
    bare = name.removesuffix(packed_suffix(path))
    suffix = next((suffix for suffix in TABLE_SUFFIXES if bare.endswith(suffix)), None)
    return None if suffix in WORKBOOKS and bare != name else suffix


def packed_suffix(path: Path) -> str:
    """The suffix of `PACKED` that a file has; '' where it has none."""
    suffix = path.suffix.lower()
    return suffix if suffix in PACKED else ""


def check_suffix(path: Path) -> str:
    """The format's suffix of a table file. Raises UnsupportedMedia that says what to do with another one."""
    suffix = table_suffix(path)
    if suffix is not None:
        return suffix
    advice = ""
    if path.suffix.lower() == ".json":
        advice = f"; a JSON list becomes NDJSON by {JSON_LIST}"
    elif path.suffix.lower() == ".zip":
        advice = "; unpack the zip first"
    raise UnsupportedMedia(
        f"{path} is none of {', '.join(TABLE_SUFFIXES)} ({', '.join(PACKED)} may follow){advice}", where=str(path)
    )


def parse_file(path: Path) -> RawTable:
    """One table file by its suffix. Raises UnsupportedMedia, DecodeError with the file's name."""
    suffix = check_suffix(path)
    try:
        if suffix in WORKBOOKS:
            sheet = read_workbook(path)
            raw = parse_csv(io.BytesIO(sheet.text))
            return replace(raw, notes=(sheet.note, *raw.notes)) if sheet.note else raw
        with _open_whole(path) as source:
            if suffix in KIND_OF:
                check_binary(source.read(START_BYTES), KIND_OF[suffix])
                source.seek(0)
            return PARSERS[suffix](source)
    except OSError as error:
        raise DecodeError(f"{path} cannot be read: {error}", where=str(path)) from error
    except DataError as error:
        if str(path) not in error.message:
            error.message = f"{path}: {error.message}"
        error.args = (error.message,)
        raise


PARSERS: dict[str, Callable[[BinaryIO], RawTable]] = {
    ".csv": parse_csv,
    ".tsv": parse_csv,
    ".parquet": parse_parquet,
    ".arrow": parse_arrow,
    ".ipc": parse_arrow,
    ".feather": parse_arrow,
    ".ndjson": parse_ndjson,
    ".jsonl": parse_ndjson,
    **dict.fromkeys(WORKBOOKS, parse_csv),
}
KIND_OF = {
    ".parquet": "Parquet", ".ndjson": "NDJSON", ".jsonl": "NDJSON",
    **dict.fromkeys((".arrow", ".ipc", ".feather"), "Arrow"),
}  # fmt: skip
"""What a file of another format than CSV must be, which says for itself what it is not."""


def open_bytes(path: Path) -> BinaryIO:
    """The bytes of a file, unpacked as they are read; of a workbook as CSV. Reading raises `BROKEN_FILE`."""
    if table_suffix(path) in WORKBOOKS:
        return io.BufferedReader(io.BytesIO(read_workbook(path).text))
    match packed_suffix(path):
        case ".gz":
            return cast("BinaryIO", gzip.open(path))
        case ".bz2":
            return cast("BinaryIO", bz2.open(path))
        case ".xz":
            return cast("BinaryIO", lzma.open(path))
        case ".zst":
            return cast("BinaryIO", io.BufferedReader(pa.input_stream(str(path), compression="zstd")))
    return path.open("rb")


def _open_whole(path: Path) -> BinaryIO:
    if not packed_suffix(path):
        return open_bytes(path)
    try:
        with open_bytes(path) as packed:
            return io.BytesIO(packed.read())
    except (EOFError, zlib.error, lzma.LZMAError) as error:
        raise OSError(f"the {PACKED[packed_suffix(path)]} is truncated or broken: {error}") from error


def _read_file(path: Path) -> TrainingTable:
    """A file's rows to train on, and the columns of its folder."""
    raw = parse_file(path)
    if raw.bad:
        place = min(raw.bad)
        error = raw.bad[place]
        line = csv_line(path, place) if error.code == "row_ragged" else None
        at = error.message if line is None else f"line {line} {error.message}"
        if error.code == "json_invalid" and place == 0:
            at += f"; a JSON list becomes NDJSON by {JSON_LIST}"
        raise DecodeError(f"{path}: {at}", code=error.code, where=f"{path}:{line}" if line else error.where)
    try:
        whole = raw.to_table()
        extra = find_extra_rows(whole)
        table = with_partitions(replace(raw, table=without_rows(whole, extra), rows=()), partitions_of(path)).table
    except DataError as error:
        raise type(error)(f"{path}: {error.message}", code=error.code, where=error.where or str(path)) from error
    assert table is not None
    is_csv = PARSERS[check_suffix(path)] is parse_csv
    notes = [*raw.notes, *_extra_notes(path, extra, is_csv=is_csv)]
    doubt = header_of_numbers(table) if is_csv else None
    doubts = [f"{path}: {doubt}"] if doubt else []
    return TrainingTable(table, [f"{path}: {note}" for note in notes], doubts, raw.delimiter)


def _extra_notes(path: Path, extra: Sequence[ExtraRows], *, is_csv: bool) -> list[str]:
    """Which rows are left out, by line where the format has lines that can be counted."""
    lines = csv_lines(path, {one.places[0] for one in extra}) if is_csv and extra else {}
    notes = []
    for one in extra:
        n, place = len(one.places), one.places[0]
        at = f"line {lines[place]:,}" if place in lines else f"row {place:,} (from 0)"
        if n == 1:
            notes.append(f"{at} is {one.reason}, and is left out")
        else:
            notes.append(f"{n:,} rows are {one.reason}, the first {at}, and are left out")
    return notes


def _check_columns(files: Sequence[Path], tables: Sequence[pa.Table]) -> None:
    """Raise SchemaError that names a file and the columns that it lacks or has twice."""
    owner = {name: file for file, table in zip(files, tables, strict=True) for name in table.column_names}
    for file, table in zip(files, tables, strict=True):
        doubled = doubled_names(table.column_names)
        if doubled:
            raise SchemaError(f"{file}: columns appear twice: {list_names(doubled)}", where=doubled[0])
        present = set(table.column_names)
        absent = [name for name in owner if name not in present]
        if absent and table_suffix(file) not in WITHOUT_HEADER:
            raise SchemaError(
                f"{file} has no columns {list_names(absent)}, which {owner[absent[0]]} has; "
                "all files of a folder must have the same",
                where=str(file),
            )


def _alike(tables: list[pa.Table]) -> list[pa.Table]:
    """The tables with a column as text in all of them where it is text in one, as a single file would have it."""
    if len(tables) == 1:
        return tables
    text = {field.name for table in tables for field in table.schema if is_text(field.type)}
    alike = []
    for table in tables:
        columns = {
            name: as_text(cells) if name in text and not pa.types.is_nested(cells.type) else cells
            for name, cells in zip(table.column_names, table.columns, strict=True)
        }
        alike.append(pa.table(columns))
    return alike


def csv_line(path: Path, place: int) -> int | None:
    """The line on which the data row number `place` of a CSV file begins; None where Python cannot tell."""
    return csv_lines(path, {place}).get(place)


def csv_lines(path: Path, places: Collection[int]) -> dict[int, int]:
    """The lines on which data rows of a CSV file begin, by place; without those that Python cannot tell."""
    with open_bytes(path) as source:
        utf8 = as_utf8(source, source.peek(START_BYTES)[:START_BYTES]) or source  # type: ignore[attr-defined]
        start = utf8.read(MAX_HEADER_BYTES)
        head = csv_head(start)
        rest = io.BufferedReader(_After(start[head.body :], utf8))
        reader = csv.reader(io.TextIOWrapper(rest, "utf-8", errors="replace", newline=""), delimiter=head.delimiter)
        found: dict[int, int] = {}
        last, number, line = max(places, default=-1), -1, 0
        try:
            for row in reader:
                number += bool(row) or len(head.cells) == 1  # a blank line is a row of one column
                if number in places and number not in found and (row or len(head.cells) == 1):
                    found[number] = head.lines + line + 1
                if number >= last:
                    break
                line = reader.line_num
        except (csv.Error, *BROKEN_FILE):  # a cell longer than Python's limit
            if number + 1 in places:
                found[number + 1] = head.lines + line + 1
    return found


class _After(io.RawIOBase):
    """Bytes that were read already, and then the rest of their source."""

    def __init__(self, held: bytes, source: BinaryIO) -> None:
        self._held = io.BytesIO(held)
        self._source = source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        block = self._held.read(len(buffer)) or self._source.read(len(buffer))
        buffer[: len(block)] = block
        return len(block)
