"""The items of a training run."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from torch import Tensor

from elbound.schema import ImageSchema, TableSchema


@dataclass(frozen=True)
class KnownItems:
    """Images that came with the training data to evaluate the model: events `x` `(n, *event)`, each with its kind of
    defect or None where it is normal, its calibration group, and the `masks` `(height, width)` of some by place."""

    x: Tensor
    kinds: list[str | None]
    masks: dict[int, np.ndarray] = field(default_factory=dict)
    groups: list[str | None] | None = None

    @property
    def defects(self) -> Tensor:
        """The events that are not normal."""
        return self.x[[i for i, kind in enumerate(self.kinds) if kind is not None]]


@dataclass(frozen=True)
class Source:
    """Items to train on, their schema and what the user should be told.

    `groups` are kept in one part of the split, `item_groups` get thresholds of their own. `doubts` are findings
    that end the training unless `--anyway` is given: each says what was found and what to do. `notes` say what was
    recognised; `known` are other items by which the model is evaluated.
    """

    items: pa.Table | Tensor
    schema: TableSchema | ImageSchema
    groups: Sequence[str] | None = None
    item_groups: Sequence[str | None] | None = None
    warnings: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    known: KnownItems | None = None
