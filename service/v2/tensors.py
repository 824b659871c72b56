"""Tensors of the Open Inference Protocol: datatypes, and data as JSON or as bytes."""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from elbound.errors import DecodeError

BYTES = "BYTES"
BF16 = "BF16"
NUMBERS: dict[str, np.dtype] = {
    "BOOL": np.dtype(np.bool_),
    **{f"UINT{bits}": np.dtype(f"<u{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": np.dtype(f"<i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": np.dtype(f"<f{bits // 8}") for bits in (16, 32, 64)},
    BF16: np.dtype("<u2"),  # as it is stored: the upper half of an FP32
}
DATATYPES = (*NUMBERS, BYTES)
IN_JSON: dict[str, tuple[str, set[type]]] = {
    "b": ("booleans", {bool}),
    "u": ("whole numbers", {int}),
    "i": ("whole numbers", {int}),
    "f": ("numbers", {int, float}),
}
"""By kind of dtype: what its data are in JSON."""
LENGTH = struct.Struct("<I")
"""What each element of BYTES comes after."""
MAX_RANK = 4
MAX_SHOWN = 100
"""Characters of a caller's name that an error repeats."""


@dataclass(frozen=True)
class Tensor:
    """One input. `values` has the shape that was announced; of BYTES it holds `bytes`, or from JSON `str` and None."""

    name: str
    datatype: str
    values: np.ndarray

    @property
    def label(self) -> str:
        """What an error calls it."""
        return label_of(self.name)


@dataclass(frozen=True)
class Announced:
    """What stands before the data of an input."""

    name: str
    shape: tuple[int, ...]
    datatype: str

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def binary_bytes(self) -> int | None:
        """How many bytes the data have; None for BYTES, which say it themselves."""
        return None if self.datatype == BYTES else self.size * NUMBERS[self.datatype].itemsize

    def from_json(self, data: object) -> Tensor:
        """The tensor of `data`, flat in row-major order or nested as the shape; null is missing. Raises DecodeError."""
        cells = self._flat(data)
        kinds = set(map(type, cells))
        missing = type(None) in kinds
        kinds.discard(type(None))
        if self.datatype == BYTES:
            if kinds - {str}:
                raise self._broken(f"must hold strings. Got {_shown(kinds, {str})}")
            return Tensor(self.name, BYTES, _objects(cells).reshape(self.shape))
        dtype = np.dtype(np.float32) if self.datatype == BF16 else NUMBERS[self.datatype]
        wanted, allowed = IN_JSON[dtype.kind]
        if kinds - allowed:
            raise self._broken(f"must hold {wanted}. Got {_shown(kinds, allowed)}")
        try:
            with np.errstate(over="ignore"):  # too large for FP16 or FP32: infinite, which is that row's error
                values = np.array(cells, dtype=np.float64 if missing else dtype)
        except OverflowError as error:
            raise self._broken(f"holds a number that {self.datatype} cannot") from error
        return Tensor(self.name, self.datatype, values.reshape(self.shape))

    def from_binary(self, data: memoryview) -> Tensor:
        """The tensor of raw little-endian `data` in row-major order. Raises DecodeError."""
        if self.datatype == BYTES:
            return Tensor(self.name, BYTES, _objects(self._elements(bytes(data))).reshape(self.shape))
        if len(data) != self.binary_bytes:
            raise self._broken(f"of shape {self.shape} has {self.binary_bytes:,} bytes. Got {len(data):,} instead")
        values = np.frombuffer(data, np.uint8 if self.datatype == "BOOL" else NUMBERS[self.datatype])
        if self.datatype == "BOOL":
            values = values != 0
        elif self.datatype == BF16:
            values = (values.astype("<u4") << 16).view("<f4")
        return Tensor(self.name, self.datatype, values.reshape(self.shape))

    def _flat(self, data: object) -> list[object]:
        """`data` in row-major order. Raises DecodeError unless they are as many as announced, flat or nested so."""
        if not isinstance(data, list):
            raise self._broken("needs a list under 'data'")
        flat: list[object] = data
        if len(self.shape) > 1 and any(type(part) is list for part in flat):
            for rank, inner in enumerate(self.shape[1:], start=1):
                wanted = math.prod(self.shape[:rank])
                if len(flat) != wanted or any(type(part) is not list or len(part) != inner for part in flat):
                    raise self._broken(f"is not nested as its shape {self.shape}")
                flat = [cell for part in flat for cell in part]  # type: ignore[attr-defined]
        if len(flat) != self.size:
            raise self._broken(f"of shape {self.shape} has {self.size:,} elements. Got {len(flat):,} instead")
        return flat

    def _elements(self, data: bytes) -> list[bytes]:
        elements: list[bytes] = []
        start, end = 0, len(data)
        while start + LENGTH.size <= end and len(elements) < self.size:
            begin = start + LENGTH.size
            stop = begin + LENGTH.unpack_from(data, start)[0]
            if stop > end:
                break
            elements.append(data[begin:stop])
            start = stop
        if start < end or len(elements) < self.size:
            raise self._broken(
                f"of shape {self.shape} must be {self.size:,} elements, each after its length in {LENGTH.size} bytes. "
                f"Got {end:,} bytes that hold {len(elements):,} of them"
            )
        return elements

    def _broken(self, what: str) -> DecodeError:
        return DecodeError(f"{label_of(self.name)} {what}", code="tensor_invalid", where=self.name)


def label_of(name: str) -> str:
    """What an error calls the input called `name`, which may be of any length."""
    return f"input {name[:MAX_SHOWN]!r}"


def _objects(cells: Sequence[object]) -> np.ndarray:
    values = np.empty(len(cells), dtype=object)
    values[:] = cells
    return values


def _shown(kinds: set[type], allowed: set[type]) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return ", ".join(sorted({names[kind] for kind in kinds - allowed})) + " instead"
