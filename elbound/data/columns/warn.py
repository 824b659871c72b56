"""What the user is told of a column: why it is left out, and what was decided against its looks."""

import pyarrow.compute as pc

from elbound.data.columns.facts import ColumnFacts
from elbound.data.columns.names import names_strong_identifier
from elbound.data.columns.words import look_boolean
from elbound.data.columns.writing import MixedUnits, MixedWays, Writing
from elbound.schema import Column, IgnoredColumn
from elbound.schema.number_format import NumberFormat

MAX_EXAMPLES = 3


def left_out(column: IgnoredColumn, *, includable: bool, writing: Writing | MixedUnits | MixedWays | None) -> str:
    """Why a column is not scored, and the flag that scores it where one does."""
    hint = f" (--include {column.name!r} scores it)" if includable else ""
    if isinstance(writing, MixedWays):
        hint = f"; its cells {_in_two_ways(writing)}"
    if isinstance(writing, MixedUnits):
        hint = f"; its cells look like numbers with several units ({_units(writing)}): one unit makes it a number"
    return f"column {column.name!r} is left out: {column.reason}{hint}"


def mixed_labels(facts: ColumnFacts) -> str | None:
    """The doubt about a label of two values: rows of both would train as normal. None where all rows have one."""
    counts = facts.cells.drop_null().value_counts()
    if len(counts) < 2:
        return None
    shown = " and ".join(f"{one['counts']} rows {str(one['values'])[:40]!r}" for one in counts.slice(0, 2))
    return (
        f"column {facts.name!r} looks like a label of two values ({shown}), and rows of both would train as normal: "
        f"keep the normal rows alone, or say --exclude {facts.name!r} or --include {facts.name!r} if it is none"
    )


def about(column: Column, facts: ColumnFacts, writing: Writing | MixedUnits | MixedWays | None) -> list[str]:
    """What was decided against the looks of a column that is scored."""
    found = []
    if isinstance(writing, Writing) and column.kind == "numeric":
        found += _about_writing(writing, facts)
    if isinstance(writing, MixedUnits) and column.kind == "categorical":
        found.append(
            f"looks like numbers with several units ({_units(writing)}); none is dropped, so it is categorical"
        )
    if isinstance(writing, MixedWays) and column.kind == "categorical":
        found.append(f"is categorical, but its cells {_in_two_ways(writing)}")
    if column.kept_words:
        words = " and ".join(repr(word) for word in column.kept_words)
        found.append(f"has {words} as a value, not as a missing cell")
    if column.kind == "categorical" and look_boolean(set(facts.levels)):
        words = ", ".join(sorted(facts.levels))
        found.append(f"is categorical, not boolean: of {words} not every word has its opposite")
    if column.kind == "numeric" and not facts.included:
        found += _about_numbers(facts)
    return [f"column {column.name!r} {text}" for text in found]


def _units(writing: MixedUnits) -> str:
    return ", ".join(repr(unit) for unit in writing.units[:MAX_EXAMPLES])


def _in_two_ways(writing: MixedWays) -> str:
    one, other = writing.examples
    return f"look like numbers that are written in two ways, as {one[:40]!r} and {other[:40]!r}: write them in one"


def _about_writing(writing: Writing, facts: ColumnFacts) -> list[str]:
    found = []
    form = writing.form
    if not form.plain:
        found.append(f"is read as {form.describe()}{_example(facts)}")
        if form.suffix.startswith("%"):
            found[-1] += "; the number stays in percent"
    if writing.rival is not None and not form.plain:
        found[-1] += (
            f". It could be {writing.rival.describe()} as well: a --schema file, which lists every column, says so by "
            f"{_as_json(writing.rival)} in the entry of this one"
        )
    if writing.gaps:
        found.append(f"has {_counted(writing.gaps)} among its numbers, which count as missing cells")
    if writing.bad:
        found.append(
            f"has {_counted(writing.bad)} that are not {form.describe()}; they count as missing cells in training, and "
            "such a cell is an error of its row when scoring"
        )
    return found


def _about_numbers(facts: ColumnFacts) -> list[str]:
    if facts.rising and facts.distinct > len(facts.values) / 2:
        return [
            "rises or falls from row to row: if it counts time or wear, every later row will look new; "
            f"--exclude {facts.name!r} leaves it out"
        ]
    if facts.text is not None and pc.any(pc.match_substring_regex(facts.text, r"^0\d")).as_py():
        example = facts.text.filter(pc.match_substring_regex(facts.text, r"^0\d"))[0].as_py()
        return [
            f"is read as numbers, but cells such as {example!r} begin with 0: codes are categories in a "
            f'--schema file, which lists every column, this one as {{"name": "{facts.name}", "kind": "categorical"}}'
        ]
    if facts.whole and names_strong_identifier(facts.name) and facts.distinct > 2:
        return [f"is named as an identifier, but repeats, so it is scored; --exclude {facts.name!r} leaves it out"]
    return []


def _example(facts: ColumnFacts) -> str:
    """The first number of the column, as it is written and as it is read."""
    if facts.text is None or facts.numbers is None:
        return ""
    for cell, number in zip(facts.text.slice(0, 1000), facts.numbers.slice(0, 1000), strict=True):
        if number.as_py() is not None:
            return f" ({cell.as_py()!r} is {number.as_py():.15g})"
    return ""


def _as_json(form: NumberFormat) -> str:
    return f'"number": {form.model_dump_json(exclude_defaults=True)}'


def _counted(cells: tuple[tuple[str, int], ...]) -> str:
    """How many cells, and the most frequent of them."""
    total = sum(n for _, n in cells)
    shown = ", ".join(f"{text[:40]!r} ({n:,})" for text, n in cells[:MAX_EXAMPLES])
    return f"{total:,} {'cell' if total == 1 else 'cells'} such as {shown}"
