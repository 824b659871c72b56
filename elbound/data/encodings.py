"""Columns that hold a value once for many rows, and what they come to when each row has its own.

A few bytes of an upload can stand for any amount of text, so the size is known before anything is written out.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

ROWS_AT_ONCE = 16_384
"""Rows that are written out as one chunk: a chunk of Arrow's text ends at 2 GiB."""


def is_compact(kind: pa.DataType) -> bool:
    """Whether `kind` is a dictionary of plain values or text by reference."""
    if pa.types.is_dictionary(kind):
        return not pa.types.is_nested(kind.value_type)
    return bool(pa.types.is_string_view(kind))


def written_bytes(column: pa.ChunkedArray) -> int:
    """The bytes of a compact column's values when each row has its own."""
    total = 0
    for chunk in column.chunks:
        if pa.types.is_dictionary(chunk.type):
            lengths = pa.array(_lengths(chunk.dictionary)).take(chunk.indices)
            total += pc.sum(lengths).as_py() or 0
        else:
            total += int(_lengths(chunk).sum())
    return total


def write_out(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A compact column as one of plain values."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    kind = pa.string() if pa.types.is_string_view(kind) else kind
    chunks = []
    for chunk in column.chunks:
        if pa.types.is_dictionary(chunk.type):
            chunk = pa.DictionaryArray.from_arrays(chunk.indices, _copied(chunk.dictionary))
        slices = (chunk.slice(start, ROWS_AT_ONCE) for start in range(0, len(chunk), ROWS_AT_ONCE))
        chunks += [_copied(part).cast(kind) for part in slices]
    return pa.chunked_array(chunks, kind)


def _copied(values: pa.Array) -> pa.Array:
    """Text by reference as text; cell by cell, for Arrow's cast follows the references of missing cells too."""
    return pa.array(values.to_pylist(), pa.string()) if pa.types.is_string_view(values.type) else values


def _lengths(values: pa.Array) -> np.ndarray:
    """Bytes of each value `(n,)`, 0 where it is missing."""
    kind = values.type
    if pa.types.is_string_view(kind):
        views = np.frombuffer(values.buffers()[1], np.int32).reshape(-1, 4)
        lengths = views[values.offset : values.offset + len(values), 0].astype(np.int64)
    elif kind in (pa.string(), pa.large_string(), pa.binary(), pa.large_binary()):
        lengths = pc.fill_null(pc.binary_length(values), 0).to_numpy(zero_copy_only=False)
    else:
        lengths = np.full(len(values), 8 if pa.types.is_null(kind) else max(8, kind.bit_width // 8))
    return np.where(values.is_valid().to_numpy(zero_copy_only=False), lengths, 0)
