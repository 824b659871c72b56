"""Plain JSON rows straight to float64: the short way of `TablePreprocessor.rows_to_tensor`."""

import math
from collections.abc import Sequence
from operator import itemgetter

import numpy as np
import pyarrow as pa

from elbound.data.cells import AS_THEY_ARE
from elbound.data.celltext import as_text
from elbound.schema import Column, TableSchema


class PlainRows:
    """Reads rows whose every cell is its own value or a known level, written as in the schema.

    One conversion for all cells instead of one a column: a row of 32 numbers costs a tenth of the general way.
    """

    def __init__(self, schema: TableSchema) -> None:
        self.width = len(schema.columns)
        self.named_alone = schema.id_column is None and schema.group_by is None
        pick = itemgetter(*schema.names)
        self.pick = pick if self.width > 1 else lambda row: (pick(row),)
        self.levels = {i: _levels(column) for i, column in enumerate(schema.columns) if column.levels}
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


def _levels(column: Column) -> dict[object, float]:
    """The number of each level that is read as it is written, the first of equal ones; a missing cell is NaN."""
    levels = column.levels
    as_read = as_text(pa.chunked_array([pa.array(levels, pa.string())]), keep=column.kept_words).to_pylist()
    numbers: dict[object, float] = {None: math.nan}
    for i, (level, text) in enumerate(zip(levels, as_read, strict=True)):
        if level == text:
            numbers.setdefault(level, float(i))
    return numbers
