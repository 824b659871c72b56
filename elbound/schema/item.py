"""What one item is: the columns of a row or the shape of an image.

A schema is inferred from data or written by hand, travels in the bundle, and is the only thing that
training and service know of an item.
"""

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from elbound.errors import SchemaError
from elbound.schema.number_format import NumberFormat
from elbound.schema.patterns import check_pattern

ColumnKind = Literal["numeric", "boolean", "categorical", "datetime"]
ResizeMode = Literal["fit", "crop", "stretch"]

MAX_NAMES_IN_MESSAGE = 8
MAX_IMAGE_SIDE = 4096


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Column(_Frozen):
    """One feature of a row.

    `levels` are the known values of a categorical column, most frequent first; every other value is the
    level `other`, numbered `len(levels)`. `nullable` says that training saw missing cells in it.
    `number` is how the text of a numeric column is written, None for plain numbers. `kept_words` are words such as NA
    that are values of a categorical column and not missing cells. Both are written only where they are given.
    """

    name: str
    kind: ColumnKind
    levels: tuple[str, ...] = ()
    nullable: bool = False
    number: NumberFormat | None = None
    kept_words: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _of_their_kind(self) -> "Column":
        if self.number is not None and self.kind != "numeric":
            raise ValueError(f"column {self.name!r}: number is for numeric columns. Got kind {self.kind!r} instead")
        if self.kept_words and self.kind != "categorical":
            raise ValueError(
                f"column {self.name!r}: kept_words is for categorical columns. Got kind {self.kind!r} instead"
            )
        return self

    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {k: v for k, v in handler(self).items() if k not in ("number", "kept_words") or v}


class IgnoredColumn(_Frozen):
    """A column that is read and not scored, and why."""

    name: str
    reason: str


class TableSchema(_Frozen):
    """The columns of a row, in the order of the event tensor; `event` is `(d,)`.

    `group_by` names the column whose value says by which calibration group a row is judged; it may be a feature too.
    """

    kind: Literal["table"] = "table"
    columns: tuple[Column, ...] = Field(min_length=1)
    ignored: tuple[IgnoredColumn, ...] = ()
    id_column: str | None = None
    group_by: str | None = None

    @model_validator(mode="after")
    def _names_are_unique(self) -> "TableSchema":
        doubled = doubled_names(self.names)
        if doubled:
            raise ValueError(f"columns appear twice: {list_names(doubled)}")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    @property
    def event(self) -> tuple[int, ...]:
        return (len(self.columns),)

    def check_names(self, names: Iterable[str], *, where: str | None = None) -> None:
        """Raise SchemaError that names the missing and the unknown columns of `names`."""
        received = list(names)
        given, wanted = dict.fromkeys(received), dict.fromkeys(self.names)
        optional = {column.name for column in self.ignored} | {self.id_column, self.group_by}
        found = {
            "missing": [name for name in wanted if name not in given],
            "unknown": [name for name in given if name not in wanted and name not in optional],
            "given twice": doubled_names(received),
        }
        parts = [f"{label}: {list_names(some)}" for label, some in found.items() if some]
        if parts:
            raise SchemaError(f"columns are not those of the model; {'; '.join(parts)}", where=where)


class ImageSchema(_Frozen):
    """The shape of an image after decoding; `event` is `(channels, height, width)`.

    `bits` is 16 where training saw 16-bit grey images: 8-bit ones are then scaled by 257.
    `decoder` pins the library and the filter that training and service share. `group_by` is a regular expression of
    the file name: its first group (or its whole match) is the calibration group by which an image is judged.
    """

    kind: Literal["image"] = "image"
    height: int = Field(ge=1, le=MAX_IMAGE_SIDE)
    width: int = Field(ge=1, le=MAX_IMAGE_SIDE)
    channels: Literal[1, 3]
    bits: Literal[8, 16] = 8
    resize: ResizeMode = "fit"
    decoder: Literal["pillow-bilinear"] = "pillow-bilinear"
    group_by: str | None = None

    @field_validator("group_by")
    @classmethod
    def _is_a_pattern(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            check_pattern(pattern)
        return pattern

    @property
    def event(self) -> tuple[int, int, int]:
        return (self.channels, self.height, self.width)


Schema = Annotated[TableSchema | ImageSchema, Field(discriminator="kind")]
_SCHEMA: TypeAdapter[TableSchema | ImageSchema] = TypeAdapter(Schema)


def read_schema(path: Path) -> TableSchema | ImageSchema:
    """The schema written in a JSON file; SchemaError names the field that is wrong."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SchemaError(f"{path} cannot be read as JSON: {error}", where=str(path)) from error
    if isinstance(document, dict):
        document.setdefault("kind", "table" if "columns" in document else "image")
    try:
        return _SCHEMA.validate_python(document)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        at = f"{path}: {field}" if field else str(path)
        raise SchemaError(f"{at}: {first['msg']}", where=field or str(path)) from error


def list_names(names: Iterable[str]) -> str:
    """The first few names, quoted, and how many more there are."""
    names = [str(name) for name in names]
    shown = ", ".join(repr(name if len(name) <= 80 else name[:77] + "...") for name in names[:MAX_NAMES_IN_MESSAGE])
    rest = len(names) - MAX_NAMES_IN_MESSAGE
    return f"{shown} and {rest:,} more" if rest > 0 else shown


def doubled_names(names: Iterable[str]) -> list[str]:
    """The names that appear more than once, in their order."""
    return [name for name, count in Counter(names).items() if count > 1]
