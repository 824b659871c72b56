"""Rows as they came from a file or an upload, before a schema has read their cells."""

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from elbound.data.cells import list_to_arrow, trimmed
from elbound.data.items import TensorItems
from elbound.data.table import Rows, TablePreprocessor
from elbound.errors import DecodeError, ItemError
from elbound.schema import TableSchema


@dataclass(frozen=True)
class RawTable:
    """Rows as they came: a table of raw cells or a list of JSON rows, and the unreadable ones by place.

    `start` is the place of the first row in its file, by which rows without an identifier are called. `notes` say what
    else stood in the file and was passed over, `delimiter` what stands between the cells of a CSV.
    """

    table: pa.Table | None = None
    rows: Rows = ()
    bad: dict[int, ItemError] = field(default_factory=dict)
    start: int = 0
    notes: tuple[str, ...] = ()
    delimiter: str | None = None

    @property
    def n(self) -> int:
        return (len(self.rows) if self.table is None else self.table.num_rows) + len(self.bad)

    @property
    def positions(self) -> np.ndarray:
        """Where the readable rows stand among all."""
        return np.setdiff1d(np.arange(self.n), np.fromiter(self.bad, np.int64, len(self.bad)))

    def to_tensor(self, preprocessor: TablePreprocessor) -> TensorItems:
        table, positions = self.table, self.positions
        places = positions + self.start
        if table is None:
            items = preprocessor.rows_to_tensor(self.rows, places=places)
        else:
            items = preprocessor.to_tensor(_named_as(table, preprocessor.schema), places=places)
        return items.among(positions, self.bad, start=self.start) if self.bad else items

    def to_table(self) -> pa.Table:
        """All rows as one table; raises the first bad row's error."""
        if self.bad:
            raise self.bad[min(self.bad)]
        if self.table is not None:
            return self.table
        objects = [row for row in self.rows if isinstance(row, dict)]
        if len(objects) < len(self.rows):
            raise DecodeError("a table to train on needs objects with column names on every line")
        names = list(dict.fromkeys(name for row in objects for name in row))
        return pa.table({name: list_to_arrow([row.get(name) for row in objects]) for name in names})


def _named_as(table: pa.Table, schema: TableSchema) -> pa.Table:
    """The table with its names as the schema has them: with the spaces that a model from elsewhere has around some.

    A column without a name that the schema does not know, as pandas writes the row number, is dropped.
    """
    names = table.column_names
    known = {*schema.names, *(column.name for column in schema.ignored), schema.id_column, schema.group_by}
    if "" in names and "" not in known:
        table = table.drop_columns([""])
    untrimmed = {trimmed(name): name for name in known if name and name not in names and trimmed(name) != name}
    if untrimmed:
        table = table.rename_columns([untrimmed.get(name, name) for name in table.column_names])
    return table
