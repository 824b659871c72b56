"""Small uploads that want to be large, and uploads that are no good."""

import io
import struct
import zlib
from collections.abc import Iterable
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.parquet

MEGABYTE = b"\0" * 1_000_000


@cache
def gzipped(piece: bytes, times: int) -> bytes:
    """`piece`, that many times, as gzip: 500 MB of one byte are 486 kB."""
    packer = zlib.compressobj(9, wbits=31)
    return b"".join([packer.compress(piece) for _ in range(times)]) + packer.flush()


def png(width: int, height: int) -> bytes:
    """A black PNG of one bit a pixel: 13,000 x 13,000 are 21 kB and, in colour, 507 MB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    lines = zlib.compress(b"\0" * (height * ((width + 7) // 8 + 1)), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", lines) + chunk(b"IEND", b"")


def parquet(rows: int, cell_bytes: int) -> bytes:
    """One text in every row, stored once: the footer counts it once as well."""
    sink = io.BytesIO()
    numbers = np.zeros(rows)
    table = pa.table({
        "a": numbers, "b": numbers, "c": numbers, "ok": numbers > 0,
        "site": pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array(["x" * cell_bytes])),
    })  # fmt: skip
    pyarrow.parquet.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def npy(shape: tuple[int, ...], descr: str = "<f8", *, fortran_order: bool = False) -> bytes:
    """The header of an array, and none of its values."""
    text = repr({"descr": descr, "fortran_order": fortran_order, "shape": shape}).encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def zipped(names: Iterable[str], opened: bytes, *, stated_bytes: int | None = None) -> bytes:
    """A zip in which each name opens to `opened`, of which the index says that it has `stated_bytes`."""
    packer = zlib.compressobj(9, wbits=-15)
    data = packer.compress(opened) + packer.flush()
    crc, size = zlib.crc32(opened), len(opened) if stated_bytes is None else stated_bytes
    body, index, n = b"", b"", 0
    for name in names:
        raw = name.encode()
        facts = struct.pack("<HHHHHIIIHH", 20, 0x800, 8, 0, 33, crc, len(data), size, len(raw), 0)
        index += b"PK\1\2" + struct.pack("<H", 20) + facts + struct.pack("<HHHII", 0, 0, 0, 0, len(body)) + raw
        body += b"PK\3\4" + facts + raw + data
        n += 1
    return body + index + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, n, n, len(index), len(body), 0)


def form(files: Iterable[tuple[str, bytes]], media_type: str) -> tuple[bytes, str]:
    """A multipart form whose file names are written as they stand, and its content type."""
    parts = [
        b'--x\r\nContent-Disposition: form-data; name="files"; filename="%s"\r\nContent-Type: %s\r\n\r\n%s\r\n'
        % (name.encode(), media_type.encode(), data)
        for name, data in files
    ]
    return b"".join(parts) + b"--x--\r\n", "multipart/form-data; boundary=x"
