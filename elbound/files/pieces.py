"""Rows as they come, cut into pieces of a fixed number of rows."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import pyarrow as pa

from elbound.data.raw import RawTable
from elbound.errors import DataError, ItemError

Wanted: TypeAlias = "Callable[[int], bool]"
"""Whether the piece of this number, counted from 0 in its file, is to be read."""


@dataclass(frozen=True)
class TablePiece:
    """`n` rows of a file from the place `start` on.

    `raw` is None where the piece is not wanted, and where it cannot be read: `error` then says why.
    """

    start: int
    n: int
    raw: RawTable | None = None
    error: DataError | None = None


class Cutter:
    """Cuts tables that come one after the other, with the columns of `head`, into pieces of `rows` rows.

    `bad` holds the rows that never come, by place. It may grow while tables come, but a row is known to be bad
    before a later row comes. With `piece_bytes` a piece ends earlier where its rows are long.
    """

    def __init__(
        self,
        head: pa.Table,
        rows: int,
        wanted: Wanted,
        bad: dict[int, ItemError] | None = None,
        *,
        piece_bytes: int | None = None,
    ) -> None:
        self.rows = rows
        self.piece_bytes = piece_bytes
        self.wanted = wanted
        self.bad = {} if bad is None else bad
        self.start = 0
        self._held = [head]
        self._good = self._bytes = 0

    def add(self, table: pa.Table) -> Iterator[TablePiece]:
        """Take more rows; yields the pieces after which a further row is known."""
        self._held.append(table)
        self._good += table.num_rows
        self._bytes += table.nbytes if self.piece_bytes else 0
        while self.end > self.start + self.rows:
            yield self._cut(self.rows)
        if self.piece_bytes and self._bytes > self.piece_bytes and self.end > self.start + 1:
            yield self._cut(self.end - self.start - 1)

    def rest(self, end: int) -> Iterator[TablePiece]:
        """The last pieces, of the rows before `end`; one without rows where there are none at all."""
        while self.start < end or self.start == 0:
            yield self._cut(min(self.rows, end - self.start))
            if end == 0:
                return

    @property
    def end(self) -> int:
        """The place after the last row that came or is known to be bad."""
        end = self.start + self._good
        for place in sorted(self.bad):
            if place > end:
                break
            end += 1
        return end

    def _cut(self, n: int) -> TablePiece:
        start = self.start
        bad = {place - start: self.bad.pop(place) for place in sorted(self.bad) if place < start + n}
        table = pa.concat_tables(self._held)
        good = n - len(bad)
        self._held = [table.slice(good)]
        self._bytes = self._held[0].nbytes if self.piece_bytes else 0
        self._good -= good
        self.start += n
        if not self.wanted(start // self.rows):
            return TablePiece(start, n)
        return TablePiece(start, n, RawTable(table=table.slice(0, good), bad=bad, start=start))
