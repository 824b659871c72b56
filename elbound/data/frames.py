"""Tables from Python: DataFrames of pandas and polars, Arrow tables, and all that speaks Arrow's PyCapsule interface.

Each column is converted by itself, so that one that cannot be is named.
"""

from typing import Any, Protocol, TypeVar

import numpy as np
import pyarrow as pa

from elbound.data.cells import is_nested, list_to_arrow, list_to_text
from elbound.data.encodings import write_out
from elbound.errors import DataError, SchemaError
from elbound.schema import doubled_names, list_names

CONVERSION_ERRORS = (pa.ArrowException, TypeError, ValueError, NotImplementedError, OverflowError)


T = TypeVar("T")


class Frame(Protocol):
    """A DataFrame of any library that gives its columns by Arrow's PyCapsule interface."""

    columns: Any

    def __arrow_c_stream__(self, requested_schema: object = None) -> object: ...


def as_table(items: object) -> pa.Table | None:
    """A frame or an Arrow table as an Arrow table; None for anything else.

    Categories (pandas Categorical, polars Categorical and Enum, Arrow dictionaries) stay dictionaries, of text:
    their values are levels, also where they look like numbers. Cells of several types in one column become text. The
    index of a pandas frame is left out. Raises SchemaError that names the column.
    """
    if isinstance(items, pa.Table):
        return _readable(items)
    if hasattr(items, "iloc") and hasattr(items, "columns"):
        return _from_pandas(items)
    if hasattr(items, "__arrow_c_stream__") and hasattr(items, "columns"):
        try:
            table = pa.table(items)
        except CONVERSION_ERRORS as error:
            raise SchemaError(f"the frame cannot be read as an Arrow table: {error}") from error
        return _readable(table)
    return None


def without_mask(items: T) -> T | np.ndarray:
    """A masked array of numbers with NaN for each masked cell, which is a missing one; other items as they are.

    Raises DataError for masked pixels.
    """
    if not isinstance(items, np.ma.MaskedArray):
        return items
    if items.ndim > 2 and np.ma.getmaskarray(items).any():
        raise DataError("masked pixels are not read; fill them, as with numpy.ma.filled")
    return items.filled() if items.ndim > 2 else np.ma.filled(items.astype(np.float64), np.nan)


def _readable(table: pa.Table) -> pa.Table:
    """Text by reference written out, dictionaries as those of text."""
    columns = [_written(column) for column in table.columns]
    return pa.Table.from_arrays(columns, names=table.column_names)


def _written(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    if pa.types.is_string_view(kind):
        return write_out(column)
    if not pa.types.is_dictionary(kind) or pa.types.is_nested(kind.value_type):
        return column
    chunks = [
        pa.DictionaryArray.from_arrays(one.indices, _level_texts(one.dictionary.to_pylist())) for one in column.chunks
    ]
    return pa.chunked_array(chunks or [pa.array([], pa.string()).dictionary_encode()])


def _level_texts(values: list[object]) -> pa.Array:
    return list_to_text(values, digits=False).combine_chunks()


def _from_pandas(frame: Any) -> pa.Table:
    names = [_name(column) for column in frame.columns]
    doubled = doubled_names(names)
    if doubled:
        raise SchemaError(f"columns appear twice: {list_names(doubled)}", where=doubled[0])
    columns = [_pandas_column(name, frame.iloc[:, i]) for i, name in enumerate(names)]
    return pa.Table.from_arrays(columns, names=names)


def _name(column: object) -> str:
    """A column's name; the parts of a name of several levels are joined by a point."""
    return ".".join(map(str, column)) if isinstance(column, tuple) else str(column)


def _pandas_column(name: str, series: Any) -> pa.ChunkedArray:
    kind = str(series.dtype)
    if kind == "category":
        codes = series.cat.codes.to_numpy()
        levels = [str(one) if is_nested(one) else one for one in series.cat.categories]  # an interval of pd.cut
        found = pa.DictionaryArray.from_arrays(pa.array(codes, mask=codes < 0), _level_texts(levels))
        return pa.chunked_array([found])
    if kind.startswith("Sparse"):
        series = series.sparse.to_dense()
    if kind.startswith(("interval", "period")):
        series = series.astype(str).where(series.notna(), None)
    try:
        found = pa.array(series, from_pandas=True)
    except CONVERSION_ERRORS:
        found = _mixed(name, series)
    chunked = found if isinstance(found, pa.ChunkedArray) else pa.chunked_array([found])
    return _written(chunked)


def _mixed(name: str, series: Any) -> pa.ChunkedArray:
    """Cells of several types as text."""
    cells = series.astype(object).where(series.notna(), None).tolist()
    for row, cell in enumerate(cells):
        if is_nested(cell):
            raise SchemaError(
                f"column {name!r} cannot be read: row {row} is of type {type(cell).__name__}; "
                "give numbers, texts, booleans or dates",
                where=name,
            )
    return list_to_arrow(cells)
