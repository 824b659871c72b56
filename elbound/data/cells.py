"""One column of raw cells to float64, with an error for each cell that cannot be read.

Cells come as an Arrow array or as a Python list (rows of JSON). Missing cells become NaN, booleans 0 and 1,
categories the number of their level, datetimes seconds since 1970-01-01 UTC.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from elbound.data.schema import Column
from elbound.errors import SchemaError

Cells: TypeAlias = "pa.ChunkedArray | Sequence[object]"

MISSING_WORDS = ("", "na", "n/a", "#n/a", "nan", "null", "none", "<na>", "-nan")
TRUE_WORDS = ("true", "t", "yes", "y", "1", "1.0")
FALSE_WORDS = ("false", "f", "no", "n", "0", "0.0")
NUMBER_PATTERN = r"^[+-]?(\d+\.?\d*([eE][+-]?\d+)?|\.\d+([eE][+-]?\d+)?|inf|infinity|nan)$"


@dataclass
class ColumnValues:
    """`values` `(n,)` float64, `errors` by row, and the number of categories that training had not seen."""

    values: np.ndarray
    errors: dict[int, str] = field(default_factory=dict)
    unseen: int = 0


def read_column(column: Column, cells: Cells) -> ColumnValues:
    """The values of one column. Raises SchemaError where its type can never be that of the column."""
    if not isinstance(cells, pa.ChunkedArray):
        fast = _numbers_of_list(cells) if column.kind == "numeric" else None
        if fast is not None:
            return _refuse_infinite(column, ColumnValues(fast))
        cells = list_to_arrow(cells)
    cells = _plain(column, cells)
    match column.kind:
        case "numeric":
            return _refuse_infinite(column, _numbers(column, cells))
        case "boolean":
            return _booleans(column, cells)
        case "categorical":
            return _levels(column, cells)
        case "datetime":
            return _seconds(column, cells)


def list_to_arrow(cells: Sequence[object]) -> pa.ChunkedArray:
    """Arrow's own type where all cells have one; text where they are mixed."""
    try:
        array = pa.array(cells, from_pandas=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeEncodeError):
        array = pa.array([None if cell is None else _text(cell) for cell in cells], pa.string())
    return pa.chunked_array([array])


def as_text(cells: pa.ChunkedArray) -> pa.ChunkedArray:
    """Cells as trimmed strings, missing words as nulls; Arrow writes whole numbers without a point."""
    text = pc.utf8_trim_whitespace(pc.cast(cells, pa.string()))
    missing = pc.is_in(pc.utf8_lower(text), value_set=pa.array(MISSING_WORDS))
    return pc.if_else(missing, pa.scalar(None, pa.string()), text)


def is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def is_datetime(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))


def numbers_or_none(text: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """`text` as float64, or None where a cell is not a number."""
    try:
        return pc.cast(text, pa.float64())
    except pa.ArrowInvalid:
        return None


def seconds_or_none(text: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """ISO 8601 `text` as seconds since 1970 (UTC where no zone is given), or None."""
    for kind in (pa.timestamp("us"), pa.timestamp("us", "UTC")):
        try:
            moments = pc.cast(text, kind)
        except pa.ArrowInvalid:
            continue
        return pc.divide(pc.cast(pc.cast(moments, pa.int64()), pa.float64()), 1e6)
    return None


def _plain(column: Column, cells: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = cells.type
    if pa.types.is_dictionary(kind):
        return _plain(column, pc.cast(cells, kind.value_type))
    if pa.types.is_null(kind):
        return pc.cast(cells, pa.string())
    if is_text(kind) or is_number(kind) or pa.types.is_boolean(kind) or is_datetime(kind):
        return cells
    raise SchemaError(
        f"column {column.name!r} must be {column.kind}. Got cells of type {kind} instead", where=column.name
    )


def _numbers_of_list(cells: Sequence[object]) -> np.ndarray | None:
    try:
        values = np.array(cells, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    return values if values.ndim == 1 else None


def _numbers(column: Column, cells: pa.ChunkedArray) -> ColumnValues:
    if is_datetime(cells.type):
        raise SchemaError(
            f"column {column.name!r} must be numeric. Got cells of type {cells.type} instead",
            where=column.name,
        )
    if not is_text(cells.type):
        return ColumnValues(_to_numpy(pc.cast(cells, pa.float64(), safe=False)))
    text = as_text(cells)
    numbers = numbers_or_none(text)
    if numbers is not None:
        return ColumnValues(_to_numpy(numbers))
    good = pc.match_substring_regex(text, NUMBER_PATTERN, ignore_case=True)
    errors = _cell_errors(column, text, good, "a number")
    return ColumnValues(_to_numpy(pc.cast(pc.if_else(good, text, None), pa.float64())), errors)


def _booleans(column: Column, cells: pa.ChunkedArray) -> ColumnValues:
    if pa.types.is_boolean(cells.type):
        return ColumnValues(_to_numpy(pc.cast(cells, pa.float64())))
    text = as_text(cells)
    lower = pc.utf8_lower(text)
    true = pc.is_in(lower, value_set=pa.array(TRUE_WORDS))
    good = pc.or_(true, pc.is_in(lower, value_set=pa.array(FALSE_WORDS)))
    values = pc.if_else(pc.and_(good, pc.is_valid(text)), pc.cast(true, pa.float64()), None)
    return ColumnValues(_to_numpy(values), _cell_errors(column, text, good, "true or false"))


def _levels(column: Column, cells: pa.ChunkedArray) -> ColumnValues:
    text = as_text(cells)
    other = len(column.levels)
    found = pc.index_in(text, value_set=pa.array(column.levels, pa.string()))
    unseen = pc.and_(pc.is_null(found), pc.is_valid(text))
    values = _to_numpy(pc.cast(pc.if_else(unseen, pa.scalar(other, pa.int32()), found), pa.float64()))
    return ColumnValues(values, unseen=pc.sum(unseen).as_py() or 0)


def _seconds(column: Column, cells: pa.ChunkedArray) -> ColumnValues:
    if is_datetime(cells.type):
        cells = pc.cast(pc.cast(cells, pa.timestamp("us"), safe=False), pa.int64())
        return ColumnValues(_to_numpy(pc.divide(pc.cast(cells, pa.float64()), 1e6)))
    if is_number(cells.type):
        return _refuse_infinite(column, ColumnValues(_to_numpy(pc.cast(cells, pa.float64(), safe=False))))
    text = as_text(cells)
    seconds = seconds_or_none(text)
    if seconds is not None:
        return ColumnValues(_to_numpy(seconds))
    values = np.full(len(text), np.nan)
    errors = {}
    for row, cell in enumerate(text.to_pylist()):  # only where a cell is wrong or the zones are mixed
        moment = seconds_or_none(pa.chunked_array([[cell]], pa.string()))
        if moment is None:
            errors[row] = _message(column, cell, "a date and time as in 2026-11-21T08:00:00Z")
        else:
            values[row] = _to_numpy(moment)[0]
    return ColumnValues(values, errors)


def _refuse_infinite(column: Column, found: ColumnValues) -> ColumnValues:
    for row in np.flatnonzero(np.isinf(found.values)):
        found.errors[int(row)] = _message(column, found.values[row], "finite (write a missing cell as null)")
        found.values[row] = np.nan
    return found


def _cell_errors(column: Column, text: pa.ChunkedArray, good: pa.ChunkedArray, wanted: str) -> dict[int, str]:
    bad = pc.and_(pc.invert(good), pc.is_valid(text))
    rows = np.flatnonzero(bad.combine_chunks().to_numpy(zero_copy_only=False).astype(bool))
    cells = text.take(pa.array(rows)).to_pylist()
    return {int(row): _message(column, cell, wanted) for row, cell in zip(rows, cells, strict=True)}


def _message(column: Column, cell: object, wanted: str) -> str:
    shown = _text(cell)
    return f"column {column.name!r} must be {wanted}. Got {shown[:40] + '...' if len(shown) > 40 else shown!r} instead"


def _text(cell: object) -> str:
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float) and math.isfinite(cell) and cell == int(cell) and abs(cell) < 2**53:
        return str(int(cell))
    return str(cell).encode("utf-8", "replace").decode("utf-8")


def _to_numpy(cells: pa.ChunkedArray) -> np.ndarray:
    values = cells.to_numpy()
    return np.array(values, dtype=np.float64)  # a copy: Arrow's memory is read-only
