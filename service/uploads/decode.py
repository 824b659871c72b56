"""An upload to the event tensor, by its content type. The schema of the bundle has the last word."""

import io
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO

import numpy as np
import torch

from elbound.data.items import TensorItems
from elbound.data.preprocessor import Preprocessor
from elbound.data.raw import RawTable
from elbound.errors import DataError, DecodeError, ItemError, LimitExceeded, SchemaError, UnsupportedMedia
from elbound.files.arrow import parse_arrow
from elbound.files.csv import parse_csv
from elbound.files.images import read_member, zip_images
from elbound.files.json import json_matrix, load_json, parse_ndjson
from elbound.files.limits import TableLimits
from elbound.files.long_cells import set_long_cells_aside
from elbound.files.npy import parse_npy
from elbound.files.parquet import parse_parquet
from elbound.files.workbooks import WORKBOOKS
from elbound.schema import ImageSchema
from service.http.media_types import (
    ALIASES,
    ARROW,
    BY_SUFFIX,
    CSV,
    IMAGES,
    JSON,
    MEDIA_TYPES,
    MULTIPART,
    NDJSON,
    NPY,
    PARQUET,
    ZIP,
)
from service.settings import Settings
from service.uploads.forms import FormFile, form_files

TABLES: dict[str, Callable[[BinaryIO, TableLimits], RawTable]] = {
    CSV: lambda source, limits: parse_csv(source, limits=limits),
    NDJSON: lambda source, limits: parse_ndjson(source, limits=limits),
    PARQUET: lambda source, limits: parse_parquet(source, limits=limits),
    ARROW: lambda source, limits: parse_arrow(source, limits=limits),
}
MATRIX_BYTES = 8_192
"""From this size on JSON is first tried as an array of numbers."""


@dataclass(frozen=True)
class Upload:
    """One body or one part of a form; `name` is the file's, for people."""

    body: bytes
    media_type: str
    name: str | None = None


def media_type_of(content_type: str) -> str:
    """The media type without its parameters. Raises UnsupportedMedia that lists what is read."""
    found = content_type.partition(";")[0].strip().lower()
    found = ALIASES.get(found, found)
    if found not in MEDIA_TYPES:
        shown = repr(content_type[:80]) if content_type else "no Content-Type"
        raise UnsupportedMedia(
            f"{shown} is not read{_advice(found)}; send one of {', '.join(MEDIA_TYPES)}", where="content-type"
        )
    return found


def split_request(body: bytes, content_type: str, settings: Settings) -> list[Upload]:
    """The uploads of a request: the body itself, or the files of a form. Raises DataError."""
    media_type = media_type_of(content_type)
    if media_type != MULTIPART:
        return [Upload(body, media_type)]
    files = form_files(body, content_type, max_files=settings.max_files)
    return [Upload(file.body, _part_media_type(file), file.name) for file in files]


@dataclass
class Remaining:
    """What is left of the limits of a request, whatever number of files it comes in."""

    rows: int
    expanded_bytes: int
    pixels: int

    @classmethod
    def of(cls, settings: Settings) -> "Remaining":
        return cls(settings.max_rows, settings.max_expanded_bytes, settings.max_total_pixels)

    def charge(self, items: TensorItems) -> None:
        self.rows -= items.n
        self.expanded_bytes -= items.x.nbytes
        if self.rows < 0 or self.expanded_bytes < 0:
            raise LimitExceeded("the files of the upload together pass max_rows or max_expanded_bytes", where="body")


def decode_upload(upload: Upload, preprocessor: Preprocessor, settings: Settings, left: Remaining) -> TensorItems:
    """Items of one upload, within what is `left` of the limits. Raises DataError where none can be told apart."""
    if not upload.body:
        raise DecodeError("the body is empty", code="body_empty", where=upload.name or "body")
    if upload.media_type not in MEDIA_TYPES:
        advice = _advice(upload.media_type, upload.name or "")
        raise UnsupportedMedia(f"files of type {upload.media_type} are not read{advice}", where=upload.name)
    if upload.media_type in IMAGES:
        return _images(preprocessor, [upload.body], [upload.name] if upload.name else None, settings, left)
    if upload.media_type == ZIP:
        return _zip(upload, preprocessor, settings, left)
    if upload.media_type != NPY:
        check_kind(preprocessor, upload.media_type)
    if upload.media_type == JSON:
        return preprocessor.to_tensor(_json_rows(upload.body, preprocessor, settings, left))
    limits = table_limits(preprocessor, settings, max_rows=left.rows, max_bytes=left.expanded_bytes)
    if upload.media_type == NPY:
        return preprocessor.to_tensor(parse_npy(upload.body, limits=limits))
    raw = TABLES[upload.media_type](io.BytesIO(upload.body), limits)
    return preprocessor.to_tensor(raw if raw.table is None else set_long_cells_aside(raw, limits.max_cell_bytes))


def decode_all(uploads: Sequence[Upload], preprocessor: Preprocessor, settings: Settings) -> TensorItems:
    """Items of all uploads, one after the other; a file that fails as a whole is one bad item.

    Raises LimitExceeded as soon as the files together pass a limit.
    """
    left = Remaining.of(settings)
    if len(uploads) == 1 and uploads[0].name is None:
        return decode_upload(uploads[0], preprocessor, settings, left)
    parts = []
    for upload in uploads:
        try:
            parts.append(_named(decode_upload(upload, preprocessor, settings, left), upload.name))
        except LimitExceeded:
            raise
        except DataError as error:
            bad = ItemError(f"{upload.name}: {error.message}", code=error.code, where=error.where or upload.name)
            empty = torch.empty((0, *preprocessor.schema.event))
            parts.append(TensorItems(empty, np.empty(0, dtype=np.int64), 1, {0: bad}, [upload.name or ""]))
        left.charge(parts[-1])
    return join(parts)


def join(parts: Sequence[TensorItems]) -> TensorItems:
    """Several uploads as one, in their order."""
    starts = np.cumsum([0, *(part.n for part in parts)])
    readable = [part for part in parts if len(part.x)] or parts[:1]
    unseen: Counter[str] = Counter()
    for part in parts:
        unseen += part.unseen
    return TensorItems(
        x=torch.cat([part.x for part in readable]),
        index=np.concatenate([part.index + start for part, start in zip(parts, starts, strict=False)]),
        n=int(starts[-1]),
        errors={
            int(start) + i: error
            for part, start in zip(parts, starts, strict=False)
            for i, error in part.errors.items()
        },
        names=None
        if all(part.names is None for part in parts)
        else [name for part in parts for name in (part.names or [""] * part.n)],
        unseen=unseen,
        groups=None
        if all(part.groups is None for part in parts)
        else [group for part in parts for group in (part.groups or [None] * part.n)],
    )


def _named(items: TensorItems, name: str | None) -> TensorItems:
    """Items of one file among several carry the file's name."""
    if items.names is not None or name is None:
        return items
    names = [name] if items.n == 1 else [f"{name}:{i}" for i in range(items.n)]
    return replace(items, names=names)


def _images(
    preprocessor: Preprocessor, files: Sequence[bytes], names: Sequence[str] | None, settings: Settings, left: Remaining
) -> TensorItems:
    pixels = None if len(files) == 1 and left.pixels >= settings.max_pixels else left.pixels
    return preprocessor.images_to_tensor(files, names=names, max_pixels=settings.max_pixels, max_total_pixels=pixels)


def _zip(upload: Upload, preprocessor: Preprocessor, settings: Settings, left: Remaining) -> TensorItems:
    check_zip(preprocessor)
    try:
        archive = zipfile.ZipFile(io.BytesIO(upload.body))
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise DecodeError(f"not readable as a zip: {error}", where=upload.name or "body") from error
    with archive:
        members = list(zip_images(archive))
        if not members:
            raise DecodeError(
                "the zip holds no images outside of hidden folders", code="zip_empty", where=upload.name or "body"
            )
        if len(members) > settings.max_files:
            raise LimitExceeded(f"{len(members):,} files; at most {settings.max_files:,} are taken", where="body")
        files: list[bytes] = []
        broken: dict[int, ItemError] = {}
        for i, info in enumerate(members):
            try:
                files.append(read_member(archive, info, max_bytes=max(0, left.expanded_bytes)))
            except DecodeError as error:
                broken[i] = ItemError(error.message, code="image_unreadable", where=info.filename)
                files.append(b"")
            left.expanded_bytes -= len(files[-1])
    items = _images(preprocessor, files, [info.filename for info in members], settings, left)
    items.errors.update(broken)
    return items


def _json_rows(
    body: bytes, preprocessor: Preprocessor, settings: Settings, left: Remaining
) -> list[dict[str, object] | list[object]] | np.ndarray | RawTable:
    """`{"rows": [...]}`, a bare list of rows, or one row as an object; an array where it is large and of numbers."""
    if len(body) >= MATRIX_BYTES and preprocessor.table is not None:
        matrix = json_matrix(body, max_bytes=left.expanded_bytes)
        if matrix is not None and len(matrix) <= left.rows and preprocessor.table.takes_matrix(matrix):
            return matrix
    document = load_json(body, max_json_depth=settings.max_json_depth, max_bytes=left.expanded_bytes)
    rows = document
    if isinstance(document, dict):
        rows = document["rows"] if isinstance(document.get("rows"), list) and len(document) == 1 else [document]
    if not isinstance(rows, list):
        raise DecodeError(
            "the body must be a list of rows, an object with a list under 'rows', or one row", where="body"
        )
    if len(rows) > left.rows:
        raise LimitExceeded(f"{len(rows):,} rows; at most {left.rows:,} are taken", where="rows")
    if len(body) <= settings.max_cell_bytes:
        return rows
    return set_long_cells_aside(RawTable(rows=rows), settings.max_cell_bytes)


def check_kind(preprocessor: Preprocessor, media_type: str) -> None:
    """Raise SchemaError where rows of a table are sent to a model of images."""
    if isinstance(preprocessor.schema, ImageSchema):
        raise SchemaError(
            f"{preprocessor.name} scores images. Got {media_type} instead", code="wrong_kind", where="content-type"
        )


def _advice(media_type: str, name: str = "") -> str:
    """What to do with a workbook, by its type or its name."""
    is_workbook = name.lower().endswith(WORKBOOKS) or any(word in media_type for word in ("spreadsheet", "ms-excel"))
    return ": save the workbook as CSV in UTF-8, or score it by `elbound score`" if is_workbook else ""


def check_zip(preprocessor: Preprocessor) -> None:
    """Raise SchemaError where a zip, which holds images, is sent to a model of rows."""
    if preprocessor.table is not None:
        raise SchemaError(
            f"{preprocessor.name} scores rows of a table. A zip is read for its images alone: unpack it and send its "
            "tables",
            code="wrong_kind",
            where="content-type",
        )


def table_limits(preprocessor: Preprocessor, settings: Settings, *, max_rows: int, max_bytes: int) -> TableLimits:
    """The settings, and always room for every column that the model itself knows."""
    schema = preprocessor.schema
    own = 0 if isinstance(schema, ImageSchema) else len(schema.columns) + len(schema.ignored) + 1
    columns = max(settings.max_columns, own)
    return TableLimits(columns, max_rows, max_bytes, settings.max_cell_bytes, settings.max_json_depth)


def _part_media_type(file: FormFile) -> str:
    """A part's own type where it is one that is read, else that of its suffix."""
    stated = file.content_type.partition(";")[0].strip().lower()
    stated = ALIASES.get(stated, stated)
    if stated in MEDIA_TYPES and stated != MULTIPART:
        return stated
    suffix = file.name[file.name.rfind(".") :].lower() if "." in file.name else ""
    return BY_SUFFIX.get(suffix, stated or "application/octet-stream")
