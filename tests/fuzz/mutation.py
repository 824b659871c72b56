"""Real files with bytes changed, for what decodes in C and C++: `python -m tests.fuzz.mutation parquet 60 DIR`.

Runs as a child whose memory is limited: what ends the process ends this one. Each input lies in DIR before it is read.
"""

import faulthandler
import io
import random
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet
from PIL import Image

from elbound.data.image import decode_image
from elbound.errors import ElboundError
from elbound.files.arrow import parse_arrow
from elbound.files.csv import parse_csv
from elbound.files.parquet import ParquetFile, parquet_pieces, parse_parquet
from elbound.files.pieces import TablePiece
from elbound.files.streams import arrow_pieces
from elbound.schema import ImageSchema
from tests.fuzz.mutated import mutated
from tests.fuzz.targets import LIMITS, TABLE, TRAIN, npy

MORE_BYTES = 3 << 30
"""Memory beside what is there at the start."""
MAX_SECONDS = 20
MAX_PIXELS = 1_000_000
PIXELS = np.random.default_rng(0).integers(0, 255, (24, 24, 3)).astype(np.uint8)


def image(form: str) -> bytes:
    packed = io.BytesIO()
    Image.fromarray(PIXELS).save(packed, form)
    return packed.getvalue()


def table(form: str) -> bytes:
    sink = pa.BufferOutputStream()
    if form == "parquet":
        pyarrow.parquet.write_table(TRAIN, sink, row_group_size=40)
    elif form == "csv":
        pyarrow.csv.write_csv(TRAIN, sink)
    else:
        make = pyarrow.ipc.new_file if form == "feather" else pyarrow.ipc.new_stream
        with make(sink, TRAIN.schema) as writer:
            writer.write_table(TRAIN, max_chunksize=30)
    return bytes(sink.getvalue())


def array(order: str) -> bytes:
    packed = io.BytesIO()
    np.save(packed, np.asarray(np.arange(300.0).reshape(100, 3), order=order))  # type: ignore[call-overload]
    return packed.getvalue()


def read_image(data: bytes) -> None:
    for channels, bits in ((3, 8), (1, 16)):
        schema = ImageSchema(height=12, width=12, channels=channels, bits=bits)  # type: ignore[arg-type]
        with suppress(ElboundError):
            decode_image(data, schema, max_pixels=MAX_PIXELS)


def read_table(data: bytes) -> None:
    for parse in (parse_parquet, parse_arrow, parse_csv):
        with suppress(ElboundError):
            parse(io.BytesIO(data), limits=LIMITS).to_tensor(TABLE)

    def parquet(source: io.BufferedReader) -> Iterator[TablePiece]:
        file = ParquetFile(source, rows=7, limits=LIMITS)
        return parquet_pieces(file, rows=7, wanted=lambda _: True, check=lambda _: None)

    def arrow(source: io.BufferedReader) -> Iterator[TablePiece]:
        return arrow_pieces(source, rows=7, wanted=lambda _: True, check=lambda _: None, limits=LIMITS)

    for pieces in (parquet, arrow):
        with suppress(ElboundError):
            for piece in pieces(io.BufferedReader(io.BytesIO(data))):  # type: ignore[arg-type]
                if piece.raw is not None:
                    piece.raw.to_tensor(TABLE)


KINDS = {
    **{form.lower(): (read_image, [image(form)]) for form in ("PNG", "JPEG", "WEBP", "BMP", "TIFF")},
    **{form: (read_table, [table(form)]) for form in ("parquet", "feather", "arrow", "csv")},
    "npy": (npy, [array("C"), array("F")]),
}


def main(kind: str, seconds: str, folder: str) -> None:
    read, samples = KINDS[kind]
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + MORE_BYTES, held + MORE_BYTES))
    seed = time.time_ns()
    draw = random.Random(seed)
    last = Path(folder, f"{kind}-last")
    n, until = 0, time.monotonic() + float(seconds)
    while time.monotonic() < until:
        data = mutated(draw.choice(samples), draw)
        last.write_bytes(data)
        faulthandler.dump_traceback_later(MAX_SECONDS, exit=True)
        with suppress(ElboundError):
            read(data)
        faulthandler.cancel_dump_traceback_later()
        n += 1
    last.unlink(missing_ok=True)
    print(f"{kind}: {n:,} files, seed {seed}")  # noqa: T201


if __name__ == "__main__":
    faulthandler.enable()
    main(*sys.argv[1:])
