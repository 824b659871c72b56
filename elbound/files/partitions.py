"""Columns that stand in the names of folders, as in `line=A/part.csv` (Hive partitions), and folders of table formats
whose files alone do not say which rows are valid."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from elbound.data.cells import as_text, numbers_or_none
from elbound.data.raw import RawTable
from elbound.errors import SchemaError, UnsupportedMedia

MISSING = "__HIVE_DEFAULT_PARTITION__"
Partitions = Mapping[str, str | None]
"""Column and value, None where it is missing."""


def partitions_of(file: Path, known: Collection[str | None] | None = None) -> dict[str, str | None]:
    """The columns in the names of the folders right above `file`; only those of `known`, where it is given."""
    folders = list(takewhile(lambda part: "=" in part.lstrip("="), reversed(file.parent.parts)))
    pairs = (part.split("=", 1) for part in reversed(folders))
    found = {unquote(name): None if value == MISSING else unquote(value) for name, value in pairs}
    return {name: value for name, value in found.items() if name and (known is None or name in known)}


def with_partitions(raw: RawTable, partitions: Partitions) -> RawTable:
    """The rows with the columns of their folder. Raises SchemaError where a column is in the file with another value.

    Rows of NDJSON that are lists have no names, and stay as they are.
    """
    if not partitions:
        return raw
    if raw.table is not None:
        return replace(raw, table=_added(raw.table, partitions))
    rows = [_row(row, partitions) if isinstance(row, Mapping) else row for row in raw.rows]
    return replace(raw, rows=rows)


def refuse_versioned(folder: Path) -> None:
    """Raise UnsupportedMedia where `folder` is a table whose log says which of its files and rows are valid."""
    signs = (
        ("a Delta table", "_delta_log", "deltalake.DeltaTable(PATH).to_pyarrow_table()"),
        ("a Hudi table", ".hoodie", "spark.read.format('hudi').load(PATH)"),
        (
            "an Iceberg table",
            "metadata/*.metadata.json",
            "pyiceberg's StaticTable.from_metadata(FILE).scan().to_arrow()",
        ),
    )
    for name, sign, reader in signs:
        if any(folder.glob(f"**/{sign}")):
            raise UnsupportedMedia(
                f"{folder} is {name}: its files hold removed rows too. Export the current rows to Parquet, for "
                f"example with {reader}, and name that file",
                where=str(folder),
            )


def _added(table: pa.Table, partitions: Partitions) -> pa.Table:
    for name, value in partitions.items():
        if name in table.column_names:
            _check_agrees(name, table.column(name), value)
        else:
            cells = pa.array([value] * table.num_rows, pa.string())
            table = table.append_column(name, cells)
    return table


def _row(row: Mapping[str, object], partitions: Partitions) -> dict[str, object]:
    for name in partitions.keys() & row.keys():
        _check_agrees(name, pa.chunked_array([pa.array([str(row[name])])]), partitions[name])
    return {**partitions, **row}


def _check_agrees(name: str, cells: pa.ChunkedArray, value: str | None) -> None:
    """Raise SchemaError where a cell is not `value`: as text, or as a number (11 and 011)."""
    if value is None:
        return
    try:
        texts = pc.unique(as_text(cells))
    except pa.ArrowException as error:
        raise SchemaError(
            f"column {name!r} of the file cannot be compared with its folder: {error}", where=name
        ) from error
    numbers = numbers_or_none(pa.chunked_array([pa.concat_arrays([texts, pa.array([value])])]))
    if numbers is not None and numbers.null_count == 0 and len(np.unique(numbers.to_numpy())) == 1:
        return
    other = next((text for text in texts.to_pylist() if text != value), None)
    if other is not None:
        raise SchemaError(
            f"column {name!r} has {other!r} in the file and {value!r} in the name of its folder; rename one of them",
            where=name,
        )
