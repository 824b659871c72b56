"""Our own decoders as functions of bytes that may raise nothing but the errors of `elbound.errors`."""

import io
import struct
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import cast

import orjson
import pyarrow as pa
from starlette.datastructures import Headers

from elbound.bundle.archive import unpack_bundle
from elbound.bundle.files import MANIFEST, read_manifest
from elbound.data.infer import infer_schema
from elbound.data.raw import RawTable
from elbound.data.table import Rows, TablePreprocessor
from elbound.errors import ElboundError
from elbound.files.csv import parse_csv
from elbound.files.csv_stream import csv_pieces
from elbound.files.json import json_depth, json_matrix, load_json, parse_ndjson
from elbound.files.limits import TableLimits
from elbound.files.long_cells import set_long_cells_aside
from elbound.files.npy import fortran_blocks, npy_blocks, parse_npy, read_header
from elbound.files.streams import ndjson_pieces
from service.access.local import is_loopback_name
from service.http.accept import answer_form
from service.http.body import expand
from service.score.request import due_time, parse_query
from service.settings import Settings
from service.uploads.decode import media_type_of, split_request
from service.v2.requests import read_request

LIMITS = TableLimits(64, 10_000, 1 << 20, 1_000, 32)
SETTINGS = Settings(max_files=20, max_body_bytes=1 << 20)
TRAIN = pa.table({
    "a": [0.5, 1.5, 2.5, None] * 25,
    "ok": [True, False, True, True] * 25,
    "site": ["north", "south", "east", None] * 25,
})  # fmt: skip


def _preprocessor() -> TablePreprocessor:
    return TablePreprocessor.fit(infer_schema(TRAIN).schema, TRAIN)


TABLE = _preprocessor()


def json_rows(data: bytes) -> None:
    matrix = json_matrix(data)
    document = load_json(data, max_json_depth=32, max_bytes=LIMITS.max_bytes)
    assert json_depth(data) <= 32
    if matrix is not None:
        found = document["rows"] if isinstance(document, dict) else document
        assert matrix.shape == (len(found), len(found[0]))  # type: ignore[arg-type,index]
    if isinstance(document, list):
        set_long_cells_aside(RawTable(rows=cast("Rows", document)), 100).to_tensor(TABLE)


def ndjson(data: bytes) -> None:
    whole = parse_ndjson(io.BytesIO(data), limits=LIMITS)
    pieces = ndjson_pieces(_file(data), rows=7, wanted=_all, limits=LIMITS)
    assert sum(piece.n for piece in pieces) == whole.n
    whole.to_tensor(TABLE)


def csv(data: bytes) -> None:
    n = None
    with suppress(ElboundError):
        n = parse_csv(io.BytesIO(data), limits=LIMITS).n
    pieces = list(csv_pieces(_file(data), rows=7, wanted=_all, check=lambda _: None, limits=LIMITS))
    assert n is None or n == sum(piece.n for piece in pieces)
    for piece in pieces:
        assert piece.raw is not None
        set_long_cells_aside(piece.raw, LIMITS.max_cell_bytes).to_tensor(TABLE)


def npy(data: bytes) -> None:
    with suppress(ElboundError):
        parse_npy(data, limits=LIMITS)
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.seek(0)
        header = read_header(file)
        blocks = fortran_blocks if header.fortran_order else npy_blocks
        for block in blocks(file, header, rows=100, check=TABLE.array_to_tensor):
            TABLE.array_to_tensor(block)


def v2(data: bytes) -> None:
    length = struct.unpack_from("<H", data.ljust(2, b"\0"))[0]
    read_request(data[2:], None if length == 0xFFFF else str(length), LIMITS)


def multipart(data: bytes) -> None:
    boundary, _, body = data.partition(b"\n")
    kind = f"multipart/form-data; boundary={boundary.decode('latin-1')}"
    split_request(body, kind, SETTINGS)


def manifest(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, MANIFEST).write_bytes(data)
        read_manifest(Path(folder))


def archive(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        packed, into = Path(folder, "a.zip"), Path(folder, "into")
        packed.write_bytes(data)
        into.mkdir()
        try:
            unpack_bundle(packed, into, max_bytes=1 << 20, check=lambda: None)
        finally:
            assert {one.name for one in Path(folder).iterdir()} == {"a.zip", "into"}, "nothing is written outside"


def compressed(data: bytes) -> None:
    expand(data[1:], "gzip" if data[:1] < b"\x80" else "deflate", max_expanded_bytes=1 << 20)


def query(data: bytes) -> None:
    parse_query(data)


def headers(data: bytes) -> None:
    text = Headers(raw=[(b"x", data)])["x"]
    for read in (media_type_of, due_time, answer_form):
        with suppress(ElboundError):
            read(text)
    is_loopback_name(data)


def _file(data: bytes) -> io.BufferedReader:
    return io.BufferedReader(cast("io.RawIOBase", io.BytesIO(data)))


def _all(_: int) -> bool:
    return True


def _zip_seed() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as made:
        made.writestr(MANIFEST, "{}")
        made.writestr("parts/weights.safetensors", b"\0" * 64)
    return packed.getvalue()


def _npy_seed(order: str) -> bytes:
    text = f"{{'descr': '<f8', 'fortran_order': {order}, 'shape': (2, 3), }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + b"\0" * 48


V2_SEED = orjson.dumps({
    "id": "1", "parameters": {"binary_data_output": True}, "outputs": [{"name": "score"}],
    "inputs": [
        {"name": "a", "datatype": "FP64", "shape": [2], "data": [1, None]},
        {"name": "site", "datatype": "BYTES", "shape": [2, 1], "parameters": {"binary_data_size": 10}},
    ],
})  # fmt: skip
FORM_SEED = (
    b'x\n--x\r\nContent-Disposition: form-data; name="f"; filename="a.csv"\r\n'
    b"Content-Type: text/csv\r\n\r\na,ok,site\n1,true,north\r\n--x--\r\n"
)
Target = Callable[[bytes], None]
TARGETS: dict[str, tuple[Target, list[bytes]]] = {
    "json_rows": (json_rows, [b'[{"a":1.5,"ok":true,"site":"north"},{"a":null}]', b'{"rows":[[1,2],[3,4e400]]}']),
    "ndjson": (ndjson, [b'{"a":1,"ok":false,"site":"south"}\n\n[1,true,"x"]\n{"a":\n']),
    "csv": (csv, [b'a,ok,site\n1.5,true,"nor""th"\n2,no\n', b"\xef\xbb\xbfa;ok;site\r\n;;\r\n"]),
    "npy": (npy, [_npy_seed("False"), _npy_seed("True")]),
    "v2": (v2, [struct.pack("<H", len(V2_SEED)) + V2_SEED + b"\1\0\0\0a\1\0\0\0b", b"\xff\xff" + V2_SEED]),
    "multipart": (multipart, [FORM_SEED]),
    "manifest": (manifest, [b'{"format_version": 1, "name": "rows", "files": {"a": {"sha256": "", "bytes": 1}}}']),
    "archive": (archive, [_zip_seed()]),
    "compressed": (compressed, [b"\0\x1f\x8b\x08\0\0\0\0\0\0\x03\x03\0\0\0\0\0\0\0\0\0"]),
    "query": (query, [b"model=a&alpha=0.05&fdr=0.1&layout=columns&explain=true&group=%ff"]),
    "headers": (headers, [b"text/csv;q=0.5, application/*;q=1.000", b"multipart/form-data; boundary=x", b"1500"]),
}
