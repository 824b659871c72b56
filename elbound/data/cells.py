"""One column of raw cells to float64, with an error for each cell that cannot be read.

Cells come as an Arrow array or as a Python list (rows of JSON). Missing cells become NaN, booleans 0 and 1,
categories the number of their level, datetimes seconds since 1970-01-01 UTC. What a cell becomes depends on
the cell and its column alone, never on the other rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from elbound.data.celltext import (
    as_text,
    is_datetime,
    is_nested,
    is_number,
    is_text,
    list_to_text,
    numbers_or_none,
    seconds_or_none,
)
from elbound.errors import SchemaError
from elbound.schema import Column, ColumnKind
from elbound.schema.number_format import NUMBER_PATTERN, clear_gaps, parse_numbers

Cells: TypeAlias = "pa.ChunkedArray | Sequence[object]"

TRUE_WORDS = ("true", "t", "yes", "y", "1", "1.0")
FALSE_WORDS = ("false", "f", "no", "n", "0", "0.0")
DATE_PATTERN = r"^\d{4}-\d\d-\d\d"

SIMPLE = frozenset({str, int, float, bool, type(None)})
AS_THEY_ARE: dict[ColumnKind, set[type]] = {
    "numeric": {float, int, bool, type(None)},
    "boolean": {bool, type(None)},
    "datetime": {float, int, type(None)},
}
"""Types of cells of a list that are their own value."""
WANTED: dict[ColumnKind, str] = {
    "numeric": "a number",
    "boolean": "true or false",
    "categorical": "a single value",
    "datetime": "a date and time as in 2026-11-21T08:00:00Z",
}


@dataclass
class ColumnValues:
    """`values` `(n,)` float64, `errors` by row, and the number of categories that training had not seen."""

    values: np.ndarray
    errors: dict[int, str] = field(default_factory=dict)
    unseen: int = 0


def read_column(column: Column, cells: Cells) -> ColumnValues:
    """The values of one column. Raises SchemaError where its type can never be that of the column."""
    if not isinstance(cells, pa.ChunkedArray):
        return _read_list(column, cells)
    try:
        return _read_array(column, _plain(column, cells))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:  # an unknown time zone and the like
        raise SchemaError(f"column {column.name!r} cannot be read: {error}", where=column.name) from error


def _read_list(column: Column, cells: Sequence[object]) -> ColumnValues:
    kinds = set(map(type, cells))
    if kinds <= AS_THEY_ARE.get(column.kind, set()):
        fast = _numbers_of_list(cells)
        if fast is not None:
            return _refuse_infinite(column, ColumnValues(fast))
    nested = {row: cell for row, cell in enumerate(cells) if is_nested(cell)} if kinds - SIMPLE else {}
    plain = [None if row in nested else cell for row, cell in enumerate(cells)] if nested else cells
    if column.number is not None and kinds - {str, type(None)}:
        found = _written_and_plain(column, plain)
    else:
        found = _read_text(column, list_to_text(plain, digits=column.kind == "numeric"))
    for row, cell in nested.items():
        found.errors[row] = (
            f"column {column.name!r} must be {WANTED[column.kind]}. Got a cell of type {type(cell).__name__} instead"
        )
    return found


def _read_array(column: Column, cells: pa.ChunkedArray) -> ColumnValues:
    kind = cells.type
    if column.kind == "numeric" and not is_text(kind):
        return _refuse_infinite(column, ColumnValues(_to_numpy(pc.cast(cells, pa.float64(), safe=False))))
    if column.kind == "boolean" and pa.types.is_boolean(kind):
        return ColumnValues(_to_numpy(pc.cast(cells, pa.float64())))
    if column.kind == "datetime" and is_datetime(kind):
        return ColumnValues(_to_numpy(_typed_seconds(cells)))
    if column.kind == "datetime" and is_number(kind):
        return _refuse_infinite(column, ColumnValues(_to_numpy(pc.cast(cells, pa.float64(), safe=False))))
    if (
        column.kind == "numeric"
        and column.number is None
        and (pa.types.is_string(kind) or pa.types.is_large_string(kind))
    ):
        numbers = numbers_or_none(cells)  # what is a number as it stands is the same number when it is trimmed
        if numbers is not None:
            return _refuse_infinite(column, ColumnValues(_to_numpy(numbers)), cells)
    return _read_text(column, cells)


def _written_and_plain(column: Column, cells: Sequence[object]) -> ColumnValues:
    """Text in the column's own way of writing, and numbers as they are."""
    written = _read_list(column, [cell if isinstance(cell, str) else None for cell in cells])
    plain = _read_list(
        column.model_copy(update={"number": None}), [None if isinstance(cell, str) else cell for cell in cells]
    )
    values = np.where(np.isnan(written.values), plain.values, written.values)
    return ColumnValues(values, written.errors | plain.errors)


def _read_text(column: Column, cells: pa.ChunkedArray) -> ColumnValues:
    text = as_text(cells, keep=column.kept_words)
    match column.kind:
        case "numeric":
            return _numbers(column, text)
        case "boolean":
            return _booleans(column, text)
        case "categorical":
            return _levels(column, text)
        case "datetime":
            return _seconds(column, text)


def _plain(column: Column, cells: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = cells.type
    if pa.types.is_dictionary(kind):
        return _plain(column, pc.cast(cells, kind.value_type))
    if pa.types.is_null(kind):
        return pc.cast(cells, pa.string())
    scalar = is_text(kind) or is_number(kind) or pa.types.is_boolean(kind)
    if scalar or (is_datetime(kind) and column.kind != "numeric"):
        return cells
    raise SchemaError(
        f"column {column.name!r} must be {column.kind}. Got cells of type {kind} instead", where=column.name
    )


def _numbers_of_list(cells: Sequence[object]) -> np.ndarray | None:
    try:
        return np.array(cells, dtype=np.float64)
    except OverflowError:  # an integer beyond float64
        return None


def _numbers(column: Column, text: pa.ChunkedArray) -> ColumnValues:
    errors: dict[int, str] = {}
    if column.number is not None:
        text = clear_gaps(text, column.number)
        numbers, good = parse_numbers(text, column.number)
        errors = _cell_errors(column, text, good)
    elif (numbers := numbers_or_none(text)) is None:
        good = pc.match_substring_regex(text, NUMBER_PATTERN, ignore_case=True)
        errors = _cell_errors(column, text, good)
        numbers = pc.cast(pc.if_else(good, text, None), pa.float64())
    return _refuse_infinite(column, ColumnValues(_to_numpy(numbers), errors), text)


def _booleans(column: Column, text: pa.ChunkedArray) -> ColumnValues:
    lower = pc.utf8_lower(text)
    true = pc.is_in(lower, value_set=pa.array(TRUE_WORDS))
    good = pc.or_(true, pc.is_in(lower, value_set=pa.array(FALSE_WORDS)))
    values = pc.if_else(pc.and_(good, pc.is_valid(text)), pc.cast(true, pa.float64()), None)
    return ColumnValues(_to_numpy(values), _cell_errors(column, text, good))


def _levels(column: Column, text: pa.ChunkedArray) -> ColumnValues:
    other = len(column.levels)
    found = pc.index_in(text, value_set=pa.array(column.levels, pa.string()))
    unseen = pc.and_(pc.is_null(found), pc.is_valid(text))
    values = _to_numpy(pc.cast(pc.if_else(unseen, pa.scalar(other, pa.int32()), found), pa.float64()))
    return ColumnValues(values, unseen=pc.sum(unseen).as_py() or 0)


def _seconds(column: Column, text: pa.ChunkedArray) -> ColumnValues:
    """Dates, and numbers as seconds; where one cell of many is wrong it is found by halving."""
    number = pc.fill_null(pc.match_substring_regex(text, NUMBER_PATTERN, ignore_case=True), False)
    found = ColumnValues(_to_numpy(pc.cast(pc.if_else(number, text, None), pa.float64())))
    found = _refuse_infinite(column, found, text)
    wrong = pc.invert(pc.or_(number, pc.match_substring_regex(text, DATE_PATTERN)))
    found.errors |= _cell_errors(column, text, pc.invert(wrong))
    spans = [np.flatnonzero(_to_numpy(pc.and_(pc.invert(number), pc.invert(pc.fill_null(wrong, True)))))]
    while spans:
        rows = spans.pop()
        cells = text.take(pa.array(rows))
        seconds = seconds_or_none(cells)
        if seconds is not None:
            found.values[rows] = _to_numpy(seconds)
        elif len(rows) == 1:
            found.errors[int(rows[0])] = _message(column, cells[0].as_py())
        else:
            spans += np.array_split(rows, 2)
    return found


def _typed_seconds(cells: pa.ChunkedArray) -> pa.ChunkedArray:
    """Dates and timestamps as seconds; divided in float64, so that far-off ones do not wrap around."""
    if pa.types.is_date32(cells.type):
        return pc.multiply(pc.cast(pc.cast(cells, pa.int32()), pa.float64()), 86_400.0)
    unit = "ms" if pa.types.is_date64(cells.type) else cells.type.unit
    ticks = pc.cast(cells, pa.int64())
    if unit == "ns":  # as text, which has six digits
        ticks, unit = pc.divide(ticks, 1000), "us"
    return pc.divide(pc.cast(ticks, pa.float64(), safe=False), {"s": 1.0, "ms": 1e3, "us": 1e6}[unit])


def _refuse_infinite(column: Column, found: ColumnValues, text: pa.ChunkedArray | None = None) -> ColumnValues:
    for row in np.flatnonzero(np.isinf(found.values)):
        cell = found.values[row] if text is None else text[int(row)].as_py()
        found.errors[int(row)] = _message(column, cell, "finite (write a missing cell as null)")
        found.values[row] = np.nan
    return found


def _cell_errors(column: Column, text: pa.ChunkedArray, good: pa.ChunkedArray) -> dict[int, str]:
    bad = pc.and_(pc.invert(good), pc.is_valid(text))
    rows = np.flatnonzero(bad.combine_chunks().to_numpy(zero_copy_only=False).astype(bool))
    cells = text.take(pa.array(rows)).to_pylist()
    return {int(row): _message(column, cell) for row, cell in zip(rows, cells, strict=True)}


def _message(column: Column, cell: object, wanted: str | None = None) -> str:
    if wanted is None and column.number is not None and not column.number.plain:
        wanted = f"{column.number.describe()}, as in training"
    shown = str(cell)
    shown = shown[:40] + "..." if len(shown) > 40 else shown
    return f"column {column.name!r} must be {wanted or WANTED[column.kind]}. Got {shown!r} instead"


def _to_numpy(cells: pa.ChunkedArray) -> np.ndarray:
    values = cells.to_numpy()
    return np.array(values, dtype=np.float64)  # a copy: Arrow's memory is read-only
