"""Cells of text that are longer than is read: each costs its row alone."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from elbound.errors import ItemError

if TYPE_CHECKING:
    from elbound.data.raw import RawTable

MAX_SHOWN = 100
"""Characters of a column's name that an error repeats."""
MAX_CHARACTER_BYTES = 4


def long_cell(row: Mapping[str, object] | Sequence[object], max_cell_bytes: int) -> ItemError | None:
    """The error of the first cell of a JSON row, or name of one, that has more than `max_cell_bytes`."""
    few = max_cell_bytes // MAX_CHARACTER_BYTES
    if not isinstance(row, Mapping | list):
        return None
    cells = row.values() if isinstance(row, Mapping) else row
    for i, cell in enumerate(cells):
        if type(cell) is str and len(cell) > few:
            size = len(cell.encode("utf-8", "surrogatepass"))
            if size > max_cell_bytes:
                return _error(list(row)[i] if isinstance(row, Mapping) else str(i), size, max_cell_bytes)
    return None


def set_long_cells_aside(raw: "RawTable", max_cell_bytes: int) -> "RawTable":
    """The same rows, those with a text of more than `max_cell_bytes` among the bad ones."""
    errors: dict[int, ItemError] = {}
    if raw.table is None:
        found = ((i, long_cell(row, max_cell_bytes)) for i, row in enumerate(raw.rows))
        errors = {i: error for i, error in found if error is not None}
    else:
        for name, column in zip(raw.table.column_names, raw.table.columns, strict=True):
            for i, size in _long_texts(column, max_cell_bytes):
                errors.setdefault(i, _error(name, size, max_cell_bytes))
    if not errors:
        return raw
    bad = raw.bad | {int(raw.positions[i]): error for i, error in errors.items()}
    if raw.table is None:
        return replace(raw, rows=[row for i, row in enumerate(raw.rows) if i not in errors], bad=bad)
    good = np.ones(raw.table.num_rows, bool)
    good[list(errors)] = False
    return replace(raw, table=raw.table.filter(pa.array(good)), bad=bad)


def _long_texts(column: pa.ChunkedArray, max_cell_bytes: int) -> list[tuple[int, int]]:
    """Row and bytes of each text that is too long."""
    kind = column.type
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if not (text or pa.types.is_binary(kind) or pa.types.is_large_binary(kind)) or column.nbytes <= max_cell_bytes:
        return []
    sizes = pc.fill_null(pc.binary_length(column), 0).to_numpy()
    return [(int(i), int(sizes[i])) for i in np.flatnonzero(sizes > max_cell_bytes)]


def _error(name: str, size: int, max_cell_bytes: int) -> ItemError:
    shown = name[:MAX_SHOWN]
    return ItemError(
        f"column {shown!r} has a cell of {size:,} bytes; at most {max_cell_bytes:,} are read (max_cell_bytes)",
        code="limit_exceeded",
        where=shown,
    )
