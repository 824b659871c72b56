"""Rows of a file that are no items: empty ones, the header again, units below it, totals at the end.

Training leaves them out and says so. Scoring judges every row as it is, so that none is lost without an answer.
"""

import re
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from elbound.data.cells import MISSING_WORDS, as_text, is_text
from elbound.files.csv_head import is_number

SAMPLE_ROWS = 200
"""Rows below a units row that say which columns are numbers."""
NUMBER_SHARE = 0.9
MAX_MISSING_BYTES = 6
"""A cell of the first column with more, and without a space in front, is neither empty nor a word for it."""
LAST_ROWS = 3
"""Rows at the end that may be totals."""
UNIT = re.compile(r"[\[(].{1,14}[\])]|1/\w{1,8}|[^\d\s.,+-][^\[\]()]{0,14}")
PLACEHOLDERS = frozenset(
    (*MISSING_WORDS, "-", "--", "?", ".", "n.a.", "n.d.", "#div/0!", "#value!", "#ref!", "err", "error")
)
TOTAL = re.compile(
    r"(grand[ -]?|sub[ -]?)?(totals?|sum|summe|gesamt|gesamtsumme|average|avg\.?|mean|mittelwert|durchschnitt|somme"
    r"|moyenne|median|std\.?|stdev|minimum|maximum|min\.?|max\.?)\s*:?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class ExtraRows:
    """The `places` of rows that are left out, and why: `reason` follows the words "is" or "are"."""

    places: tuple[int, ...]
    reason: str


def find_extra_rows(table: pa.Table) -> list[ExtraRows]:
    """What rows of a file's table to leave out in training. Text of a CSV is looked at more closely than types."""
    if not table.num_rows or not table.num_columns:
        return []
    rows = _suspects(table)
    found = [ExtraRows(_empty_rows(table, rows), "empty in every cell")]
    if all(is_text(column.type) for column in table.columns):
        found.append(ExtraRows(_repeated_headers(table, rows), "the header once more"))
        if _is_units_row(table):
            found.append(ExtraRows((0,), f"a row of units above the numbers ({_shown(table, 0)})"))
        totals = [
            place for place in range(max(0, table.num_rows - LAST_ROWS), table.num_rows) if _is_total(table, place)
        ]
        found += [ExtraRows((place,), f"a total of the rows above ({_shown(table, place)})") for place in totals]
    return [one for one in found if one.places]


def without_rows(table: pa.Table, extra: list[ExtraRows]) -> pa.Table:
    """The other rows."""
    if not extra:
        return table
    kept = np.ones(table.num_rows, bool)
    kept[[place for one in extra for place in one.places]] = False
    return table.filter(pa.array(kept))


def header_of_numbers(table: pa.Table) -> str | None:
    """A doubt where the names of a CSV's columns seem to be a row: at least half of them are numbers, each of these
    lies among the values of its column, and they do not count up by one, as the names of an unnamed matrix do."""
    names = [name for name in table.column_names if name]
    numbers = [name for name in names if is_number(name)]
    counted = numbers in ([str(i + first) for i in range(len(numbers))] for first in (0, 1))
    if not numbers or len(numbers) < len(names) / 2 or counted:
        return None
    sample = table.slice(0, SAMPLE_ROWS)
    if not all(_lies_among(name, sample.column(name)) for name in numbers):
        return None
    shown = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
    added = ",".join(f"c{i}" for i in range(min(4, len(names)))) + (",..." if len(names) > 4 else "")
    return (
        f"the header is made of numbers ({shown}): the first line seems to be a row. Add a line of column names "
        f"above it ({added}), in files to score too"
    )


def _lies_among(name: str, column: pa.ChunkedArray) -> bool:
    """Whether the number `name` is not far from the values of its column."""
    values = [_value(cell) for cell in as_text(column).to_pylist() if cell is not None and is_number(cell)]
    if not values:
        return False
    low, high = min(values), max(values)
    margin = max((high - low) / 2, 1e-9)
    return low - margin <= _value(name) <= high + margin


def _value(text: str) -> float:
    """A number near enough to compare: its digits, with the last point or comma as the decimal one."""
    digits = text.strip().rstrip("% ").replace(",", ".")
    whole, _, rest = digits.rpartition(".")
    return float(whole.replace(".", "") + "." + rest) if whole else float(digits)


def _as_cells(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Text trimmed, with missing words as nulls; NaN as null."""
    if is_text(column.type):
        return as_text(column)
    if pa.types.is_floating(column.type):
        return pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    return column


def _suspects(table: pa.Table) -> np.ndarray:
    """The rows that may be empty or the header, by their cell in the first column with a name; this is fast."""
    name, column = next(
        (pair for pair in zip(table.column_names, table.columns, strict=True) if pair[0]), ("", table[0])
    )
    if not is_text(column.type):
        return np.flatnonzero(_as_cells(column).is_null().to_numpy(zero_copy_only=False))
    signs = (
        pc.less_equal(pc.binary_length(column), MAX_MISSING_BYTES), pc.starts_with(column, " "), pc.equal(column, name)
    )  # fmt: skip
    suspect = pc.fill_null(pc.or_(pc.or_(signs[0], signs[1]), signs[2]), True)
    return np.flatnonzero(suspect.to_numpy(zero_copy_only=False))


def _empty_rows(table: pa.Table, rows: np.ndarray) -> tuple[int, ...]:
    """Those of `rows` that have no cell with a value."""
    for column in table.columns:
        if not len(rows):
            break
        rows = rows[_as_cells(column.take(pa.array(rows))).is_null().to_numpy(zero_copy_only=False)]
    return tuple(rows.tolist())


def _repeated_headers(table: pa.Table, rows: np.ndarray) -> tuple[int, ...]:
    """Those of `rows` of which every cell is the name of its column; a header of numbers may be a row like others."""
    names = table.column_names
    if all(is_number(name) for name in names if name):
        return ()
    for name, column in zip(names, table.columns, strict=True):
        if not len(rows):
            break
        cells = pc.utf8_trim_whitespace(column.take(pa.array(rows)))
        rows = rows[pc.equal(pc.fill_null(cells, ""), name).to_numpy(zero_copy_only=False)]
    return tuple(rows.tolist())


def _is_units_row(table: pa.Table) -> bool:
    """Whether the first row has units above all columns of numbers (or nothing), and no value of any other column."""
    below = table.slice(1, SAMPLE_ROWS)
    if below.num_rows < 2:
        return False
    units = 0
    for cell, column in zip(_texts(table, 0), below.columns, strict=True):
        if not cell or cell.lower() in PLACEHOLDERS:
            continue
        values = [value for value in as_text(column).to_pylist() if value is not None]
        numeric = bool(values) and sum(map(_begins_as_number, values)) >= NUMBER_SHARE * len(values)
        if UNIT.fullmatch(cell) is None or (not numeric and values and (cell in values or cell[0] not in "[(")):
            return False
        units += numeric
    return units > 0


def _begins_as_number(cell: str) -> bool:
    return re.match(r"[-+(<>~$€£]*\s*[.,]?\d", cell) is not None


def _is_total(table: pa.Table, place: int) -> bool:
    """Whether a row has the word in one of its first columns, once in that column, and otherwise numbers or nothing."""
    cells = _texts(table, place)
    words = [i for i, cell in enumerate(cells) if cell and not _begins_as_number(cell)]
    if len(words) != 1 or TOTAL.fullmatch(cells[words[0]]) is None or len(cells) == 1:
        return False
    same = pc.equal(pc.utf8_lower(as_text(table.column(words[0]))), cells[words[0]].lower())
    return bool(pc.sum(same).as_py() == 1)


def _texts(table: pa.Table, place: int) -> list[str]:
    return [str(column[place].as_py() or "").strip() for column in table.columns]


def _shown(table: pa.Table, place: int) -> str:
    text = ", ".join(cell for cell in _texts(table, place) if cell)
    return text if len(text) <= 60 else text[:57] + "..."
