"""Labels of the groups that rows belong to, from the cells of a column; those of images: see `patterns`."""

import pyarrow as pa
import pyarrow.compute as pc

from elbound.data.cells import as_text


def cell_groups(cells: pa.ChunkedArray) -> list[str | None]:
    """One label a cell: its text, however it came; None where it is missing.

    A whole number is the same with and without `.0`: a column with gaps comes as floats from many programs.
    """
    labels: list[str | None] = pc.replace_substring_regex(as_text(cells), r"^(-?\d+)\.0+$", r"\1").to_pylist()
    return labels
