"""`.npy`: one array of numbers, whole or some rows at a time."""

import io
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from elbound.errors import DecodeError
from elbound.files.limits import NO_LIMITS, TableLimits

MAX_HEADER_BYTES = 1 << 16


@dataclass(frozen=True)
class NpyHeader:
    """What a `.npy` file announces: an array `(n, ...)` of numbers."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype

    @property
    def row_bytes(self) -> int:
        return int(self.dtype.itemsize * math.prod(self.shape[1:]))

    @property
    def size(self) -> int:
        """Bytes of all data."""
        return self.row_bytes * self.shape[0]

    def check_size(self, present: int) -> None:
        """Raise DecodeError unless as many bytes are `present` as were announced."""
        if self.size != present:
            raise DecodeError(f".npy announces {self.size:,} bytes of data and has {present:,}")


def parse_npy(data: bytes, *, limits: TableLimits = NO_LIMITS) -> np.ndarray:
    """The array of a `.npy` file, its header checked against the bytes that are there. Raises DecodeError."""
    stream = io.BytesIO(data)
    header = read_header(stream)
    limits.check(rows=header.shape[0])
    header.check_size(len(data) - stream.tell())
    try:
        array = np.frombuffer(data, header.dtype, offset=stream.tell())
        return array.reshape(header.shape, order="F" if header.fortran_order else "C")
    except (ValueError, TypeError, OverflowError) as error:  # too many sides, or one too long beside an empty one
        raise DecodeError(f"not readable as .npy: {error}") from error


def read_header(stream: BinaryIO) -> NpyHeader:
    """The header of a `.npy` file; `stream` is then at its data. Raises DecodeError."""
    try:
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise DecodeError(f".npy version {version} is not read; versions 1.0 and 2.0 are")
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran_order, dtype = read(_Head(stream))
    except DecodeError:
        raise
    except Exception as error:  # numpy lets SyntaxError, TokenError and others out of a broken header
        raise DecodeError(f"not readable as .npy: {error}") from error
    if dtype.kind not in "fiub":
        raise DecodeError(f".npy must hold numbers. Got dtype {dtype} instead")
    if not shape or any(side < 0 for side in shape):
        raise DecodeError(f".npy must hold an array of items. Got shape {shape} instead")
    return NpyHeader(shape, fortran_order, dtype)


def npy_blocks(
    source: BinaryIO, header: NpyHeader, *, rows: int, check: Callable[[np.ndarray], object]
) -> Iterator[np.ndarray]:
    """The rows behind a `header` in C order, `rows` at a time; `check` sees none of them first. Raises DecodeError."""
    check(_no_rows(header))
    present = 0
    for start in range(0, max(1, header.shape[0]), rows):
        n = min(rows, header.shape[0] - start)
        data = source.read(n * header.row_bytes)
        present += len(data)
        whole = len(data) // max(1, header.row_bytes)
        if whole or not header.shape[0]:
            yield np.frombuffer(data, header.dtype, whole * math.prod(header.shape[1:])).reshape(
                whole, *header.shape[1:]
            )
        if whole < n:
            header.check_size(present)
    header.check_size(present + len(source.read(1)))


def fortran_blocks(
    file: io.BufferedRandom, header: NpyHeader, *, rows: int, check: Callable[[np.ndarray], object]
) -> Iterator[np.ndarray]:
    """The same of a file on disk in Fortran order, whose data begin where it stands: a column at a time is read."""
    check(_no_rows(header))
    offset = file.tell()
    header.check_size(os.fstat(file.fileno()).st_size - offset)
    step = header.dtype.itemsize
    for start in range(0, max(1, header.shape[0]), rows):
        n = min(rows, header.shape[0] - start)
        block = np.empty((math.prod(header.shape[1:]), n), header.dtype)
        for i, column in enumerate(block):
            place = offset + (i * header.shape[0] + start) * step
            column[:] = np.frombuffer(os.pread(file.fileno(), n * step, place), header.dtype)
        yield block.T.reshape((n, *header.shape[1:]), order="F")


def _no_rows(header: NpyHeader) -> np.ndarray:
    try:
        return np.empty((0, *header.shape[1:]), header.dtype)
    except (ValueError, TypeError, OverflowError) as error:
        raise DecodeError(f"not readable as .npy: {error}") from error


class _Head:
    """Reads no further than a header may be long, whatever it says of itself."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream

    def read(self, size: int = -1, /) -> bytes:
        if size > MAX_HEADER_BYTES:
            raise DecodeError(f"the header of .npy is longer than {MAX_HEADER_BYTES:,} bytes")
        return self.stream.read(size)
