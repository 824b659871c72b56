"""Tables and pictures as bytes of every format that is read."""

import gzip
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.ipc
import pyarrow.parquet
import pytest
from PIL import Image

Encode = Callable[[pa.Table], bytes]


def csv(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pyarrow.csv.write_csv(table, sink)
    return sink.getvalue().to_pybytes()


def parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink)
    return sink.getvalue().to_pybytes()


def stream(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def file(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pyarrow.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def feather(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pyarrow.feather.write_feather(table, sink, compression="lz4")
    return sink.getvalue().to_pybytes()


def ndjson(table: pa.Table) -> bytes:
    return b"".join(orjson.dumps(row) + b"\n" for row in table.to_pylist())


@pytest.fixture(scope="session")
def encoders() -> dict[str, Encode]:
    """A table's bytes by the suffix of its file."""
    return {
        ".csv": csv,
        ".csv.gz": lambda table: gzip.compress(csv(table), mtime=0),
        ".parquet": parquet,
        ".arrow": stream,
        ".ipc": file,
        ".feather": feather,
        ".ndjson": ndjson,
        ".jsonl.gz": lambda table: gzip.compress(ndjson(table), mtime=0),
    }


@pytest.fixture(scope="session")
def picture() -> Callable[..., bytes]:
    """The bytes of an image of pixels `(height, width[, channels])` or of a Pillow image."""

    def encode(pixels: np.ndarray | Image.Image, kind: str = "PNG", **options: object) -> bytes:
        image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
        sink = io.BytesIO()
        image.save(sink, kind, **options)
        return sink.getvalue()

    return encode


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, bytes | str], Path]:
    """Writes a file under `tmp_path` and says where."""

    def write_file(name: str, content: bytes | str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write_file
