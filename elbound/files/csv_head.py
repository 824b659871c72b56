"""Where the rows of a CSV begin: its delimiter, its column names, and what stands in front of them.

Training, bulk scoring and the service all read a CSV by what `csv_head` finds, so that a column has one name.
"""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from elbound.data.cells import trimmed
from elbound.errors import DecodeError, LimitExceeded, SchemaError
from elbound.files.kinds import not_utf8
from elbound.schema import doubled_names, list_names

DELIMITERS = ",;\t|"
MAX_HEADER_BYTES = 1 << 20
"""What is looked at to find the header; a longer one is refused."""
EMPTY = "the CSV is empty; a header row with the column names comes first"
MAX_ROWS_ABOVE = 25
"""Rows in front of a header that may be a title or comments."""
ROWS_BELOW = 3
BEFORE_HEADER = re.compile(rb"(?:\xef\xbb\xbf|[\r\n])*")
"""Byte order marks and empty lines."""
SEP_LINE = re.compile(r'"?sep=(?P<delimiter>[,;\t|:^~ ])"?[ \t,;|]*(?:\r\n|\r|\n)', re.IGNORECASE)
"""Excel's first line that names the delimiter."""
ONE_LINE = re.compile(r'(?:[^"\r\n]+|"[^"]*")*[^\r\n]*')
DECIMAL_COMMA = re.compile(r"(?<=\d),(?=\d)")
NUMBER = re.compile(r"[-+]?(\d+([.,]\d*)*|[.,]\d+)([eE][-+]?\d+)?\s*%?")


@dataclass(frozen=True)
class CsvHead:
    """A CSV's header.

    `cells` are the names as they are meant (trimmed; '' where there is none), `body` is the byte at which the rows
    below begin, `lines` how many lines stand in front of that byte, and `above` are the lines that were passed over,
    by number.
    """

    cells: tuple[str, ...]
    delimiter: str
    body: int
    lines: int
    above: tuple[tuple[int, str], ...] = ()

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """A distinct name for each cell: a nameless one but the first, which is pandas' row number, gets a NUL."""
        return tuple(name if name or not i else f"\0{i}" for i, name in enumerate(self.cells))

    @cached_property
    def nameless(self) -> tuple[int, ...]:
        """The places, from 0, of columns that cannot be named and are therefore not read; never the first."""
        return tuple(i for i, name in enumerate(self.cells) if i and not name)

    @cached_property
    def names(self) -> list[str]:
        """The names of the columns that are read."""
        return [name for i, name in enumerate(self.cells) if name or not i]

    def check(self) -> None:
        """Raise SchemaError where two columns have the same name."""
        doubled = doubled_names(self.names)
        if doubled:
            numbers = all(is_number(name) for name in doubled)
            advice = "; the first line seems to be a row: add a line of column names above it" if numbers else ""
            raise SchemaError(
                f"columns appear twice in the header: {list_names(doubled)}{advice}", where=doubled[0] or None
            )


class _Row(NamedTuple):
    """The cells of a row as they stand, the characters of the text that it takes up, and its first and last line."""

    cells: list[str]
    start: int
    end: int
    line: int
    last_line: int

    @property
    def filled(self) -> int:
        return sum(bool(cell.strip()) for cell in self.cells)


def csv_head(start: bytes) -> CsvHead:
    """The header of a CSV that begins with `start`, its first `MAX_HEADER_BYTES`. Names may be doubled: see `check`.

    It is the first line with anything in it, below `sep=` where that is given. Comments and titles above a header
    are passed over where it is sure which row that is (`_is_header`). Raises DecodeError, LimitExceeded.
    """
    whole = len(start) < MAX_HEADER_BYTES
    skipped = BEFORE_HEADER.match(start).end()  # type: ignore[union-attr]
    line = 1 + _line_ends(start[:skipped])
    try:
        text = start[skipped:].decode("utf-8", errors="strict" if whole else "ignore")
    except UnicodeDecodeError as error:
        raise DecodeError(f"not readable as CSV: {not_utf8(line + _line_ends(error.object[: error.start]))}") from error
    if not text.strip():
        raise DecodeError(EMPTY)
    sep = SEP_LINE.match(text)
    given = sep["delimiter"] if sep else None
    above, header, delimiter = _header(text, sep.end() if sep else 0, line + bool(sep), given)
    if header.end == len(text) and not whole:
        raise LimitExceeded(f"the CSV's header is longer than {MAX_HEADER_BYTES:,} bytes", where="header")
    if text.count('"', header.start, header.end) % 2:
        raise DecodeError(
            f"not readable as CSV: a quote is opened on line {header.line:,}, in the header, and never closed"
        )
    body = skipped + len(text[: header.end].encode())
    passed = tuple((row.line, _shown(row)) for row in above if row.filled)
    return CsvHead(tuple(map(trimmed, header.cells)), delimiter, body, header.last_line, passed)


def is_number(text: str) -> bool:
    """Whether a name or a cell looks like a number, also with a decimal comma, thousands separators or a percent."""
    return NUMBER.fullmatch(text.strip()) is not None


def _rows(text: str, delimiter: str, start: int, line: int, *, most: int = MAX_ROWS_ABOVE + ROWS_BELOW) -> list[_Row]:
    """The first rows of `text` from the character `start`, which is on `line`; blank lines are none.

    Raises DecodeError where not even the first can be read.
    """
    lines = io.StringIO(text[start:], newline="")
    reader = csv.reader(lines, delimiter=delimiter)
    rows: list[_Row] = []
    lines_before = place = 0
    try:
        for cells in reader:
            if cells:
                rows.append(
                    _Row(cells, start + place, start + lines.tell(), line + lines_before, line + reader.line_num - 1)
                )
            lines_before, place = reader.line_num, lines.tell()
            if len(rows) == most:
                break
    except csv.Error as error:
        if not rows:
            raise DecodeError(f"the CSV's header cannot be read: {error}") from error
    return rows


def _delimiter(text: str, start: int) -> str:
    """The delimiter that the line at the character `start` has most of, outside of quotes.

    Commas between digits are decimal ones where another delimiter is there.
    """
    first = re.sub(r'"[^"]*"', "", ONE_LINE.match(text, start)[0])  # type: ignore[index]
    if any(one in first for one in DELIMITERS[1:]):
        first = DECIMAL_COMMA.sub("", first)
    return max(DELIMITERS, key=first.count)


def _header(text: str, start: int, line: int, given: str | None) -> tuple[Sequence[_Row], _Row, str]:
    """The rows above the header, the header, and the delimiter, which may be `given`; from the character `start` on.

    Raises DecodeError where there is no row.
    """
    own = given or _delimiter(text, start)
    rows = _rows(text, own, start, line, most=2)
    if not rows:
        raise DecodeError(EMPTY)
    first = rows[0]
    if len(first.cells) == 1:  # several lines of a title have one cell each
        rows = _rows(text, own, start, line)
    even = all(len(row.cells) == len(first.cells) for row in rows)
    if even and first.filled >= min(2, len(first.cells)) and not first.cells[0].startswith("#"):
        return (), first, own
    for row in _rows(text, own, start, line)[1 : MAX_ROWS_ABOVE + 1]:
        delimiter = given or _delimiter(text, row.start)
        above = _rows(text[: row.start], delimiter, first.start, first.line)
        header, *below = _rows(text, delimiter, row.start, row.line)
        if _is_header(above, header, below[:ROWS_BELOW]):
            return above, header, delimiter
    return (), first, own


def _is_header(above: Sequence[_Row], row: _Row, below: Sequence[_Row]) -> bool:
    """Whether `row` is surely the header, and what is `above` are titles or comments.

    It has text alone, all different, and the rows below have as many cells and a column of numbers, perhaps under
    units. Comments begin with `#`; a title has fewer cells, or one that is not empty, and lines below a title are
    filled less than the header. Rows without any text may stand above too.
    """
    alike = [one for one in below if len(one.cells) == len(row.cells)]
    if not below or alike[:2] != list(below[:2]):
        return False
    cells = [trimmed(cell) for cell in row.cells]
    names = [name for name in cells if name]
    if all(one.filled == 0 for one in above):
        return bool(names)
    if not names or any(map(is_number, names)) or doubled_names(names) or not all(cells[: len(names)]):
        return False
    filled = [one for one in above if one.filled]
    shorter = _is_shorter(filled[0], row) and all(
        one.filled < len(names) for one in filled if not _is_shorter(one, row)
    )
    columns = list(zip(*(one.cells for one in alike), strict=True))
    numbers = any(all(map(is_number, cells[1:] or cells)) for cells in columns)
    if all(not one.filled or one.cells[0].startswith("#") for one in above):
        return numbers or (shorter and len(names) > 1)
    return shorter and numbers and len(names) > 1


def _is_shorter(one: _Row, header: _Row) -> bool:
    if len(one.cells) < len(header.cells):
        return True
    return one.filled <= 1 and (len(one.cells) > 2 or bool(one.cells[0].strip()))


def _shown(row: _Row) -> str:
    text = " ".join(cell.strip() for cell in row.cells if cell.strip())
    return text if len(text) <= 60 else text[:57] + "..."


def _line_ends(data: bytes) -> int:
    return len(re.findall(rb"\r\n|\r|\n", data))
