"""Why an item is odd: shares that add up to a score, what was expected instead, and pictures of where."""

from elbound.explanation.rows import RowShares, explain_rows

__all__ = ["RowShares", "explain_rows"]
