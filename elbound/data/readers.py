"""Tables from files: one file, or every table of a folder."""

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from elbound.data.formats import (
    MAX_HEADER_BYTES,
    RawTable,
    csv_header,
    parse_arrow,
    parse_csv,
    parse_ndjson,
    parse_parquet,
)
from elbound.data.schema import list_names
from elbound.errors import DataError, DecodeError, SchemaError, UnsupportedMedia

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet", ".arrow", ".ipc", ".feather", ".ndjson", ".jsonl")


def read_table(path: Path) -> pa.Table:
    """The rows of a file, or of every table in a folder (sorted by name), to train on.

    Raises DecodeError that names the file and, for CSV and NDJSON, the line.
    """
    tables = [_read_file(file) for file in table_files(path)]
    try:
        table = pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise SchemaError(f"the files of {path} do not have the same columns: {error}", where=str(path)) from error
    if table.num_rows == 0:
        raise DataError(f"{path} holds no rows", where=str(path))
    doubled = sorted({name for name in table.column_names if table.column_names.count(name) > 1})
    if doubled:
        raise SchemaError(f"columns appear twice: {list_names(doubled)}", where=doubled[0])
    return table


def table_files(path: Path) -> list[Path]:
    """The table files at `path`; DataError where there are none."""
    if path.is_file():
        return [path]
    if not path.exists():
        raise DataError(f"{path} does not exist", where=str(path))
    files = sorted(file for file in path.rglob("*") if file.is_file() and table_suffix(file) is not None)
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
        with pa.input_stream(str(path), compression="detect") as stream:
            packed = path.name.lower().endswith(".gz")
            source = io.BytesIO(stream.read()) if packed else open(path, "rb")  # noqa: SIM115 - closed below
        with source:
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


def _read_file(path: Path) -> pa.Table:
    raw = parse_file(path)
    if raw.bad:
        place = min(raw.bad)
        error = raw.bad[place]
        line = _csv_line(path, place) if error.code == "row_ragged" else None
        at = error.message if line is None else f"line {line} {error.message}"
        raise DecodeError(f"{path}: {at}", code=error.code, where=f"{path}:{line}" if line else error.where)
    return raw.to_table()


def _csv_line(path: Path, place: int) -> int:
    """The line on which the data row number `place` of a CSV file ends."""
    with pa.input_stream(str(path), compression="detect") as stream:
        text = io.TextIOWrapper(io.BytesIO(stream.read()), encoding="utf-8", newline="")
    _, delimiter = csv_header(text.buffer.read(MAX_HEADER_BYTES))
    text.seek(0)
    reader = csv.reader(text, delimiter=delimiter)
    rows = (reader.line_num for row in reader if row)
    return next(line for number, line in enumerate(rows, start=-1) if number == place)
