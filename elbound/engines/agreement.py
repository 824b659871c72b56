"""How far two computations of the same scores may be apart, and the rows that tell."""

import torch
from torch import Tensor

from elbound.schema import TableSchema

AGREEMENT = 1e-5
"""Largest difference between two engines, relative to a score's own size or to 1: the noise of a batch's shape."""
FAR = 1e6
MOST_CELLS = 1 << 24


def worst_difference(found: Tensor, expected: Tensor) -> float:
    """The largest difference of scores `(n, scores)`, relative to their own size or to 1; infinite for other shapes."""
    if found.shape != expected.shape:
        return torch.inf
    difference = (found - expected).abs() / expected.abs().clamp(min=1.0)
    return float(difference.nan_to_num(nan=torch.inf).max()) if len(expected) else 0.0


def hard_rows(rows: Tensor, schema: TableSchema) -> Tensor:
    """`rows` `(n, d)` and edge cases made of the first row: `(n + 2 min(d, MOST_CELLS / d) + 1, d)`.

    One row a column with that cell missing, one row with every cell missing, and one row a column with a value far out
    of range in that cell (a far number, or a level that the category does not have). Tables of more than 4,096 columns
    have edge cases for the first columns only, since the rows would take memory by the square of d.
    """
    d = len(schema.columns)
    this = torch.eye(min(d, MOST_CELLS // d), d, dtype=torch.bool)
    gaps = rows[:1].expand(len(this), d).masked_fill(this, torch.nan)
    values = {"boolean": 1.0, "numeric": FAR, "datetime": FAR}
    odd = torch.tensor([values.get(column.kind, len(column.levels)) for column in schema.columns], dtype=rows.dtype)
    return torch.cat([rows, gaps, torch.full_like(rows[:1], torch.nan), torch.where(this, odd, rows[:1])])
