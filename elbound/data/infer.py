"""What the columns of a table are: the rules of `elbound.data.columns.rules`, applied to every column."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from elbound.data.cells import as_text, is_text
from elbound.data.columns.facts import ColumnFacts
from elbound.data.columns.rules import LEVEL_CAP, RULES, Rule
from elbound.data.columns.warn import about, left_out, mixed_labels
from elbound.data.columns.writing import Evidence, MixedUnits, MixedWays, Writing, find_writing, point_evidence, settle
from elbound.errors import SchemaError
from elbound.schema import Column, IgnoredColumn, TableSchema, doubled_names, list_names
from elbound.schema.number_format import clear_gaps, parse_numbers

MAX_LOST_SHARE = 1 / 3
"""Largest share of the columns that may be left out before the data are in doubt."""


@dataclass
class Inferred:
    """The schema of a `table` and what the user should know.

    `table` has the cells of number columns that are no numbers as missing ones; `doubts` are reasons not to train.
    """

    schema: TableSchema
    table: pa.Table
    warnings: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)


def infer_schema(
    table: pa.Table,
    *,
    exclude: tuple[str, ...] = (),
    include: tuple[str, ...] = (),
    id_column: str | None = None,
    delimiter: str | None = None,
) -> Inferred:
    """The schema of `table`, with a warning for each column that is left out or is not what it looks like.

    `include` are columns to score although they look like an identifier, a time, a label or a constant. `delimiter`
    is that of the CSV file, where there is one: beside a semicolon `1,234` is more likely a decimal comma.
    Raises SchemaError where a named column is not there or cannot be scored, or nothing is left to score.
    """
    _check_arguments(table, exclude, include, id_column)
    names = [name for name in table.column_names if name not in exclude and name != id_column]
    writings = _writings(table, names, delimiter)
    columns: list[Column] = []
    ignored = [IgnoredColumn(name=name, reason="excluded by hand") for name in exclude]
    warnings: list[str] = []
    lost: list[tuple[str, Rule]] = []
    undecided: list[str] = []
    for name in names:
        writing = writings.pop(name)
        numbers = writing if isinstance(writing, Writing) else None
        facts = ColumnFacts(name, _cells(table.column(name)), writing=numbers, included=name in include)
        found, rule = _decide(facts)
        if isinstance(found, Column):
            columns.append(found)
            said = about(found, facts, writing)
            warnings += said
            undecided += said[:1] if numbers is not None and numbers.undecided else []
            if numbers is not None and numbers.bad and facts.text is not None:
                table = _without_bad_cells(table, name, facts.text, numbers)
        else:
            ignored.append(found)
            lost.append((name, rule))
            warnings.append(left_out(found, includable=_can_be_included(facts, rule), writing=writing))
            if rule.column == "label" and (labels := mixed_labels(facts)):
                undecided.append(labels)
            if facts.included:
                raise SchemaError(f"--include {name}: the column cannot be scored: {found.reason}", where=name)
    if not columns:
        raise SchemaError("; ".join(["no column is left to score", *warnings]))
    schema = TableSchema(columns=tuple(columns), ignored=tuple(ignored), id_column=id_column)
    return Inferred(schema, table, warnings, [*undecided, *_doubts(lost, len(columns))])


def frequent_levels(cells: pa.ChunkedArray, kept_words: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The values of a categorical column, most frequent first (ties by name), at most `LEVEL_CAP`.

    Where there are more, the last place is kept for `other`. `kept_words` are missing words that are values here.
    """
    counts = as_text(decoded(cells), keep=kept_words).drop_null().value_counts()
    pairs = [(entry["values"].as_py(), entry["counts"].as_py()) for entry in counts]
    pairs.sort(key=lambda pair: (-pair[1], pair[0]))
    kept = pairs if len(pairs) <= LEVEL_CAP else pairs[: LEVEL_CAP - 1]
    return tuple(level for level, _ in kept)


def decoded(cells: pa.ChunkedArray) -> pa.ChunkedArray:
    """The values of a dictionary-encoded column; a column of nothing as text."""
    if pa.types.is_dictionary(cells.type) and not pa.types.is_nested(cells.type.value_type):
        cells = pc.cast(cells, cells.type.value_type)
    return pc.cast(cells, pa.string()) if pa.types.is_null(cells.type) else cells


def _cells(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The values of a column; those of categories as text, also where they are numbers."""
    cells = decoded(column)
    is_category = pa.types.is_dictionary(column.type) and not pa.types.is_dictionary(cells.type)
    return as_text(cells) if is_category else cells


def _check_arguments(
    table: pa.Table, exclude: tuple[str, ...], include: tuple[str, ...], id_column: str | None
) -> None:
    named = (*exclude, *include, *((id_column,) if id_column else ()))
    absent = [name for name in named if name not in table.column_names]
    if absent:
        raise SchemaError(
            f"no such columns: {list_names(absent)}; the data have {list_names(table.column_names)}",
            where=absent[0],
        )
    doubled = doubled_names(table.column_names)
    if doubled:
        raise SchemaError(f"columns appear twice: {list_names(doubled)}", where=doubled[0])
    both = [name for name in include if name in exclude or name == id_column]
    if both:
        raise SchemaError(f"columns to include and to leave out: {list_names(both)}; choose one", where=both[0])


def _decide(facts: ColumnFacts) -> tuple[Column | IgnoredColumn, Rule]:
    for rule in RULES:
        if facts.included and rule.included:
            continue
        found = rule.decide(facts)
        if found is not None:
            return found, rule
    raise AssertionError("no rule holds. This is a bug.")


def _can_be_included(facts: ColumnFacts, rule: Rule) -> bool:
    """Whether `--include` scores a column that `rule` leaves out."""
    if not rule.included:
        return False
    included = ColumnFacts(facts.name, facts.cells, writing=facts.writing, included=True)
    return isinstance(_decide(included)[0], Column)


def _writings(
    table: pa.Table, names: Sequence[str], delimiter: str | None
) -> dict[str, Writing | MixedUnits | MixedWays | None]:
    """How the numbers of each text column are written; what one column leaves open the others decide."""
    found: dict[str, Writing | MixedUnits | MixedWays | None] = {}
    proofs: set[Evidence] = set()
    for name in names:
        cells = _cells(table.column(name))
        is_category = pa.types.is_dictionary(table.column(name).type)  # its values are levels, numbers or not
        text = as_text(cells) if is_text(cells.type) and not is_category else None
        found[name] = None if text is None or text.null_count == len(text) else find_writing(text)
        writing = found[name]
        if isinstance(writing, Writing) and text is not None:
            proofs |= {point_evidence(writing, text)} - {""}
    for name, writing in found.items():
        if isinstance(writing, Writing) and writing.rival is not None:
            found[name] = settle(writing, _decimal(proofs, writing, delimiter))
    return found


def _decimal(proofs: set[Evidence], writing: Writing, delimiter: str | None) -> Evidence:
    """The decimal separator for a column that leaves it open; empty where nothing speaks for one."""
    if len(proofs) == 1:
        return next(iter(proofs))
    return "," if not proofs and delimiter == ";" and not writing.plain else ""


def _without_bad_cells(table: pa.Table, name: str, text: pa.ChunkedArray, writing: Writing) -> pa.Table:
    """`table` with the cells of a number column that are no numbers as missing ones."""
    good = pc.fill_null(parse_numbers(clear_gaps(text, writing.form), writing.form)[1], False)
    cleared = pc.if_else(good, text, pa.scalar(None, pa.string()))
    return table.set_column(table.column_names.index(name), name, cleared)


def _doubts(lost: list[tuple[str, Rule]], kept: int) -> list[str]:
    """A sentence where more than a third of the columns drop out.

    Row numbers do not count, nor do empty columns without a name, the first time, identifier and label, which
    rows of any table have.
    """
    usual = {"date or time", "identifier", "label"}
    counted: list[str] = []
    for name, rule in lost:
        if rule.harmless or (not name.strip() and rule.column == "missing cells"):
            continue
        if rule.column in usual:
            usual.remove(rule.column)
            continue
        counted.append(name)
    if len(counted) <= MAX_LOST_SHARE * (len(counted) + kept):
        return []
    return [
        f"{len(counted)} of {len(counted) + kept} columns are left out: {list_names(counted)} (the warnings say why); "
        "--include COLUMN scores one, --exclude COLUMN says that it is meant"
    ]
