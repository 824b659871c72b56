"""Small uploads that want to be large, and uploads that are no good."""

import io
import struct
import zlib
from collections.abc import Iterable
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.ipc
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


def arrow(opened_bytes: int, *, as_file: bool = False) -> bytes:
    """One batch of columns that open to so much: 4.5 GB are 152 kB."""
    column = pa.array(np.zeros(8_000_000))
    names = [f"c{i}" for i in range(max(1, opened_bytes // column.nbytes))]
    batch = pa.record_batch([column] * len(names), names=names)
    sink = io.BytesIO()
    options = pyarrow.ipc.IpcWriteOptions(compression="zstd")
    make = pyarrow.ipc.new_file if as_file else pyarrow.ipc.new_stream
    with make(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    return sink.getvalue()


def lying_parquet(rows: int, cell_bytes: int) -> bytes:
    """Texts that are stored one by one, and a footer that says that they take next to nothing."""
    sink = io.BytesIO()
    cells = pa.chunked_array([pa.array(["x" * cell_bytes])] * rows)
    table = pa.table({"site": cells, **{name: pa.array(np.zeros(rows)) for name in ("a", "b", "c")}})
    pyarrow.parquet.write_table(
        table, sink, compression="zstd", use_dictionary=False, data_page_size=1 << 20, write_statistics=False
    )
    data = sink.getvalue()
    found = pyarrow.parquet.read_metadata(io.BytesIO(data)).row_group(0)
    body, footer = (
        data[: -8 - int.from_bytes(data[-8:-4], "little")],
        data[-8 - int.from_bytes(data[-8:-4], "little") :],
    )
    for size in {found.total_byte_size, found.column(0).total_uncompressed_size}:
        footer = footer.replace(_varint(2 * size), _varint(2 * 100, len(_varint(2 * size))))
    assert pyarrow.parquet.read_metadata(io.BytesIO(body + footer)).row_group(0).total_byte_size == 100
    return body + footer


def _varint(value: int, length: int = 0) -> bytes:
    """As Thrift's compact protocol writes it, in at least `length` bytes."""
    found = bytearray()
    while value or len(found) < length:
        found.append(value & 127 | 128)
        value >>= 7
    found[-1] &= 127
    return bytes(found)


def chunky_png(chunks: int) -> bytes:
    """A PNG with so many empty chunks before its pixels: 5 million are 60 MB, and 117 kB as gzip."""
    whole = png(12, 12)
    empty = struct.pack(">I", 0) + b"teXt" + struct.pack(">I", zlib.crc32(b"teXt"))
    return whole[:33] + empty * chunks + whole[33:]
