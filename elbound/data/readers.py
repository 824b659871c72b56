"""Tables from files: one file, or every table of a folder."""

import csv
import gzip
import io
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa

from elbound.data.celltext import as_text, is_text
from elbound.data.csvtext import MAX_HEADER_BYTES, csv_header
from elbound.data.formats import RawTable, parse_arrow, parse_csv, parse_ndjson, parse_parquet
from elbound.data.schema import doubled_names, list_names
from elbound.errors import DataError, DecodeError, SchemaError, UnsupportedMedia

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet", ".arrow", ".ipc", ".feather", ".ndjson", ".jsonl")
WITHOUT_HEADER = (".ndjson", ".jsonl")
BROKEN_FILE = (OSError, EOFError, zlib.error)
"""What reading a file may raise, the unpacking of a gzip included."""


def read_table(path: Path) -> pa.Table:
    """The rows of a file, or of every table in a folder (sorted by name), to train on.

    Raises DecodeError that names the file and, for CSV and NDJSON, the line; SchemaError where the files of
    a folder differ in their columns (a key that no line of an NDJSON file has is missing there).
    """
    files = table_files(path)
    tables = [_read_file(file) for file in files]
    _check_columns(files, tables)
    try:
        table = pa.concat_tables(_alike(tables), promote_options="permissive")
    except pa.ArrowException as error:
        raise SchemaError(f"the files of {path} do not have the same columns: {error}", where=str(path)) from error
    if table.num_rows == 0:
        raise DataError(f"{path} holds no rows", where=str(path))
    return table


def table_files(path: Path) -> list[Path]:
    """The table files at `path` without hidden ones; DataError where there are none."""
    if path.is_file():
        return [path]
    if not path.exists():
        raise DataError(f"{path} does not exist", where=str(path))
    files = sorted(file for file in path.rglob("*") if file.is_file() and table_suffix(file) is not None)
    files = [file for file in files if not file.name.startswith(".")]
    if not files:
        raise DataError(f"{path} holds no tables ({', '.join(TABLE_SUFFIXES)})", where=str(path))
    return files


def table_suffix(path: Path) -> str | None:
    """The format's suffix of a table file, also under `.gz`; None where it is none."""
    name = path.name.lower().removesuffix(".gz")
    return next((suffix for suffix in TABLE_SUFFIXES if name.endswith(suffix)), None)


def parse_file(path: Path) -> RawTable:
    """One table file by its suffix. Raises UnsupportedMedia, DecodeError with the file's name."""
    suffix = table_suffix(path)
    if suffix is None:
        raise UnsupportedMedia(f"{path} is none of {', '.join(TABLE_SUFFIXES)} (.gz may follow)", where=str(path))
    try:
        with _open_whole(path) as source:
            return PARSERS[suffix](source)
    except OSError as error:
        raise DecodeError(f"{path} cannot be read: {error}", where=str(path)) from error
    except DataError as error:
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
}


def open_bytes(path: Path) -> BinaryIO:
    """The bytes of a file, unpacked as they are read where it ends in `.gz`; reading raises `BROKEN_FILE`."""
    return cast("BinaryIO", gzip.open(path)) if path.name.lower().endswith(".gz") else path.open("rb")


def _open_whole(path: Path) -> BinaryIO:
    if not path.name.lower().endswith(".gz"):
        return path.open("rb")
    try:
        with open_bytes(path) as packed:
            return io.BytesIO(packed.read())
    except (EOFError, zlib.error) as error:
        raise OSError(f"the gzip is truncated or broken: {error}") from error


def _read_file(path: Path) -> pa.Table:
    raw = parse_file(path)
    if raw.bad:
        place = min(raw.bad)
        error = raw.bad[place]
        line = csv_line(path, place) if error.code == "row_ragged" else None
        at = error.message if line is None else f"line {line} {error.message}"
        raise DecodeError(f"{path}: {at}", code=error.code, where=f"{path}:{line}" if line else error.where)
    try:
        return raw.to_table()
    except DataError as error:
        raise DecodeError(f"{path}: {error.message}", code=error.code, where=str(path)) from error


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
    with open_bytes(path) as source:
        header, delimiter = csv_header(source.read(MAX_HEADER_BYTES))
        source.seek(0)
        text = io.TextIOWrapper(source, "utf-8-sig", errors="replace", newline="")
        reader = csv.reader(text, delimiter=delimiter)
        number, line = -2, 0  # the header is row -1
        try:
            for row in reader:
                number += bool(row) or (len(header) == 1 and number >= -1)  # a blank line is a row of one column
                if number == place and (row or len(header) == 1):
                    return line + 1
                line = reader.line_num
        except (csv.Error, *BROKEN_FILE):  # a cell longer than Python's limit
            return line + 1 if number + 1 == place else None
    return None
