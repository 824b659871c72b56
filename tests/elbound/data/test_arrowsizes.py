"""Arrow IPC streams are measured before they are opened."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pytest

from elbound.data.memory import asking
from elbound.errors import DataError, LimitExceeded
from elbound.files.arrow import MeasuredStream, parse_arrow
from elbound.files.limits import TableLimits

TABLE = pa.table(
    {
        "a": np.arange(1_000.0),
        "b": pa.array(["x", "y"] * 500).dictionary_encode(),
        "c": [f"text {i}" for i in range(1_000)],
        "d": pa.array([[i] * (i % 3) for i in range(1_000)]),
    }
)


def written(table: pa.Table, compression: str | None, *, as_file: bool = False, rows: int = 300) -> bytes:
    sink = io.BytesIO()
    make = pyarrow.ipc.new_file if as_file else pyarrow.ipc.new_stream
    with make(sink, table.schema, options=pyarrow.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table, max_chunksize=rows)
    return sink.getvalue()


@pytest.mark.parametrize("as_file", [False, True])
@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
def test_what_passes_is_what_was_written(compression: str | None, as_file: bool) -> None:
    data = written(TABLE, compression, as_file=as_file)
    found = pyarrow.ipc.open_stream(MeasuredStream(io.BytesIO(data), max_bytes=1 << 20)).read_all()
    assert found.equals(TABLE)


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_a_batch_is_announced_with_what_it_opens_to(compression: str) -> None:
    zeros = pa.table({name: np.zeros(100_000) for name in "ab"})
    asked: list[int] = []
    with asking(asked.append):
        parse_arrow(io.BytesIO(written(zeros, compression, rows=100_000)))
    assert max(asked) >= 2 * 2 * 800_000
    with pytest.raises(LimitExceeded, match="opens to 1,6"):
        parse_arrow(io.BytesIO(written(zeros, compression, rows=100_000)), limits=TableLimits(max_bytes=1_000_000))


def is_refused(data: bytes) -> bool:
    """Whether it is an error of the data; any other error is raised."""
    try:
        parse_arrow(io.BytesIO(data), limits=TableLimits(max_bytes=1 << 20))
    except DataError:
        return True
    return False


@pytest.mark.parametrize("as_file", [False, True])
def test_bytes_that_are_cut_or_changed_are_an_error_of_the_data(as_file: bool) -> None:
    data = written(TABLE, "zstd", as_file=as_file)
    rng = np.random.default_rng(0)
    cut = [data[:size] + b"\1" * (size % 5) for size in [*range(0, 600, 7), *range(600, len(data) - 1, 997)]]
    refused = sum(map(is_refused, cut))
    assert refused > len(cut) / 2, "where a message ends, a stream may end too"
    for _ in range(300):
        changed = bytearray(data)
        changed[rng.integers(len(data))] ^= 1 << rng.integers(8)
        is_refused(bytes(changed))
