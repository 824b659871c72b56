"""What the columns of a table are, by one stated rule each (`docs/bundle.md` lists them for users)."""

import re
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from elbound.data.celltext import as_text, is_datetime, is_number, is_text, numbers_or_none, seconds_or_none
from elbound.data.schema import Column, IgnoredColumn, TableSchema, doubled_names, list_names
from elbound.errors import SchemaError

LEVEL_CAP = 64
"""Most levels of a categorical column; rarer values share the level `other`."""

MIN_COVERAGE = 0.9
"""Share of cells that the `LEVEL_CAP` most frequent values must cover, or the column is free text."""

IDENTIFIER_NAME = re.compile(r"(^|[_\s.-])(id|ids|uuid|guid|key|index|idx|rowid|rownum|unnamed: 0)$", re.IGNORECASE)


@dataclass
class Inferred:
    schema: TableSchema
    warnings: list[str] = field(default_factory=list)


def infer_schema(table: pa.Table, *, exclude: tuple[str, ...] = (), id_column: str | None = None) -> Inferred:
    """The schema of `table`, and a warning for each column that is left out.

    Raises SchemaError where a named column is not there or nothing is left to score.
    """
    absent = [name for name in (*exclude, *((id_column,) if id_column else ())) if name not in table.column_names]
    if absent:
        raise SchemaError(
            f"no such columns: {list_names(absent)}; the data have {list_names(table.column_names)}",
            where=absent[0],
        )
    doubled = doubled_names(table.column_names)
    if doubled:
        raise SchemaError(f"columns appear twice: {list_names(doubled)}", where=doubled[0])
    columns: list[Column] = []
    ignored = [IgnoredColumn(name=name, reason="excluded by hand") for name in exclude]
    warnings = []
    for name in table.column_names:
        if name in exclude or name == id_column:
            continue
        found = _infer_column(name, table.column(name))
        if isinstance(found, Column):
            columns.append(found)
        else:
            ignored.append(found)
            warnings.append(f"column {name!r} is left out: {found.reason}")
    if not columns:
        raise SchemaError("; ".join(["no column is left to score", *warnings]))
    return Inferred(TableSchema(columns=tuple(columns), ignored=tuple(ignored), id_column=id_column), warnings)


def frequent_levels(cells: pa.ChunkedArray) -> tuple[str, ...]:
    """The values of a categorical column, most frequent first (ties by name), at most `LEVEL_CAP`.

    Where there are more, the last place is kept for `other`.
    """
    counts = as_text(_decoded(cells)).drop_null().value_counts()
    pairs = [(entry["values"].as_py(), entry["counts"].as_py()) for entry in counts]
    pairs.sort(key=lambda pair: (-pair[1], pair[0]))
    kept = pairs if len(pairs) <= LEVEL_CAP else pairs[: LEVEL_CAP - 1]
    return tuple(level for level, _ in kept)


def _infer_column(name: str, cells: pa.ChunkedArray) -> Column | IgnoredColumn:
    cells = _decoded(cells)
    kind = cells.type
    if cells.null_count == len(cells):
        return IgnoredColumn(name=name, reason="every cell is missing")
    if pa.types.is_boolean(kind):
        return Column(name=name, kind="boolean")
    if is_datetime(kind):
        return _datetime(name)
    if is_number(kind):
        return _number(name, pc.cast(cells, pa.float64(), safe=False), cells)
    if is_text(kind):
        return _infer_text(name, as_text(cells))
    return IgnoredColumn(name=name, reason=f"cells of type {kind} are not read")


def _infer_text(name: str, text: pa.ChunkedArray) -> Column | IgnoredColumn:
    if text.null_count == len(text):
        return IgnoredColumn(name=name, reason="every cell is missing")
    numbers = numbers_or_none(text)
    if numbers is not None:
        return _number(name, numbers, text)
    counts = text.drop_null().value_counts()
    values = counts.field("values")
    words = set(pc.unique(pc.utf8_lower(values)).to_pylist()) if len(values) <= 8 else set()
    if words and words <= {"true", "false", "t", "f", "yes", "no", "y", "n"}:
        return Column(name=name, kind="boolean")
    if seconds_or_none(text) is not None:
        return _datetime(name)
    return _category(name, counts)


def _number(name: str, numbers: pa.ChunkedArray, cells: pa.ChunkedArray) -> Column | IgnoredColumn:
    if pc.all(pc.is_nan(numbers)).as_py():
        return IgnoredColumn(name=name, reason="every cell is missing")
    if _is_identifier(name, numbers, cells):
        return IgnoredColumn(
            name=name, reason="an identifier (whole numbers, all different, counting up or named as one)"
        )
    return Column(name=name, kind="numeric")


def _is_identifier(name: str, numbers: pa.ChunkedArray, cells: pa.ChunkedArray) -> bool:
    """Whole numbers, all different and none missing, that count up by one or whose name says identifier.

    `cells` are the numbers as they came: those of 64 bits may be different where their float64 is not.
    """
    if numbers.null_count or len(numbers) < 2:
        return False
    whole = pc.all(pc.equal(numbers, pc.floor(numbers))).as_py()
    if not whole or max(len(pc.unique(numbers)), len(pc.unique(cells))) < len(numbers):
        return False
    span = pc.subtract(pc.max(numbers), pc.min(numbers)).as_py() + 1
    counting = span == len(numbers) and len(numbers) >= 20
    return counting or IDENTIFIER_NAME.search(name) is not None


def _datetime(name: str) -> IgnoredColumn:
    return IgnoredColumn(
        name=name,
        reason="a date or time: every later row would look new. Derive columns such as the hour, "
        "or name it in --schema with kind 'datetime'",
    )


def _category(name: str, counts: pa.StructArray) -> Column | IgnoredColumn:
    if len(counts) <= LEVEL_CAP:
        return Column(name=name, kind="categorical")
    sizes = sorted(counts.field("counts").to_pylist(), reverse=True)
    covered = sum(sizes[: LEVEL_CAP - 1]) / sum(sizes)
    if covered < MIN_COVERAGE:
        return IgnoredColumn(
            name=name,
            reason=f"free text ({len(sizes):,} different values; the {LEVEL_CAP - 1} most frequent cover "
            f"{covered:.0%} of the cells, {MIN_COVERAGE:.0%} are needed)",
        )
    return Column(name=name, kind="categorical")


def _decoded(cells: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_dictionary(cells.type) and not pa.types.is_nested(cells.type.value_type):
        cells = pc.cast(cells, cells.type.value_type)
    return pc.cast(cells, pa.string()) if pa.types.is_null(cells.type) else cells
