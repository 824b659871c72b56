"""Parquet: what a file announces is checked before it is read, row group by row group."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Protocol

import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet

from elbound.data.memory import announce
from elbound.data.raw import RawTable
from elbound.errors import DataError, DecodeError
from elbound.files.limits import NO_LIMITS, TableLimits, decoding, plain_table
from elbound.files.pieces import TablePiece, Wanted

PARQUET_BUFFER_BYTES = 1 << 20
PARQUET_COLUMN_BYTES = 3 << 20
"""Of a column what is held at once: its buffer, its dictionary and a page, as most programs write them."""


def parquet_rows(path: Path) -> int:
    """How many rows the footer of a Parquet file counts. Raises DecodeError."""
    with decoding("Parquet"):
        rows: int = pyarrow.parquet.read_metadata(path).num_rows
        return rows


@dataclass(frozen=True)
class ParquetHead:
    """What the footer of a Parquet file says: an empty table of its columns, and the rows of each row group."""

    empty: pa.Table
    counts: tuple[int, ...]


class ParquetSource(Protocol):
    """A Parquet file that is read row group by row group."""

    def head(self) -> ParquetHead:
        """Raises DecodeError, LimitExceeded."""

    def batches(self, group: int) -> Iterator[pa.Table]:
        """The rows of a row group, some at a time. Raises DecodeError, LimitExceeded."""


class ParquetFile:
    """A Parquet file that this process decodes, `rows` rows at a time."""

    def __init__(self, source: BinaryIO, *, rows: int, limits: TableLimits = NO_LIMITS) -> None:
        self.source = source
        self.rows = rows
        self.limits = limits

    def head(self) -> ParquetHead:
        """Raises DecodeError, LimitExceeded."""
        with decoding("Parquet"):
            found = self._reader.metadata
            self.limits.check(columns=found.num_columns)
            counts = tuple(found.row_group(i).num_rows for i in range(found.num_row_groups))
            empty = plain_table(self._reader.schema_arrow.empty_table())
        if sum(counts) != found.num_rows or min(counts, default=0) < 0:
            raise DecodeError(
                f"not readable as Parquet: the footer counts {found.num_rows:,} rows, its row groups {sum(counts):,}"
            )
        return ParquetHead(empty, counts)

    def batches(self, group: int) -> Iterator[pa.Table]:
        """The rows of a row group, some at a time. Raises DecodeError, LimitExceeded.

        Text whose size passes the `max_bytes` of the limits when it is written out cannot be read.
        """
        with decoding("Parquet"):
            found = self._reader.metadata
            opened = max(0, found.row_group(group).total_byte_size)
            announce(PARQUET_COPIES * min(opened, found.num_columns * PARQUET_COLUMN_BYTES))
            batches = self._reader.iter_batches(self.rows, row_groups=[group])
            while (batch := next(batches, None)) is not None:
                batch.validate(full=True)
                yield plain_table(pa.Table.from_batches([batch]), self.limits)

    @cached_property
    def _reader(self) -> pyarrow.parquet.ParquetFile:
        reader = pyarrow.parquet.ParquetFile(self.source, buffer_size=PARQUET_BUFFER_BYTES)
        if self.limits is NO_LIMITS:
            return reader
        text = text_columns(reader)
        self.source.seek(0)
        return pyarrow.parquet.ParquetFile(self.source, buffer_size=PARQUET_BUFFER_BYTES, read_dictionary=text)


def parquet_pieces(
    source: ParquetSource, *, rows: int, wanted: Wanted, check: Callable[[pa.Table], None]
) -> Iterator[TablePiece]:
    """The rows of a Parquet file; row groups in which nothing is wanted are not read. Raises DecodeError."""
    head = source.head()
    check(head.empty)
    groups = RowGroups(source, head)
    n_all = sum(head.counts)
    for start in range(0, max(1, n_all), rows):
        n = min(rows, n_all - start)
        if not wanted(start // rows):
            yield TablePiece(start, n)
            continue
        try:
            yield TablePiece(start, n, RawTable(table=groups.read(start, n), start=start))
        except DataError as error:
            yield TablePiece(start, n, error=error)


class RowGroups:
    """Ranges of rows of a Parquet file, asked for in ascending order and decoded batch by batch.

    Batches begin with their row group, so that where a broken one ends does not depend on what is asked for.
    """

    def __init__(self, source: ParquetSource, head: ParquetHead) -> None:
        self.source = source
        self.head = head
        self.group = -1

    def read(self, start: int, n: int) -> pa.Table:
        """The `n` rows from `start` on. Raises DecodeError, which says which row group and rows are broken."""
        parts = [self.head.empty]
        first = 0
        try:
            for group, count in enumerate(self.head.counts):
                low, high = max(start, first), min(start + n, first + count)
                if low < high:
                    parts.append(self._read(group, low - first, high - first))
                first += count
        except DecodeError as error:
            last = start + n - 1
            raise DecodeError(f"rows {start:,} to {last:,}: {error.message}", code=error.code) from error
        return pa.concat_tables(parts)

    def _read(self, group: int, low: int, high: int) -> pa.Table:
        if group != self.group:
            self.group, self.done = group, 0
            self.error: DecodeError | None = None
            self.held: list[pa.Table] = []
            self.batches = self.source.batches(group)
        while self.done < high:
            self.held.append(self._next(group))
            self.done += self.held[-1].num_rows
            if self.done <= low:
                self.held.clear()
        table = pa.concat_tables(self.held)
        first = self.done - table.num_rows
        self.held = [table.slice(high - first)]
        return table.slice(low - first, high - low)

    def _next(self, group: int) -> pa.Table:
        if self.error is not None:
            raise self.error
        try:
            table = next(self.batches, None)
            if table is None:
                raise DecodeError(f"not readable as Parquet: the footer counts {self.head.counts[group]:,} rows")
            return table
        except DecodeError as error:
            self.error = DecodeError(f"row group {group} ends after {self.done:,} rows: {error.message}")
            raise self.error from error


DICTIONARY_BYTES = 1 << 30
"""Text in row groups of Parquet up to this size is read as dictionaries, which Arrow ends at 2 GiB."""


PARQUET_COPIES = 3
"""Of a table that is read: its pages, its columns, and its cells as numbers."""


def parse_parquet(source: BinaryIO, *, limits: TableLimits = NO_LIMITS) -> RawTable:
    """A Parquet file. Raises DecodeError, LimitExceeded.

    Text is read as dictionaries and written out once it is known to fit: one long text can stand in every
    row of a very small file.
    """
    with decoding("Parquet"):
        reader = pyarrow.parquet.ParquetFile(source)
        _check_footer(reader, limits)
        text = text_columns(reader)
        source.seek(0)
        reader = pyarrow.parquet.ParquetFile(source, read_dictionary=text)
        tables = [reader.schema_arrow.empty_table()]
        size = 0
        announce(PARQUET_COPIES * _footer_bytes(reader))
        for i in range(reader.num_row_groups):
            tables.append(reader.read_row_group(i))
            tables[-1].validate(full=True)
            size += tables[-1].nbytes
            limits.check(size=size)
        return RawTable(table=plain_table(pa.concat_tables(tables), limits))


def _footer_bytes(reader: pyarrow.parquet.ParquetFile) -> int:
    """What the footer says that the file opens to."""
    found = reader.metadata
    groups = (found.row_group(i) for i in range(found.num_row_groups))
    return int(max(found.num_rows * found.num_columns * 8, sum(group.total_byte_size for group in groups)))


def _check_footer(reader: pyarrow.parquet.ParquetFile, limits: TableLimits) -> None:
    """Raise LimitExceeded for what the footer announces.

    A broken footer ends the whole process where the metadata of a column chunk are asked for: they are not.
    """
    found = reader.metadata
    groups = [found.row_group(i) for i in range(found.num_row_groups)]
    rows = max(found.num_rows, sum(group.num_rows for group in groups))
    limits.check(columns=found.num_columns, rows=rows)
    limits.check(size=max(rows * found.num_columns * 8, _footer_bytes(reader)))


def text_columns(reader: pyarrow.parquet.ParquetFile) -> list[str]:
    """The columns of text to read as dictionaries, where that is possible: one text may stand in every row."""
    found = reader.metadata
    if any(found.row_group(i).total_byte_size > DICTIONARY_BYTES for i in range(found.num_row_groups)):
        return []
    leaves = [reader.schema.column(i) for i in range(found.num_columns)]
    return [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
