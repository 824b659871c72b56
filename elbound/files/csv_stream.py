"""A CSV file of any size, piece by piece: the rows before a break are kept."""

import codecs
import io
from collections.abc import Callable, Iterator
from typing import BinaryIO, cast

import numpy as np
import pyarrow as pa
import pyarrow.csv

from elbound.errors import DataError, DecodeError
from elbound.files.csv import CsvText, RaggedRows, csv_options
from elbound.files.csv_head import MAX_HEADER_BYTES, csv_head
from elbound.files.kinds import START_BYTES, as_utf8, check_csv, not_utf8
from elbound.files.limits import NO_LIMITS, TableLimits
from elbound.files.pieces import Cutter, TablePiece, Wanted
from elbound.files.readers import BROKEN_FILE

BLOCK_BYTES = 1 << 20
"""Arrow reads 32 of them ahead, and no row that is longer than one."""
MAX_LINE_BYTES = 16 << 20
LINE_FEED = 0x0A
MAX_RAGGED_ROWS, FEW_RAGGED_ROWS = 200_000, 20_000
"""Ragged rows one after the other, of a file and of an upload, that are told one by one: Arrow gives nothing back
before the next good row, and all their errors are kept until then."""


class WholeLines:
    """The lines of a CSV before the first that cannot be read or is too long; `error` then names it."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = cast("io.BufferedReader", source)
        self.error: DataError | None = None
        self._first: bytes | None = None
        self._again: bytes = b""
        self._held: bytes = b""
        self._line = 0
        self._more = True
        self._utf8 = codecs.getincrementaldecoder("utf-8")()

    def seek(self, place: int) -> int:
        """Back into what was read first: the source itself may be a stream."""
        self._again = (self._first or b"")[place:]
        return place

    def read(self, size: int) -> bytes:
        """At least one line, and more than `size` bytes where it is longer; nothing at the end."""
        if self._again:
            again, self._again = self._again, b""
            return again
        text = self._next_lines(size)
        if self._first is None:
            while len(text) < size and (more := self._next_lines(size - len(text))):
                text += more
            self._first = text
        return text

    def _next_lines(self, size: int) -> bytes:
        while self._more:
            held = len(self._held)
            text = self._held + self._next_block(size - held if held < size else size)
            cut = _last_line_end(text)
            if len(text) - cut > MAX_LINE_BYTES:
                line = self._line + _lines(text[:cut]) + 1
                self.break_off(f"line {line:,} is longer than {MAX_LINE_BYTES:,} bytes")
            elif self._at_end():
                cut = len(text)
            self._held = text[cut:]
            if cut:
                self._line += _lines(text[:cut])
                return text[:cut]
        return b""

    def _at_end(self) -> bool:
        """Whether the file came to its own end, so that its last line is whole."""
        return not self._more and self.error is None

    def _next_block(self, size: int) -> bytes:
        try:
            block = self._source.read1(size)  # what is there, should the rest not come
        except BROKEN_FILE as error:
            self.break_off(f"it cannot be read beyond line {self._line + 1 + _lines(self._held):,}: {error}")
            return b""
        except DataError as error:  # a stream that is longer than it may be
            self.error, self._more = error, False
            return b""
        pending = len(self._utf8.getstate()[0])
        try:
            if pending or not block.isascii():
                self._utf8.decode(block, final=not block)
        except UnicodeDecodeError as error:
            good = block[: max(0, error.start - pending)]
            line = self._line + 1 + _lines(self._held + good)
            self.break_off(not_utf8(line))
            return good
        self._more = bool(block)
        return block

    def break_off(self, message: str) -> None:
        """End the text here, for the reason `message`."""
        self.error = DecodeError(f"not readable as CSV: {message}")
        self._more = False


class CountedRaggedRows(RaggedRows):
    """Ragged rows of a stream; `too_many` is the place after `most_in_a_row` of them.

    None is kept from there on, and after as many more the reading ends.
    """

    def __init__(self, lines: WholeLines, most_in_a_row: int) -> None:
        super().__init__()
        self.lines = lines
        self.most_in_a_row = most_in_a_row
        self.too_many: int | None = None
        self._next = self._run = 0

    def __call__(self, row: pyarrow.csv.InvalidRow) -> str:
        if self.too_many is not None:  # Arrow has read blocks ahead, and would go through all of them
            self.last = row.text
            self._run += 1
            return "skip" if self._run < 2 * self.most_in_a_row else "error"
        place = row.number - 1
        self._run = self._run + 1 if place == self._next else 1
        self._next = place + 1
        if self._run == self.most_in_a_row:
            self.too_many = place + 1
            self.lines.break_off(
                f"{self.most_in_a_row:,} rows one after the other do not have the header's "
                f"{row.expected_columns:,} cells, as row {place:,}, which has {row.actual_columns:,}"
            )
        return super().__call__(row)


def csv_pieces(
    source: BinaryIO,
    *,
    rows: int,
    wanted: Wanted,
    check: Callable[[pa.Table], None],
    line_of: Callable[[int], int | None] = lambda _: None,
    piece_bytes: int | None = None,
    limits: TableLimits = NO_LIMITS,
) -> Iterator[TablePiece]:
    """The rows of a CSV, which is read once; `check` sees a table of its columns first.

    What breaks the text off (bytes that are no text, a quote that is never closed, the end of a gzip) is raised
    after the rows before it, with the line that `line_of` their place is. A piece of more than `piece_bytes` ends
    before `rows`. Raises DecodeError, SchemaError, LimitExceeded.
    """
    start = first_bytes(cast("io.BufferedReader", source))
    check_csv(start)
    lines = WholeLines(as_utf8(source, start) or source)
    start = lines.read(MAX_HEADER_BYTES)
    if lines.error is not None and not start:
        raise lines.error
    head = csv_head(start[:MAX_HEADER_BYTES])
    limits.check(columns=len(head.cells))
    head.check()
    empty = pa.table({name: pa.array([], pa.string()) for name in head.names})
    check(empty)
    text = CsvText(cast("BinaryIO", lines), head, is_text=True)
    ragged = CountedRaggedRows(lines, MAX_RAGGED_ROWS if limits is NO_LIMITS else FEW_RAGGED_ROWS)
    cutter = Cutter(empty, rows, wanted, ragged.bad, piece_bytes=piece_bytes)
    options = csv_options(head, ragged, block_bytes=BLOCK_BYTES)
    try:
        for batch in pyarrow.csv.open_csv(text, *options):
            if ragged.too_many is not None:
                break
            yield from cutter.add(pa.Table.from_batches([batch]))
    except pa.ArrowException as error:
        end = cutter.end
        if ragged.too_many is not None:
            ragged.too_many = end
        what = f"a row is longer than {BLOCK_BYTES:,} bytes, or a quote is opened and never closed"
        lines.error = lines.error or DecodeError(
            f"not readable as CSV: line {_line(line_of, end)}: {what if 'straddl' in str(error) else error}"
        )
    else:
        end = cutter.end - 1
        closed = end in ragged.bad and ragged.last == text.last_row
        if not closed and lines.error is None:
            lines.error = DecodeError(
                f"not readable as CSV: a quote is opened on line {_line(line_of, end)} and never closed"
            )
    yield from cutter.rest(end if ragged.too_many is None else ragged.too_many)
    if lines.error is not None:
        raise lines.error


def first_bytes(source: io.BufferedReader) -> bytes:
    """What says of which kind the bytes are; nothing where they cannot be read, which their reader finds out."""
    try:
        return source.peek(START_BYTES)[:START_BYTES]
    except (*BROKEN_FILE, DataError):
        return b""


def _line(line_of: Callable[[int], int | None], place: int) -> str:
    line = line_of(place)
    return f"of row {place:,}" if line is None else f"{line:,}"


def _lines(text: bytes) -> int:
    return int(np.count_nonzero(np.frombuffer(text, np.uint8) == LINE_FEED)) or text.count(b"\r")


def _last_line_end(text: bytes) -> int:
    return (text.rfind(b"\n") + 1) or (text.rfind(b"\r") + 1)
