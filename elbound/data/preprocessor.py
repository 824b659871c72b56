"""Items of one model as its event tensor: all that decoding an upload needs of a bundle, without the detector."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import pyarrow as pa

from elbound.data.frames import Frame, as_table, without_mask
from elbound.data.image import DEFAULT_MAX_PIXELS, ImagePreprocessor
from elbound.data.items import TensorItems
from elbound.data.raw import RawTable
from elbound.data.table import Rows, TablePreprocessor
from elbound.errors import SchemaError
from elbound.schema import ImageSchema, TableSchema

Items: TypeAlias = "pa.Table | Frame | RawTable | np.ndarray | Rows"


class Preprocessor:
    """Turns items into the event tensor of `schema`; `name` is the model's, for messages.

    It is a function of these two alone, so another process can make the same one from them.
    """

    def __init__(self, name: str, schema: TableSchema | ImageSchema) -> None:
        self.name = name
        self.schema = schema
        self.table = TablePreprocessor(schema) if isinstance(schema, TableSchema) else None
        self.image = ImagePreprocessor(schema) if isinstance(schema, ImageSchema) else None

    def __reduce__(self) -> tuple[type["Preprocessor"], tuple[str, TableSchema | ImageSchema]]:
        return Preprocessor, (self.name, self.schema)

    def to_tensor(self, items: Items) -> TensorItems:
        """Items as the event tensor of the schema.

        For a table: raw rows, a DataFrame or Arrow table (`elbound.data.frames`), a numeric array `(n, d)` or a list
        of JSON rows. For images: an integer array `(n, height, width[, channels])`; encoded files go through
        `images_to_tensor`. A masked cell of an array is a missing one. Raises SchemaError where the whole upload
        cannot be what the model scores.
        """
        if self.image is not None:
            if isinstance(items, np.ndarray):
                return self.image.array_to_tensor(np.asarray(without_mask(items)))
            raise SchemaError(f"{self.name} scores images. Got rows of a table instead")
        assert self.table is not None
        if isinstance(items, RawTable):
            return items.to_tensor(self.table)
        if isinstance(items, list | tuple):
            return self.table.rows_to_tensor(items)
        if isinstance(items, np.ndarray):
            return self.table.array_to_tensor(np.asarray(without_mask(items)))
        table = as_table(items)
        if table is None:
            raise SchemaError(f"rows, an array or a frame are scored. Got {type(items).__name__} instead")
        return self.table.to_tensor(table)

    def images_to_tensor(
        self,
        files: Sequence[bytes],
        *,
        names: Sequence[str] | None = None,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        max_total_pixels: int | None = None,
    ) -> TensorItems:
        """Encoded images as the event tensor; one that cannot be read is the error of that item."""
        if self.image is None:
            raise SchemaError(f"{self.name} scores rows of a table. Got images instead")
        return self.image.to_tensor(files, names=names, max_pixels=max_pixels, max_total_pixels=max_total_pixels)
