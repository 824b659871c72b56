"""The rules of what a column is: the first one that holds decides. `docs/bundle.md` has the table they make."""

import re
from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from elbound.data.cells import is_datetime, is_number, is_text
from elbound.data.columns.facts import ColumnFacts
from elbound.data.columns.names import (
    MAYBE_ROW_NUMBER,
    ROW_NUMBER,
    names_identifier,
    names_label,
)
from elbound.data.columns.times import CLOCK_OR_DURATION, is_iso_time, number_time, text_time
from elbound.data.columns.words import are_boolean, are_verdicts
from elbound.schema import Column, IgnoredColumn

LEVEL_CAP = 64
"""Most levels of a categorical column; rarer values share the level `other`."""

MIN_COVERAGE = 0.9
"""Share of cells that the `LEVEL_CAP` most frequent values must cover, or the column is free text."""

UNIQUE_TEXT = re.compile(
    r"^(\{?[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}\}?|(?:0x)?[0-9a-f]{16,128}|[0-7][0-9a-hjkmnp-tv-z]{25})$",
    re.IGNORECASE,
)
"""A UUID, a hash of at least 16 digits, or a ULID."""

Found = Column | IgnoredColumn | None


@dataclass(frozen=True)
class Rule:
    """One row of the table: a `column` is so `when`, and `then`. `included`: `--include` passes over the rule.

    `decide` has the column where the rule holds, else None. `harmless` columns do not count among those that drop out.
    """

    column: str
    when: str
    then: str
    decide: Callable[[ColumnFacts], Found]
    included: bool = False
    harmless: bool = False


def _all_missing(facts: ColumnFacts) -> Found:
    cells = facts.cells
    missing = cells.null_count == len(cells)
    if not missing and pa.types.is_floating(cells.type):
        missing = len(facts.values) == 0
    elif not missing and facts.text is not None:
        missing = facts.text.null_count == len(cells) or (facts.numbers is not None and len(facts.values) == 0)
    return IgnoredColumn(name=facts.name, reason="every cell is missing") if missing else None


def _unreadable(facts: ColumnFacts) -> Found:
    kind = facts.cells.type
    if pa.types.is_boolean(kind) or is_datetime(kind) or is_number(kind) or is_text(kind):
        return None
    return IgnoredColumn(name=facts.name, reason=f"cells of type {kind} are not read")


def _row_number(facts: ColumnFacts) -> Found:
    if not facts.whole or not facts.complete:
        return None
    certain = ROW_NUMBER.search(facts.name) is not None
    likely = MAYBE_ROW_NUMBER.search(facts.name) is not None and (facts.all_different or facts.rising)
    return IgnoredColumn(name=facts.name, reason="a row number") if certain or likely else None


def _time(facts: ColumnFacts) -> Found:
    reason = text_time(facts) or number_time(facts)
    if reason is None:
        return None
    if reason == CLOCK_OR_DURATION:
        return IgnoredColumn(name=facts.name, reason=f"{reason}: write it as a number, such as minutes")
    hint = "Derive columns such as the hour" + (", or name it in --schema with kind 'datetime'" * is_iso_time(facts))
    return IgnoredColumn(name=facts.name, reason=f"{reason}: every later row would look new. {hint}")


def _label(facts: ColumnFacts) -> Found:
    kind = facts.cells.type
    if facts.numbers is not None:
        values = facts.distinct
    elif pa.types.is_boolean(kind):
        values = len(pc.unique(facts.cells.drop_null()))
    else:
        values = len(facts.levels)
    verdicts = facts.numbers is None and is_text(kind) and are_verdicts(set(facts.levels))
    if not verdicts and (values > 2 or not names_label(facts.name)):
        return None
    return IgnoredColumn(name=facts.name, reason="a label: it says which rows are normal, and no later row has it")


def _constant(facts: ColumnFacts) -> Found:
    cells = facts.cells
    if len(cells) < 2 or cells.null_count:
        return None
    if facts.numbers is not None:
        only = facts.complete and facts.values.min() == facts.values.max() and facts.distinct == 1
        shown = f"{facts.values[0]:g}" if only else ""
    elif facts.text is not None:
        only = len(facts.levels) == 1 and sum(facts.levels.values()) == len(cells)
        shown = next(iter(facts.levels)) if only else ""
    else:
        only = len(pc.unique(cells)) == 1
        shown = str(cells[0]).lower()
    if not only:
        return None
    return IgnoredColumn(name=facts.name, reason=f"constant (every cell is {shown[:40]})")


def _identifier(facts: ColumnFacts) -> Found:
    if facts.numbers is not None:
        return _number_identifier(facts)
    if facts.text is None or len(facts.levels) < len(facts.cells) or len(facts.cells) < 2:
        return None
    shaped = all(UNIQUE_TEXT.match(text) for text in facts.levels)
    named = names_identifier(facts.name) and len(facts.levels) > LEVEL_CAP
    if not shaped and not named:
        return None
    return IgnoredColumn(name=facts.name, reason="an identifier (text, all different)")


def _number_identifier(facts: ColumnFacts) -> Found:
    if not facts.whole or not facts.all_different:
        return None
    counting = len(facts.values) >= 20 and facts.values.max() - facts.values.min() + 1 == len(facts.values)
    if not (counting or facts.strictly_rising or names_identifier(facts.name)):
        return None
    return IgnoredColumn(
        name=facts.name,
        reason="an identifier (whole numbers, all different, that count up, rise from row to row or are named as one)",
    )


def _boolean(facts: ColumnFacts) -> Found:
    if pa.types.is_boolean(facts.cells.type):
        return Column(name=facts.name, kind="boolean")
    if facts.text is None or facts.numbers is not None or not are_boolean(set(facts.levels)):
        return None
    return Column(name=facts.name, kind="boolean")


def _numeric(facts: ColumnFacts) -> Found:
    if facts.numbers is None:
        return None
    number = None if facts.writing is None or facts.writing.plain else facts.writing.form
    return Column(name=facts.name, kind="numeric", number=number)


def _included_datetime(facts: ColumnFacts) -> Found:
    return Column(name=facts.name, kind="datetime") if facts.included and is_iso_time(facts) else None


def _categorical(facts: ColumnFacts) -> Found:
    found = _included_datetime(facts)
    if found is not None:
        return found
    if len(facts.levels) > LEVEL_CAP and _coverage(facts) < MIN_COVERAGE:
        return None
    return Column(name=facts.name, kind="categorical", kept_words=facts.kept_words)


def _free_text(facts: ColumnFacts) -> Found:
    return IgnoredColumn(
        name=facts.name,
        reason=f"free text ({len(facts.levels):,} different values; the {LEVEL_CAP - 1} most frequent cover "
        f"{_coverage(facts):.0%} of the cells, {MIN_COVERAGE:.0%} are needed)",
    )


def _coverage(facts: ColumnFacts) -> float:
    sizes = sorted(facts.levels.values(), reverse=True)
    return sum(sizes[: LEVEL_CAP - 1]) / sum(sizes)


OUT = "left out, with a warning"
RULES = (
    Rule(
        "missing cells",
        "empty, null, NaN, or `NA`, `N/A`, `#N/A`, `nan`, `null`, `none`, `<NA>` in any case",
        f"drop out of the likelihood; a column of nothing else is {OUT}",
        _all_missing,
    ),
    Rule("of a type that is not read", "Arrow lists, structs, binary, times of day, durations", OUT, _unreadable),
    Rule(
        "row number",
        "whole numbers, none missing, in a column without a name or named `Unnamed: 0`, `__index_level_0__` or "
        "`...1`; "
        "named `index`, `level_0`, `rownum`, `X` and the like where they are all different or rise from row to row",
        OUT,
        _row_number,
        included=True,
        harmless=True,
    ),
    Rule(
        "date or time",
        "Arrow dates and timestamps; text of which 98 % is a date in any usual form (`2026-11-21T08:00Z`, "
        "`21.11.2026`, "
        "`11/21/26 8:00 PM`, `Sat, 21 Nov 2026`, `2026-W47`, `2026-11`) or a time of day; numbers between 1990 "
        "and 2100 as "
        "(milli-, micro-, nano-)seconds since 1970 that are named as a time or of which 98 % do not go back "
        "from row to "
        "row; whole numbers that are all `YYYYMMDD` or `YYYYMMDDHHMMSS`, 5 different ones or named as a time; "
        "numbers from "
        "20,000 to 60,000 named as a day (Excel); 20 or more fractions that rise from row to row in even steps. "
        "A year "
        "is a number",
        f"{OUT}: every later row would look new. One of Arrow's types or in ISO 8601 may be named in `--schema` "
        f"with kind "
        "`datetime`: seconds since 1970, UTC where no zone is given",
        _time,
        included=True,
    ),
    Rule(
        "label",
        "at most two values, and every word of the name is one like `label`, `target`, `y`, `class`, `anomaly`, "
        "`outlier`, "
        "`fraud`, `defect`, `ok_nok` (`is_anomaly`, but not `class_size`); or text of two values such as normal "
        "and anomaly",
        OUT,
        _label,
        included=True,
    ),
    Rule("constant", "two rows or more, none missing, all with one value", OUT, _constant, included=True),
    Rule(
        "identifier",
        "whole numbers, all different, none missing, that count up by one in any order (20 or more), rise or "
        "fall from row "
        "to row (20 or more), or whose name ends in a word like id, uid, uuid, key, no, nr, number, serial, seq "
        "(`customerId`, `deviceid`, `order_no`); text, all different, that is UUIDs or hashes, or named so and "
        "of more "
        "than 64 values",
        OUT,
        _identifier,
        included=True,
    ),
    Rule(
        "`boolean`",
        "Arrow booleans, or text that is only true and false, or only both words of pairs like t/f, yes/no, y/n",
        "Bernoulli",
        _boolean,
    ),
    Rule(
        "`numeric`",
        "every other column of numbers, or of text of which 98 % reads as numbers written in one way: with a "
        "decimal comma, "
        "separators of thousands, one currency, unit or percent sign, losses in parentheses. Placeholders (`-`, `?`, "
        "`n.a.`, `#DIV/0!`) are missing cells where they are at most half",
        "Gaussian. `number` in the schema keeps the way of writing, for scoring too; a warning says it, and "
        "names every "
        "other cell",
        _numeric,
    ),
    Rule(
        "`categorical`",
        "text of at most 64 different values, or of more where the 63 most frequent cover 90 % of the cells. "
        "`NA` among codes "
        "of capital letters and `None` among words are values where 1 % of the cells have them",
        "the rest is `other`",
        _categorical,
    ),
    Rule("free text", "text of more values that cover less", OUT, _free_text),
)


def rules_table() -> str:
    """The rules as a table in Markdown, as it stands in `docs/bundle.md`."""
    rows = [f"| {rule.column} | {rule.when} | {rule.then} |" for rule in RULES]
    return "\n".join(["| a column is | when | and then |", "|---|---|---|", *rows])
