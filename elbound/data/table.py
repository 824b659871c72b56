"""From raw rows to one float64 tensor and back; the levels and the gaps of each column are learned here."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import torch

from elbound.data.cells import Cells, PlainRows, list_to_arrow, read_column
from elbound.data.groups import cell_groups
from elbound.data.infer import frequent_levels
from elbound.data.items import TensorItems, keep_error, keep_readable
from elbound.errors import ItemError, SchemaError
from elbound.schema import Column, TableSchema

Rows = Sequence[Mapping[str, object] | Sequence[object]]


class TablePreprocessor:
    """Turns rows into the event tensor of `schema`: float64 `(n, d)`, NaN where a cell is missing.

    Numbers stay in their own units (each view standardises in float64 before it casts to float32);
    booleans are 0 and 1, categories the number of their level with `len(levels)` for every other value.
    """

    def __init__(self, schema: TableSchema) -> None:
        self.schema = schema
        self._names = dict.fromkeys(schema.names)
        self._required = {column.name for column in schema.columns if not column.nullable}
        self._known = {*self._names, *(column.name for column in schema.ignored), schema.id_column}
        self._known.add(schema.group_by)
        self._plain = PlainRows(schema)
        self._all_numbers = schema.group_by is None and all(column.kind == "numeric" for column in schema.columns)

    @classmethod
    def fit(cls, schema: TableSchema, table: pa.Table) -> "TablePreprocessor":
        """Learn levels (where the schema gives none) and which columns have gaps, from the rows of train."""
        schema.check_names(table.column_names)
        columns = [_fit_column(column, table.column(column.name)) for column in schema.columns]
        return cls(schema.model_copy(update={"columns": tuple(columns)}))

    def to_tensor(self, table: pa.Table, *, places: np.ndarray | None = None) -> TensorItems:
        """Items of a table whose column names are checked; raises SchemaError.

        Rows without an identifier are called by their `places` `(n,)`, from 0 on where none are given.
        """
        self.schema.check_names(table.column_names)
        cells = {name: table.column(name) for name in self._names}
        names = None
        if self.schema.id_column in table.column_names:
            names = _item_names(table.column(self.schema.id_column).to_pylist(), places)
        groups = None
        if self.schema.group_by in table.column_names:
            groups = cell_groups(table.column(self.schema.group_by))
        return self._read(cells, table.num_rows, places=places, names=names, groups=groups)

    def rows_to_tensor(self, rows: Rows, *, places: np.ndarray | None = None) -> TensorItems:
        """Items of JSON rows: objects by column name, or arrays in the schema's order.

        An object may leave out a column in which training saw gaps; it counts as missing. Any other
        difference is the error of that row alone. `places` as in `to_tensor`.
        """
        plain = self._plain.read(rows)
        if plain is not None:
            return keep_readable(torch.from_numpy(plain), _empty_rows(plain, places))
        errors: dict[int, ItemError] = {}
        blank = [None] * len(self.schema.columns)
        called = range(len(rows)) if places is None else places.tolist()
        aligned = [self._align(row, i, called[i], errors) or blank for i, row in enumerate(rows)]
        by_column = zip(*aligned, strict=True) if rows else [()] * len(blank)
        cells: dict[str, Cells] = dict(zip(self._names, by_column, strict=True))
        identifier = self.schema.id_column
        names = None
        if identifier is not None:
            names = _item_names([row.get(identifier) if isinstance(row, Mapping) else None for row in rows], places)
        groups = self._groups_of_rows(rows, cells)
        return self._read(cells, len(rows), places=places, errors=errors, names=names, groups=groups)

    def takes_matrix(self, array: np.ndarray) -> bool:
        """Whether numbers `(n, d)` mean the same to `array_to_tensor` as they do as JSON rows."""
        return self._all_numbers and self.schema.id_column is None and array.shape[1] == len(self.schema.columns)

    def array_to_tensor(self, array: np.ndarray) -> TensorItems:
        """Items of a numeric array `(n, d)` in the schema's order of columns."""
        d = len(self.schema.columns)
        if array.ndim != 2 or array.shape[1] != d:
            raise SchemaError(f"expected an array of shape (n, {d}), but got {array.shape}")
        if array.dtype.kind not in "fiub":
            raise SchemaError(f"expected an array of numbers, but got dtype {array.dtype}")
        with np.errstate(over="ignore"):  # a long double beyond float64 is infinite, and that item's error
            array = array.astype(np.float64, order="C")
        if self._all_numbers and not np.isinf(array).any():
            return keep_readable(torch.from_numpy(array), _empty_rows(array, None))
        cells = {name: pa.chunked_array([array[:, i]]) for i, name in enumerate(self._names)}
        by = self.schema.group_by
        return self._read(cells, len(array), groups=cell_groups(cells[by]) if by in cells else None)

    def from_tensor(self, x: torch.Tensor) -> dict[str, list[object]]:
        """Cells by column name from `x` `(n, d)`: numbers, booleans, level names; None where missing."""
        return {
            column.name: [plain_cell(column, value) for value in x[:, i].tolist()]
            for i, column in enumerate(self.schema.columns)
        }

    def _read(
        self,
        cells: Mapping[str, Cells],
        n: int,
        *,
        places: np.ndarray | None = None,
        errors: dict[int, ItemError] | None = None,
        names: Sequence[str] | None = None,
        groups: Sequence[str | None] | None = None,
    ) -> TensorItems:
        errors = {} if errors is None else errors
        x = np.empty((n, len(self.schema.columns)))
        unseen: Counter[str] = Counter()
        for i, column in enumerate(self.schema.columns):
            found = read_column(column, cells[column.name])
            x[:, i] = found.values
            if found.unseen:
                unseen[column.name] += found.unseen
            for row, message in found.errors.items():
                if row not in errors:
                    keep_error(errors, row, ItemError(message, code="cell_invalid", where=column.name))
        errors = _empty_rows(x, places) | errors
        return keep_readable(torch.from_numpy(x), errors, names=names, unseen=unseen, groups=groups)

    def _groups_of_rows(self, rows: Rows, cells: Mapping[str, Cells]) -> list[str | None] | None:
        by = self.schema.group_by
        if by is None:
            return None
        if by in cells:  # a feature: arrays have it too
            return cell_groups(list_to_arrow(list(cells[by])))
        return cell_groups(list_to_arrow([row.get(by) if isinstance(row, Mapping) else None for row in rows]))

    def _align(
        self, row: Mapping[str, object] | Sequence[object], index: int, place: int, errors: dict[int, ItemError]
    ) -> list[object] | None:
        try:
            if isinstance(row, Mapping):
                return self._align_object(row)
            if isinstance(row, list | tuple):
                if len(row) != len(self.schema.columns):
                    raise SchemaError(f"has {len(row):,} cells, expected {len(self.schema.columns):,}")
                return list(row)
            raise SchemaError(f"must be an object or an array. Got {type(row).__name__} instead")
        except SchemaError as error:
            keep_error(errors, index, ItemError(error.message, code=error.code, where=f"row {place}"))
            return None

    def _align_object(self, row: Mapping[str, object]) -> list[object]:
        given = row.keys()
        if not (self._required <= given <= self._known):
            gaps = [name for name in self._names if name not in self._required and name not in row]
            self.schema.check_names([*row, *gaps])
        return [row.get(name) for name in self._names]


def _empty_rows(x: np.ndarray, places: np.ndarray | None) -> dict[int, ItemError]:
    """An error for each row of `x` `(n, d)` without a single value: there is nothing to score."""
    first = np.isnan(x[:, 0])
    if not first.any():  # the usual case, which costs one pass over one column
        return {}
    rows = np.flatnonzero(first)
    rows = rows[np.isnan(x[rows]).all(1)]
    called = rows if places is None else places[rows]
    return {
        row: ItemError("every cell is empty", code="row_empty", where=f"row {place}")
        for row, place in zip(rows.tolist(), called.tolist(), strict=True)
    }


def _item_names(identifiers: Sequence[object], places: np.ndarray | None) -> list[str]:
    """Names for people: the identifier, or the place of an item that has none."""
    numbers = range(len(identifiers)) if places is None else places.tolist()
    return [str(i if name is None else name) for i, name in zip(numbers, identifiers, strict=True)]


def _fit_column(column: Column, cells: pa.ChunkedArray) -> Column:
    levels = column.levels
    if column.kind == "categorical" and not levels:
        levels = frequent_levels(cells, column.kept_words)
    column = column.model_copy(update={"levels": levels})
    gaps = bool(np.isnan(read_column(column, cells).values).any())
    return column.model_copy(update={"nullable": column.nullable or gaps})


def plain_cell(column: Column, value: float) -> object:
    """A number of the event tensor as what it stands for: times as seconds, levels by name, None for a gap."""
    if np.isnan(value):
        return None
    if column.kind == "boolean":
        return value >= 0.5
    if column.kind == "categorical":
        return column.levels[int(value)] if int(value) < len(column.levels) else "other"
    return value
