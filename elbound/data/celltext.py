"""Cells as text, whatever they come as, and what Arrow reads from text."""

import datetime
import decimal
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

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
