"""What a model takes as tensors, and the items that tensors hold."""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from elbound.data.cells import list_to_arrow
from elbound.data.items import TensorItems
from elbound.data.preprocessor import Preprocessor
from elbound.data.raw import RawTable
from elbound.errors import DataError, DecodeError, LimitExceeded, SchemaError
from elbound.files.limits import TableLimits
from elbound.files.long_cells import set_long_cells_aside
from elbound.schema import ColumnKind, ImageSchema, TableSchema
from service.settings import Settings
from service.v2.tensors import BYTES, Tensor

WHOLE = "input"
"""What the one input of a model without categories is called in its metadata; any name is taken."""
IMAGES = "images"
DATATYPES: dict[ColumnKind, str] = {"numeric": "FP64", "boolean": "BOOL", "categorical": BYTES, "datetime": BYTES}
CELL_BYTES = np.dtype(np.float64).itemsize


@dataclass(frozen=True)
class TensorFacts:
    """A tensor as metadata tell of it; -1 is the number of items."""

    name: str
    datatype: str
    shape: tuple[int, ...]


def inputs_of(schema: TableSchema | ImageSchema) -> list[TensorFacts]:
    """The inputs that a model's metadata name: one tensor, or one for each column of a table that needs types."""
    if isinstance(schema, ImageSchema):
        datatype = "UINT8" if schema.bits == 8 else "UINT16"
        return [TensorFacts(IMAGES, datatype, (-1, schema.height, schema.width, schema.channels))]
    grouped_beside = schema.group_by is not None and schema.group_by not in schema.names
    if all(column.kind == "numeric" for column in schema.columns) and not grouped_beside:
        return [TensorFacts(WHOLE, "FP64", (-1, len(schema.columns)))]
    facts = [TensorFacts(column.name, DATATYPES[column.kind], (-1,)) for column in schema.columns]
    if grouped_beside:
        facts.append(TensorFacts(str(schema.group_by), BYTES, (-1,)))
    return facts


def items_of(
    inputs: Sequence[Tensor], preprocessor: Preprocessor, settings: Settings, limits: TableLimits
) -> TensorItems:
    """The items of `inputs`. Raises DecodeError, SchemaError, LimitExceeded."""
    schema = preprocessor.schema
    if isinstance(schema, ImageSchema):
        return _images(inputs, preprocessor, settings)
    n = len(inputs[0].values)
    limits.check(size=n * len(schema.columns) * CELL_BYTES)
    if len(inputs) == 1 and _is_whole(inputs[0], schema):
        if inputs[0].datatype == BYTES:
            raise SchemaError("one tensor for all columns must hold numbers. Got BYTES instead", where=inputs[0].name)
        return preprocessor.to_tensor(inputs[0].values)
    for tensor in inputs:
        if tensor.values.shape not in ((n,), (n, 1)):
            raise SchemaError(
                f"{tensor.label} must have the shape ({n},) or ({n}, 1) as one column among others. "
                f"Got {tensor.values.shape} instead",
                where=tensor.name,
            )
    cells = {tensor.name: _column(tensor) for tensor in inputs}
    cells |= {column.name: pa.nulls(n) for column in schema.columns if column.nullable and column.name not in cells}
    return preprocessor.to_tensor(set_long_cells_aside(RawTable(table=pa.table(cells)), limits.max_cell_bytes))


def check_readable(items: TensorItems) -> None:
    """Raise DataError that names the first item which cannot be scored: a tensor has no place for an error."""
    if not items.errors:
        return
    first = min(items.errors)
    more = f"; nor can {len(items.errors) - 1:,} others" if len(items.errors) > 1 else ""
    raise DataError(
        f"item {first:,} of {items.n:,} cannot be scored: {items.errors[first].message}{more}",
        code=items.errors[first].code,
        where=f"item {first}",
    )


def _is_whole(tensor: Tensor, schema: TableSchema) -> bool:
    """Whether the only input holds all columns: by its width, or because no column has its name."""
    known = {*schema.names, schema.id_column, schema.group_by}
    return tensor.values.ndim > 1 and (tensor.values.shape[1:] != (1,) or tensor.name not in known)


def _column(tensor: Tensor) -> pa.ChunkedArray:
    cells = tensor.values.reshape(-1)
    if tensor.datatype != BYTES:
        numbers = cells.astype(np.float32) if cells.dtype == np.float16 else cells
        return pa.chunked_array([pa.array(numbers, from_pandas=True)])  # NaN is a missing cell
    texts: list[object] = []
    for row, cell in enumerate(cells):
        try:
            texts.append(cell.decode() if isinstance(cell, bytes) else cell)
        except UnicodeDecodeError as error:
            raise DecodeError(
                f"{tensor.label}, row {row:,} is not UTF-8", code="tensor_invalid", where=tensor.name
            ) from error
    return list_to_arrow(texts)


def _images(inputs: Sequence[Tensor], preprocessor: Preprocessor, settings: Settings) -> TensorItems:
    if len(inputs) != 1:
        raise SchemaError(f"{preprocessor.name} takes one input of images. Got {len(inputs):,} instead", where="inputs")
    tensor = inputs[0]
    if tensor.datatype != BYTES:
        return preprocessor.to_tensor(tensor.values)
    n = len(tensor.values)
    if tensor.values.shape not in ((n,), (n, 1)):
        raise SchemaError(f"encoded images must have the shape ({n},) or ({n}, 1)", where=tensor.name)
    if n > settings.max_files:
        raise LimitExceeded(f"{n:,} images; at most {settings.max_files:,} are taken", where="max_files")
    files = [_file(tensor, i, cell) for i, cell in enumerate(tensor.values.reshape(-1))]
    return preprocessor.images_to_tensor(
        files, max_pixels=settings.max_pixels, max_total_pixels=settings.max_total_pixels if n > 1 else None
    )


def _file(tensor: Tensor, i: int, cell: bytes | str | None) -> bytes:
    """One encoded image; in JSON it is written in base64."""
    if cell is None or isinstance(cell, bytes):
        return cell or b""
    try:
        return base64.b64decode(cell, validate=True)
    except (binascii.Error, ValueError) as error:
        raise DecodeError(
            f"{tensor.label}, item {i:,} must be an image file in base64",
            code="tensor_invalid",
            where=tensor.name,
        ) from error
