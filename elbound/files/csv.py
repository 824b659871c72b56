"""CSV as Arrow reads it: ragged rows are set aside, and cells stay text until a schema types them."""

import codecs
import io
import math
from collections import deque
from typing import BinaryIO

import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet

from elbound.data.items import keep_error
from elbound.data.raw import RawTable
from elbound.errors import DecodeError, ItemError
from elbound.files.csv_head import MAX_HEADER_BYTES, CsvHead, csv_head
from elbound.files.kinds import START_BYTES, as_utf8, check_csv, not_utf8
from elbound.files.limits import NO_LIMITS, TableLimits

CSV_BLOCK_BYTES = 4 << 20


class CsvText:
    """The rows of a CSV below `head`, with one more at their end.

    `last_row` has a cell too many, so that it comes back as ragged; where it does not, a quote was left open.
    `is_text` says that `source` has looked for bytes that are no text already.
    """

    closed = False

    def __init__(self, source: BinaryIO, head: CsvHead, *, is_text: bool = False) -> None:
        self.last_row = head.delimiter * len(head.cells)
        self._source = source
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._ahead: deque[bytes] = deque()
        self._ended = False
        self._has_end = True
        self._is_text = is_text
        source.seek(head.body)

    def readable(self) -> bool:
        return True

    def read(self, size: int) -> bytes:
        """At most `size` bytes; the end comes with the last block and not alone."""
        while not self._ended and len(self._ahead) < 2:
            block = self._source.read(size)
            if not self._is_text:
                self._check(block)
            self._ended = not block
            if block:
                self._ahead.append(block)
        if not self._ahead and not self._has_end:
            return b""
        found = self._ahead.popleft() if self._ahead else b""
        if self._ended and not self._ahead and self._has_end:
            found += self._end(found)
            self._has_end = False
        if len(found) > size:
            self._ahead.appendleft(found[size:])
        return found[:size]

    def close(self) -> None:
        self.closed = True

    def _check(self, block: bytes) -> None:
        """Raise DecodeError where the text is not UTF-8: Arrow itself looks at good rows only."""
        pending = len(self._utf8.getstate()[0])
        try:
            if pending or not block.isascii():
                self._utf8.decode(block, final=not block)
        except UnicodeDecodeError as error:
            end = self._source.tell() - len(block) + max(0, error.start - pending)
            self._source.seek(0)
            line = 1 + self._source.read(end).count(b"\n")
            raise DecodeError(f"not readable as CSV: {not_utf8(line)}") from error

    def _end(self, before: bytes) -> bytes:
        return (b"" if not before or before.endswith((b"\r", b"\n")) else b"\n") + self.last_row.encode()


class RaggedRows:
    """Rows of a CSV with more or fewer cells than the header, by place; `last` is the text of the last of them.

    More than `most` of them end the reading.
    """

    def __init__(self, most: float = math.inf) -> None:
        self.most = most
        self.bad: dict[int, ItemError] = {}
        self.last = ""

    def __call__(self, row: pyarrow.csv.InvalidRow) -> str:
        self.last = row.text
        place = row.number - 1
        message = f"has {row.actual_columns:,} cells, the header has {row.expected_columns:,}"
        keep_error(self.bad, place, ItemError(message, code="row_ragged", where=f"row {place}"))
        return "skip" if len(self.bad) <= self.most + 1 else "error"  # the row that is put at the end is one


def csv_options(
    head: CsvHead, ragged: RaggedRows, *, block_bytes: int = CSV_BLOCK_BYTES, nameless: bool = False
) -> tuple[pyarrow.csv.ReadOptions, pyarrow.csv.ParseOptions, pyarrow.csv.ConvertOptions]:
    """How Arrow reads the rows below `head`: every cell as text, an empty one as missing, `ragged` rows set aside.

    Columns without a name are read only where they are asked for (`nameless`).
    """
    return (
        pyarrow.csv.ReadOptions(use_threads=False, block_size=block_bytes, column_names=head.columns),
        pyarrow.csv.ParseOptions(
            delimiter=head.delimiter,
            newlines_in_values=True,
            ignore_empty_lines=len(head.cells) > 1,
            invalid_row_handler=ragged,
        ),
        pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(head.columns, pa.string()),
            include_columns=None if nameless or not head.nameless else head.names,
            strings_can_be_null=True,
            null_values=[""],
        ),
    )


def parse_csv(source: BinaryIO, *, limits: TableLimits = NO_LIMITS) -> RawTable:
    """Comma, semicolon, tab or bar separated text with a header row. Raises DecodeError, LimitExceeded."""
    start = source.read(START_BYTES)
    check_csv(start)
    text_of_marks = as_utf8(source, start)
    source.seek(0)
    source = source if text_of_marks is None else io.BytesIO(text_of_marks.read())
    head = csv_head(source.read(MAX_HEADER_BYTES))
    limits.check(columns=len(head.cells))
    head.check()
    text = CsvText(source, head)
    ragged = RaggedRows(limits.max_rows)
    bad = ragged.bad
    try:
        table = pyarrow.csv.read_csv(text, *csv_options(head, ragged, nameless=True))
    except pa.ArrowException as error:
        limits.check(rows=len(bad))
        raise DecodeError(f"not readable as CSV: {error}") from error
    end = table.num_rows + len(bad) - 1
    if end not in bad or ragged.last != text.last_row:
        raise DecodeError(f"not readable as CSV: a quote is opened in row {end:,} and never closed")
    del bad[end]
    limits.check(rows=table.num_rows + len(bad), size=table.nbytes)
    return RawTable(table=table.select(head.names), bad=bad, notes=_notes(head, table), delimiter=head.delimiter)


def _notes(head: CsvHead, table: pa.Table) -> tuple[str, ...]:
    """What was passed over of a CSV, in words: lines above the header, columns without a name."""
    notes = [f"line {line:,} ({text!r}) stands above the header and is passed over" for line, text in head.above]
    for place in head.nameless:
        filled = len(table) - table.column(head.columns[place]).null_count
        if filled:
            notes.append(
                f"column {place + 1:,} has no name and is left out, with its {filled:,} values; name it to train on it"
            )
    empty = sum(table.column(head.columns[place]).null_count == len(table) for place in head.nameless)
    if empty:
        notes.append(f"{empty:,} column{'s' * (empty > 1)} without a name and without values left out")
    return tuple(notes)
