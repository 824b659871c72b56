"""A batch of items as tensors, with the items that could not be read set aside."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from elbound.data.memory import announce
from elbound.errors import ItemError

ERROR_BYTES = 1_024
"""About what Python keeps for an error with its message."""
ANNOUNCED_ERRORS = 1_024


@dataclass(frozen=True)
class TensorItems:
    """What a preprocessor makes of an upload of `n` items.

    `x` has shape `(m, *event)` and holds the `m <= n` readable items; `index` `(m,)` is their place in the
    upload, `errors` tells of the others. `names` has one name for each of the `n` items, or is None, and so has
    `groups` the calibration group of each, None where it has none.
    `unseen` counts values per categorical column that training had not seen.
    """

    x: torch.Tensor
    index: np.ndarray
    n: int
    errors: dict[int, ItemError] = field(default_factory=dict)
    names: Sequence[str] | None = None
    unseen: Counter[str] = field(default_factory=Counter)
    groups: Sequence[str | None] | None = None

    def only(self) -> torch.Tensor:
        """`x` where every item was readable; otherwise the first item's error is raised."""
        if self.errors:
            first = min(self.errors)
            error = self.errors[first]
            raise ItemError(f"item {first}: {error.message}", code=error.code, where=error.where)
        return self.x

    def in_group(self, group: str) -> "TensorItems":
        """The same items, all of one calibration group."""
        return replace(self, groups=[group] * self.n)

    @property
    def readable_groups(self) -> list[str | None] | None:
        """The calibration group of each readable item, `(m,)`; None where items have none."""
        if self.groups is None or len(self.index) == self.n:
            return self.groups if self.groups is None else list(self.groups)
        readable: list[str | None] = np.array(self.groups, dtype=object)[self.index].tolist()
        return readable

    def among(self, positions: np.ndarray, bad: dict[int, ItemError], *, start: int = 0) -> "TensorItems":
        """The same items as part of a larger upload: at `positions` `(n,)`, between the items of `bad`.

        Items of `bad` are called by their place, counted from `start`.
        """
        errors = {int(positions[row]): error for row, error in self.errors.items()} | bad
        n, names, groups = self.n + len(bad), self.names, self.groups
        if names is not None:
            by_position = dict(zip(positions.tolist(), names, strict=True))
            names = [by_position.get(i, str(start + i)) for i in range(n)]
        if groups is not None:
            group_at = dict(zip(positions.tolist(), groups, strict=True))
            groups = [group_at.get(i) for i in range(n)]
        return TensorItems(self.x, positions[self.index], n, errors, names, self.unseen, groups)

    def with_few_messages(self, most: int) -> "TensorItems":
        """The same items; from the first `most` errors on, those of one code share one error, with a general message.

        An upload of which everything is wrong is then no larger than one that is right.
        """
        if len(self.errors) <= most:
            return self
        shared: dict[str, ItemError] = {}
        errors: dict[int, ItemError] = {}
        for place in sorted(self.errors):
            error = self.errors[place]
            if len(errors) >= most:
                message = f"cannot be read; only the first {most:,} errors of an upload are described"
                error = shared.setdefault(error.code, ItemError(message, code=error.code))
            errors[place] = error
        return replace(self, errors=errors)


def keep_error(errors: dict[int, ItemError], place: int, error: ItemError) -> None:
    """Put `error` at `place`, without what it refers to: the frames that it came through hold the data."""
    error.__traceback__ = error.__cause__ = error.__context__ = None
    errors[place] = error
    if len(errors) % ANNOUNCED_ERRORS == 0:
        announce(ERROR_BYTES * ANNOUNCED_ERRORS)


def keep_readable(
    x: torch.Tensor,
    errors: dict[int, ItemError],
    *,
    names: Sequence[str] | None = None,
    unseen: Counter[str] | None = None,
    groups: Sequence[str | None] | None = None,
) -> TensorItems:
    """`TensorItems` from a tensor of all `n` items, some rows of which are only placeholders."""
    n = x.shape[0]
    if not errors:
        return TensorItems(x, np.arange(n), n, errors, names, unseen or Counter(), groups)
    index = np.setdiff1d(np.arange(n), np.fromiter(errors, dtype=np.int64, count=len(errors)))
    return TensorItems(x[torch.from_numpy(index)], index, n, errors, names, unseen or Counter(), groups)
