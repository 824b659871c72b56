"""What one table may hold, and errors of Arrow as errors of the caller's bytes."""

import re
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet

from elbound.data.encodings import is_compact, write_out, written_bytes
from elbound.data.memory import announce
from elbound.errors import DecodeError, LimitExceeded

MOST_BYTES = 1 << 36
MAX_PARSED_DEPTH = 1024
"""What the parsers themselves refuse beyond."""


@dataclass(frozen=True)
class TableLimits:
    """What one table may hold; LimitExceeded names the one that is passed."""

    max_columns: int = 10_000
    max_rows: int = 50_000_000
    max_bytes: int = MOST_BYTES
    max_cell_bytes: int = MOST_BYTES
    max_json_depth: int = MAX_PARSED_DEPTH

    def check(self, *, columns: int = 0, rows: int = 0, size: int = 0) -> None:
        for name, value, limit in (
            ("columns", columns, self.max_columns),
            ("rows", rows, self.max_rows),
            ("bytes when decoded", size, self.max_bytes),
        ):
            if value > limit:
                raise LimitExceeded(f"{value:,} {name}; at most {limit:,} are read", where=name)


NO_LIMITS = TableLimits()


def plain_table(table: pa.Table, limits: TableLimits = NO_LIMITS) -> pa.Table:
    """Compact columns written out, once they are known to fit. Raises LimitExceeded."""
    size = table.nbytes
    columns = []
    for column in table.columns:
        if is_compact(column.type):
            written = written_bytes(column)
            size += written
            limits.check(size=size)
            announce(2 * written)
            column = write_out(column)
        columns.append(column)
    return pa.Table.from_arrays(columns, names=table.column_names)


class decoding:  # noqa: N801 - reads as a statement
    """Everything that Arrow raises on bad bytes becomes DecodeError, for sizes too that no memory has."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, MemoryError) and not _is_absurd(error):  # Arrow's own is one too
            raise LimitExceeded(
                f"the {self.name} takes more memory than it announces, or more than there is", where="body"
            ) from None
        if isinstance(error, pa.ArrowException | MemoryError | OSError | ValueError | NotImplementedError):
            raise DecodeError(f"not readable as {self.name}: {error}") from error


def _is_absurd(error: MemoryError) -> bool:
    """Whether more was asked for than any table takes: the file is broken."""
    found = re.search(r"size (\d{1,30})", str(error))
    return found is not None and int(found[1]) > MOST_BYTES
