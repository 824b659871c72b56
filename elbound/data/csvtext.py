"""CSV before it is parsed: its header, its delimiter, its text as a stream, and how Arrow is to read it."""

import codecs
import csv
import io
import re
from collections import deque
from typing import BinaryIO

import pyarrow as pa
import pyarrow.csv

from elbound.errors import DecodeError, ItemError, LimitExceeded

DELIMITERS = ",;\t|"
MAX_HEADER_BYTES = 1 << 20
BEFORE_HEADER = re.compile(rb"(?:\xef\xbb\xbf|[\r\n])*")
"""Byte order marks and empty lines, of which Arrow itself passes over one mark."""
CSV_BLOCK_BYTES = 4 << 20


def csv_header(start: bytes) -> tuple[list[str], str]:
    """Names of the columns and the delimiter, from the first `MAX_HEADER_BYTES`. Raises DecodeError, LimitExceeded."""
    whole = len(start) < MAX_HEADER_BYTES
    try:
        text = start.decode("utf-8", errors="strict" if whole else "ignore").lstrip("\ufeff\r\n")
    except UnicodeDecodeError as error:
        raise DecodeError(f"the CSV is not UTF-8 text: byte {error.start} cannot be read") from error
    if not text.strip():
        raise DecodeError("the CSV is empty; a header row with the column names comes first")
    first_line = re.split(r"[\r\n]", re.sub(r'"[^"]*"', "", text), maxsplit=1)
    if len(first_line) == 1 and not whole:
        raise LimitExceeded(f"the CSV's header is longer than {MAX_HEADER_BYTES:,} bytes", where="header")
    delimiter = max(DELIMITERS, key=first_line[0].count)
    try:
        header = next(row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row)
    except csv.Error as error:
        raise DecodeError(f"the CSV's header cannot be read: {error}") from error
    return header, delimiter


class CsvText:
    """CSV from its header on, with one more row at its end.

    `last_row` has a cell too many, so that it comes back as ragged; where it does not, a quote was left open.
    `is_text` says that `source` has looked for bytes that are no text already.
    """

    closed = False

    def __init__(self, source: BinaryIO, *, last_row: str, is_text: bool = False) -> None:
        self.last_row = last_row
        self._source = source
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._ahead: deque[bytes] = deque()
        self._ended = False
        self._has_end = True
        self._is_text = is_text
        source.seek(0)
        start = source.read(MAX_HEADER_BYTES)
        source.seek(BEFORE_HEADER.match(start).end())  # type: ignore[union-attr]

    def readable(self) -> bool:
        return True

    def read(self, size: int) -> bytes:
        """At most `size` bytes; the end comes with the last block and not alone."""
        while not self._ended and len(self._ahead) < 2:
            block = self._source.read(size)
            if not self._is_text:
                self._utf8.decode(block, final=not block)  # Arrow itself looks at good rows only
            self._ended = not block
            if block:
                self._ahead.append(block)
        if not self._ahead:
            return b""
        found = self._ahead.popleft()
        if self._ended and not self._ahead and self._has_end:
            found += self._end(found)
            self._has_end = False
        if len(found) > size:
            self._ahead.appendleft(found[size:])
        return found[:size]

    def close(self) -> None:
        self.closed = True

    def _end(self, before: bytes) -> bytes:
        return (b"" if before.endswith((b"\r", b"\n")) else b"\n") + self.last_row.encode()


class RaggedRows:
    """Rows of a CSV with more or fewer cells than the header, by place; `last` is the text of the last of them."""

    def __init__(self) -> None:
        self.bad: dict[int, ItemError] = {}
        self.last = ""

    def __call__(self, row: pyarrow.csv.InvalidRow) -> str:
        self.last = row.text
        place = row.number - 2  # the header is row 1
        message = f"has {row.actual_columns:,} cells, the header has {row.expected_columns:,}"
        self.bad[place] = ItemError(message, code="row_ragged", where=f"row {place}")
        return "skip"


def csv_options(
    header: list[str], delimiter: str, ragged: RaggedRows, *, block_bytes: int = CSV_BLOCK_BYTES
) -> tuple[pyarrow.csv.ReadOptions, pyarrow.csv.ParseOptions, pyarrow.csv.ConvertOptions]:
    """How Arrow reads our CSV: every cell as text, an empty one as missing, `ragged` rows set aside."""
    return (
        pyarrow.csv.ReadOptions(use_threads=False, block_size=block_bytes),
        pyarrow.csv.ParseOptions(
            delimiter=delimiter,
            newlines_in_values=True,
            ignore_empty_lines=len(header) > 1,
            invalid_row_handler=ragged,
        ),
        pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=True, null_values=[""]
        ),
    )
