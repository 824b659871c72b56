"""A working example for every body of `POST /score`, made for the models that are served.

From the training means and the most frequent levels: the document shows nobody's row and nobody's picture.
"""

import base64
import csv
import io
import zipfile

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet
import torch
from PIL import Image

from elbound.schema import TableSchema
from elbound.scorer import Scorer
from service.http.media_types import ARROW, CSV, JSON, MEDIA_TYPES, MULTIPART, NDJSON, NPY, PARQUET, ZIP

ROWS = 2
PILLOW_FORMATS = {
    "image/png": "PNG",
    "image/jpeg": "JPEG",
    "image/webp": "WEBP",
    "image/bmp": "BMP",
    "image/tiff": "TIFF",
}


def example_bodies(scorer: Scorer) -> dict[str, bytes]:
    """A body for each media type that `scorer` reads, but for forms."""
    if isinstance(scorer.schema, TableSchema):
        return _tables(scorer)
    assert scorer.image is not None
    pixels = scorer.image.from_tensor(_average(scorer).round().expand(ROWS, *scorer.schema.event))
    bodies = {media: _picture(pixels[0], name) for media, name in PILLOW_FORMATS.items()}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for i, picture in enumerate(pixels):
            archive.writestr(zipfile.ZipInfo(f"{i}.png"), _picture(picture, "PNG"))
    return {**bodies, ZIP: packed.getvalue(), NPY: _npy(pixels)}


def request_body(scorers: list[Scorer]) -> dict[str, object]:
    """The `requestBody` of the OpenAPI document. Binary examples are written in base64."""
    bodies: dict[str, bytes] = {}
    for scorer in scorers:
        for media_type, body in example_bodies(scorer).items():
            bodies.setdefault(media_type, body)
    if CSV in bodies:
        bodies[MULTIPART] = bodies[CSV]  # the file's text; its part says text/csv or is called rows.csv
    content = {media_type: _content(media_type, bodies.get(media_type)) for media_type in MEDIA_TYPES}
    return {"required": True, "content": content}


def _content(media_type: str, body: bytes | None) -> dict[str, object]:
    content: dict[str, object]
    if media_type == MULTIPART:
        files = {"type": "array", "items": {"type": "string", "contentMediaType": "application/octet-stream"}}
        content = {"schema": {"type": "object", "properties": {"files": files}}}
        return content if body is None else {**content, "example": {"files": [body.decode()]}}
    if media_type == JSON:
        row = {"anyOf": [{"type": "object"}, {"type": "array"}]}
        rows = {"type": "object", "properties": {"rows": {"type": "array", "minItems": 1, "items": row}}}
        content = {"schema": {"anyOf": [rows, {"type": "array", "minItems": 1, "items": row}]}}
        return content if body is None else {**content, "example": orjson.loads(body)}
    text = media_type in (CSV, NDJSON)
    schema = (
        {"type": "string"} if text else {"type": "string", "contentEncoding": "base64", "contentMediaType": media_type}
    )
    if body is None:
        return {"schema": schema}
    return {"schema": schema, "example": body.decode() if text else base64.b64encode(body).decode()}


def _tables(scorer: Scorer) -> dict[str, bytes]:
    assert scorer.table is not None
    schema = scorer.table.schema
    average = _average(scorer).expand(ROWS, -1)
    columns = scorer.table.from_tensor(average)
    rows = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns))
    writer.writeheader()
    writer.writerows(rows)
    table = pa.table(columns)
    parquet, stream = pa.BufferOutputStream(), pa.BufferOutputStream()
    pyarrow.parquet.write_table(table, parquet)
    with pyarrow.ipc.new_stream(stream, table.schema) as writer_:
        writer_.write_table(table)
    bodies = {
        JSON: orjson.dumps({"rows": rows}),
        NDJSON: b"".join(orjson.dumps(row) + b"\n" for row in rows),
        CSV: text.getvalue().encode(),
        PARQUET: parquet.getvalue().to_pybytes(),
        ARROW: stream.getvalue().to_pybytes(),
    }
    if all(column.kind != "categorical" for column in schema.columns):
        bodies[NPY] = _npy(average.numpy())
    return bodies


def _average(scorer: Scorer) -> torch.Tensor:
    """The mean event of training, which the first view keeps; level 0 is a category's most frequent."""
    mean = next(scorer.detector.each()).view.mean
    assert isinstance(mean, torch.Tensor)
    return mean.cpu()


def _picture(pixels: np.ndarray, name: str) -> bytes:
    packed = io.BytesIO()
    Image.fromarray(pixels).save(packed, name)
    return packed.getvalue()


def _npy(array: np.ndarray) -> bytes:
    packed = io.BytesIO()
    np.save(packed, array)
    return packed.getvalue()
