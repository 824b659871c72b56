"""Labels of the groups that items belong to: from the cells of a column, or from file names."""

import re
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from elbound.data.celltext import as_text

MAX_MATCHED_NAME = 1_000
"""Characters of a file name that a pattern sees: names come from uploads."""


def cell_groups(cells: pa.ChunkedArray) -> list[str | None]:
    """One label a cell: its text, however it came; None where it is missing.

    A whole number is the same with and without `.0`: a column with gaps comes as floats from many programs.
    """
    labels: list[str | None] = pc.replace_substring_regex(as_text(cells), r"^(-?\d+)\.0+$", r"\1").to_pylist()
    return labels


def name_groups(pattern: str, names: Sequence[str]) -> list[str | None]:
    """One label a file name: the pattern's first group, or its whole match; None where it does not match."""
    compiled = re.compile(pattern)
    found = (compiled.search(name[:MAX_MATCHED_NAME]) for name in names)
    return [None if match is None else match.group(1 if compiled.groups else 0) for match in found]
