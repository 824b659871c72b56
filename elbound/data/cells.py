"""Cells as text and as numbers: whole columns of Arrow, and a few rows of JSON without it."""

import datetime
import decimal
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from elbound.errors import SchemaError
from elbound.schema import Column, ColumnKind, TableSchema
from elbound.schema.number_format import NUMBER_PATTERN, clear_gaps, parse_numbers

MISSING_WORDS = ("", "na", "n/a", "#n/a", "nan", "null", "none", "<na>", "-nan")
ZONE_PATTERN = r"^.{10}[T ].*(Z|[+-]\d\d(:?\d\d)?)$"

READABLE = (str, int, float, np.generic, decimal.Decimal, datetime.date)
EXACT = 2.0**53
MAX_INTEGER_BITS = 4096
"""Integers beyond are infinite to us; Python would not even write them down."""
AROUND_NAME = "".join(filter(str.isspace, map(chr, range(0x3001)))) + "\ufeff\u200b"
"""White space, of which U+3000 is the last, byte order marks and zero-width spaces."""


def list_to_arrow(cells: Sequence[object]) -> pa.ChunkedArray:
    """Arrow's own type where all cells have one; text where they are mixed."""
    try:
        array = pa.array(cells, from_pandas=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeEncodeError):
        array = pa.array([_plain_text(_cell_text(cell)) for cell in cells], pa.string())
    return pa.chunked_array([array])


def as_text(cells: pa.ChunkedArray, *, keep: tuple[str, ...] = ()) -> pa.ChunkedArray:
    """Cells as trimmed strings, missing words but `keep` as nulls; whole numbers are written without a point."""
    text = pc.utf8_trim_whitespace(_written(cells))
    missing = pc.is_in(pc.utf8_lower(text), value_set=pa.array(MISSING_WORDS))
    if keep:
        missing = pc.and_not(missing, pc.is_in(text, value_set=pa.array(keep, pa.string())))
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
        numbers = pc.cast(text, pa.float64())
    except pa.ArrowInvalid:
        return None
    return None if pc.any(pc.is_nan(numbers)).as_py() else numbers  # Arrow reads nan(1)


def seconds_or_none(text: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """ISO 8601 `text` as seconds since 1970 (UTC where no zone is given), or None where a cell is none."""
    text = pc.replace_substring_regex(text, r"([.]\d{6})\d+", r"\1")  # Arrow refuses what it would round
    zoned = pc.match_substring_regex(text, ZONE_PATTERN)
    nothing = pa.scalar(None, pa.string())
    try:
        plain = pc.cast(pc.if_else(zoned, nothing, text), pa.timestamp("us"))
        shifted = pc.cast(pc.if_else(zoned, text, nothing), pa.timestamp("us", "UTC"))
    except pa.ArrowInvalid:
        return None
    moments = pc.coalesce(pc.cast(plain, pa.int64()), pc.cast(shifted, pa.int64()))
    return pc.divide(pc.cast(moments, pa.float64(), safe=False), 1e6)


def list_to_text(cells: Sequence[object], *, digits: bool) -> pa.ChunkedArray:
    """Every cell as Arrow would write it from a column of its own type; `digits` writes booleans as 1 and 0."""
    if set(map(type, cells)) <= {str, type(None)}:
        try:
            return pa.chunked_array([pa.array(cells, pa.string())])
        except UnicodeEncodeError:  # a lone surrogate
            pass
    return pa.chunked_array([pa.array([_plain_text(_cell_text(cell, digits=digits)) for cell in cells], pa.string())])


def is_nested(cell: object) -> bool:
    """Whether a cell is a list, an object or whatever else has no text of its own."""
    return cell is not None and not isinstance(cell, READABLE)


def _cell_text(cell: object, *, digits: bool = False) -> str | None:
    """One cell as Arrow would write it from a column of its type; `digits` writes booleans as 1 and 0."""
    if cell is None:
        return None
    if isinstance(cell, bool | np.bool_):
        return str(int(cell)) if digits else str(bool(cell)).lower()
    if isinstance(cell, int | np.integer):
        cell = int(cell)
        return str(cell) if cell.bit_length() <= MAX_INTEGER_BITS else "inf" if cell > 0 else "-inf"
    if isinstance(cell, float | np.floating):
        cell = float(cell)
        whole = cell.is_integer() and abs(cell) < EXACT
        return str(int(cell)) if whole else str(pa.scalar(cell).cast(pa.string()).as_py())
    if isinstance(cell, datetime.date):
        return cell.isoformat()
    return str(cell) if isinstance(cell, READABLE) else f"<{type(cell).__name__}>"


def _plain_text(text: str | None) -> str | None:
    return None if text is None else text.encode("utf-8", "backslashreplace").decode("utf-8")


def _written(cells: pa.ChunkedArray) -> pa.ChunkedArray:
    """Cells as strings: 1.0 is written 1 whatever the type of its column."""
    text = pc.cast(cells, pa.string())
    if not pa.types.is_floating(cells.type):
        return text
    numbers = pc.cast(cells, pa.float64())
    whole = pc.and_(pc.equal(numbers, pc.floor(numbers)), pc.less(pc.abs(numbers), EXACT))
    integers = pc.cast(pc.if_else(whole, numbers, 0.0), pa.int64())
    return pc.if_else(whole, pc.cast(integers, pa.string()), text)


def printable(text: str) -> str:
    """`text` for a terminal: what is no printable character, as an escape would be, becomes a replacement mark."""
    return "".join(one if one.isprintable() else "\ufffd" for one in text)


def trimmed(name: str) -> str:
    """A column's name without the spaces (no-break ones too) and byte order marks around it."""
    return name.strip(AROUND_NAME)


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


class PlainRows:
    """Reads rows whose every cell is its own value or a known level, written as in the schema.

    One conversion for all cells instead of one a column: a row of 32 numbers costs a tenth of the general way.
    """

    def __init__(self, schema: TableSchema) -> None:
        self.width = len(schema.columns)
        self.named_alone = schema.id_column is None and schema.group_by is None
        pick = itemgetter(*schema.names)
        self.pick = pick if self.width > 1 else lambda row: (pick(row),)
        self.levels = {i: _numbers_of_levels(column) for i, column in enumerate(schema.columns) if column.levels}
        kinds = [(i, column.kind) for i, column in enumerate(schema.columns) if column.kind in AS_THEY_ARE]
        self.only = AS_THEY_ARE[kinds[0][1]] if len({kind for _, kind in kinds}) == 1 and not self.levels else None
        self.allowed = [(i, AS_THEY_ARE[kind]) for i, kind in kinds]
        self.readable = len(self.levels) + len(kinds) == self.width  # a category without a known level is not

    def read(self, rows: Sequence[object]) -> np.ndarray | None:
        """Values `(n, d)`, exactly those of the general way, or None where a row is not plain."""
        if not (self.named_alone and self.readable and rows):
            return None
        try:
            x = np.array([self._cells(row) for row in rows], dtype=np.float64)
        except (KeyError, TypeError, OverflowError, _NotPlain):  # OverflowError: an integer beyond float64
            return None
        return None if np.isinf(x).any() else x

    def _cells(self, row: object) -> Sequence[object]:
        cells: Sequence[object]
        if type(row) is dict and len(row) == self.width:
            cells = self.pick(row)
        elif type(row) is list and len(row) == self.width:
            cells = row
        else:
            raise _NotPlain
        if self.only is not None:
            if not self.only.issuperset(map(type, cells)):
                raise _NotPlain
            return cells
        values = list(cells)
        for i, kinds in self.allowed:
            if type(values[i]) not in kinds:
                raise _NotPlain
        for i, levels in self.levels.items():
            values[i] = levels[values[i]]
        return values


class _NotPlain(Exception):
    """The row needs the general way."""


def _numbers_of_levels(column: Column) -> dict[object, float]:
    """The number of each level that is read as it is written, the first of equal ones; a missing cell is NaN."""
    levels = column.levels
    as_read = as_text(pa.chunked_array([pa.array(levels, pa.string())]), keep=column.kept_words).to_pylist()
    numbers: dict[object, float] = {None: math.nan}
    for i, (level, text) in enumerate(zip(levels, as_read, strict=True)):
        if level == text:
            numbers.setdefault(level, float(i))
    return numbers
