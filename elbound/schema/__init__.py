"""What an item is: the columns of a row or the shape of an image, and how numbers and file names are written."""

from elbound.schema.item import (
    MAX_IMAGE_SIDE,
    MAX_NAMES_IN_MESSAGE,
    Column,
    ColumnKind,
    IgnoredColumn,
    ImageSchema,
    ResizeMode,
    Schema,
    TableSchema,
    doubled_names,
    list_names,
    read_schema,
)

__all__ = [
    "MAX_IMAGE_SIDE",
    "MAX_NAMES_IN_MESSAGE",
    "Column",
    "ColumnKind",
    "IgnoredColumn",
    "ImageSchema",
    "ResizeMode",
    "Schema",
    "TableSchema",
    "doubled_names",
    "list_names",
    "read_schema",
]
