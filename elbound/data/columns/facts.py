"""What the rules look at: one column of a table, each fact of it computed once."""

from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from elbound.data.cells import EXACT, as_text, is_number, is_text
from elbound.data.columns.words import MISSING_OR_VALUE, words_that_are_values
from elbound.data.columns.writing import Writing
from elbound.schema.number_format import clear_gaps, parse_numbers


class ColumnFacts:
    """A column by its `name` and `cells`; `writing` says how its numbers are written, None where they are no numbers.

    `included` says that the user wants it scored.
    """

    def __init__(
        self, name: str, cells: pa.ChunkedArray, *, writing: Writing | None = None, included: bool = False
    ) -> None:
        self.name = name
        self.cells = cells
        self.writing = writing
        self.included = included

    @cached_property
    def text(self) -> pa.ChunkedArray | None:
        """Trimmed cells of a text column, missing words as nulls; None for other types."""
        return as_text(self.cells) if is_text(self.cells.type) else None

    @cached_property
    def _counts(self) -> dict[str, int]:
        text = as_text(self.cells, keep=MISSING_OR_VALUE)
        counts = text.drop_null().value_counts()
        return dict(zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True))

    @cached_property
    def kept_words(self) -> tuple[str, ...]:
        """Words such as NA that are values here."""
        return words_that_are_values(self._counts)

    @cached_property
    def levels(self) -> dict[str, int]:
        """How often each value of a text column occurs, missing words left out."""
        missing = set(MISSING_OR_VALUE) - set(self.kept_words)
        return {text: n for text, n in self._counts.items() if text not in missing}

    @cached_property
    def numbers(self) -> pa.ChunkedArray | None:
        """The cells as float64; None where they are no numbers."""
        if self.text is not None:
            if self.writing is None:
                return None
            if self.writing.numbers is not None:
                return self.writing.numbers
            return parse_numbers(clear_gaps(self.text, self.writing.form), self.writing.form)[0]
        return pc.cast(self.cells, pa.float64(), safe=False) if is_number(self.cells.type) else None

    @cached_property
    def values(self) -> np.ndarray:
        """The numbers that are there, in the order of the rows."""
        if self.numbers is None:
            return np.empty(0)
        numbers = self.numbers.to_numpy()
        found: np.ndarray = numbers[~np.isnan(numbers)]
        return found

    @cached_property
    def complete(self) -> bool:
        """Whether no number is missing."""
        return len(self.values) == len(self.cells)

    @cached_property
    def whole(self) -> bool:
        """Whether there are numbers and all are finite and without a fraction."""
        return bool(len(self.values)) and bool(np.isfinite(self.values).all() and (self.values % 1 == 0).all())

    @cached_property
    def distinct(self) -> int:
        """How many different numbers there are; those of 64 bits may differ where their float64 does not."""
        if self.complete and len(self.values) and np.abs(self.values).max() > EXACT:
            return len(pc.unique(self.cells if self.text is None else self.text))
        return len(np.unique(self.values))

    @cached_property
    def all_different(self) -> bool:
        """Whether at least two numbers are there, none missing, and none twice."""
        return self.complete and len(self.values) >= 2 and self.distinct == len(self.values)

    @cached_property
    def steps(self) -> np.ndarray:
        """Differences from row to row, of the sign that more of them have, so that a falling column rises.

        Infinite values go up and down.
        """
        steps = np.diff(self.values) if np.isfinite(self.values).all() else np.array([-1.0, 1.0])
        return -steps if (steps < 0).sum() > (steps > 0).sum() else steps

    @cached_property
    def strictly_rising(self) -> bool:
        """Whether each of at least 20 numbers is larger than the one before, or each smaller."""
        return len(self.values) >= 20 and bool((self.steps > 0).all())

    @property
    def rising(self) -> bool:
        """Whether at least 98 % of the steps do not go back, and there are 10 different values or more."""
        return len(self.values) >= 10 and bool((self.steps >= 0).mean() >= 0.98) and self.distinct >= 10
