"""The results of a piece, written as CSV, Parquet or NDJSON, and what they come to."""

import json
import os
import secrets
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from elbound.errors import DataError

FORMATS = ("csv", "parquet", "ndjson")


@dataclass
class BulkSummary:
    """What was found in some items; `failures` counts the inputs, or pieces of them, that could not be read."""

    items: int = 0
    anomalies: int = 0
    errors: int = 0
    failures: int = 0
    heatmaps: int = 0
    unseen: Counter[str] = field(default_factory=Counter)
    """Categories that training had not seen, by column."""

    def __iadd__(self, other: "BulkSummary") -> "BulkSummary":
        for name in ("items", "anomalies", "errors", "failures", "heatmaps"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.unseen += other.unseen
        return self

    def to_dict(self) -> dict[str, object]:
        return {**asdict(self), "unseen": dict(sorted(self.unseen.items()))}

    @classmethod
    def from_dict(cls, values: dict[str, object]) -> "BulkSummary":
        """What `to_dict` made."""
        return cls(**{**values, "unseen": Counter(values["unseen"])})  # type: ignore[call-overload]

    @property
    def nothing_read(self) -> bool:
        """Whether inputs failed and no item of any other could be read either."""
        return self.failures > 0 and self.items == self.errors


class TableWriter(Protocol):
    """Rows into a file, one table after the other."""

    def write_table(self, table: pa.Table) -> None: ...

    def close(self) -> None: ...


class NdjsonWriter:
    """One JSON object a line."""

    def __init__(self, sink: BinaryIO | pa.NativeFile) -> None:
        self.sink = sink

    def write_table(self, table: pa.Table) -> None:
        for batch in table.to_batches(max_chunksize=8_192):
            self.sink.write(b"".join(json.dumps(row, allow_nan=False).encode() + b"\n" for row in batch.to_pylist()))

    def close(self) -> None: ...


def table_writer(kind: str, sink: BinaryIO | pa.NativeFile, schema: pa.Schema) -> TableWriter:
    """The writer of one of `FORMATS`."""
    if kind == "ndjson":
        return NdjsonWriter(sink)
    writer: TableWriter = (
        pyarrow.csv.CSVWriter(sink, schema) if kind == "csv" else pyarrow.parquet.ParquetWriter(sink, schema)
    )
    return writer


def encode(kind: str, table: pa.Table) -> bytes:
    """A whole file of one of `FORMATS`."""
    sink = pa.BufferOutputStream()
    writer = table_writer(kind, sink, table.schema)
    writer.write_table(table)
    writer.close()
    data: bytes = sink.getvalue().to_pybytes()
    return data


class OneFile:
    """Results appended to a file beside `out`, which appears when all is done."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.kind = out.suffix.lower().removeprefix(".")
        self._beside = out.with_name(f".{out.name}.{secrets.token_hex(4)}.partial")
        self._file: BinaryIO | None = None
        self._writer: TableWriter | None = None

    def write(self, table: pa.Table) -> None:
        """Append rows. Raises DataError where the disk does not take them."""
        with writing(self.out):
            if self._file is None:
                self._file = self._beside.open("wb")
                self._writer = table_writer(self.kind, self._file, table.schema)
            assert self._writer is not None
            self._writer.write_table(table)

    def finish(self) -> None:
        """Let `out` appear. Raises DataError."""
        assert self._file is not None
        assert self._writer is not None
        with writing(self.out):
            self._writer.close()
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._beside.replace(self.out)

    def discard(self) -> None:
        """Leave nothing beside `out`."""
        with suppress(OSError, ValueError, pa.ArrowException):
            if self._writer is not None:
                self._writer.close()
        with suppress(OSError):
            if self._file is not None:
                self._file.close()
        self._beside.unlink(missing_ok=True)


@contextmanager
def writing(path: Path, advice: str = "") -> Iterator[None]:
    """What the disk refuses becomes DataError that names `path` and ends in `advice`."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{path} could not be written: {error.strerror or error}{advice}",
            code="results_not_written",
            where=str(path),
        ) from error
