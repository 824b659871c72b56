"""The items of a training run."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa
from torch import Tensor

from elbound.data.schema import ImageSchema, TableSchema


@dataclass(frozen=True)
class Source:
    """Items to train on, their schema and what the user should be told.

    `groups` are kept in one part of the split, `item_groups` get thresholds of their own. `doubts` are findings
    that end the training unless `--anyway` is given: each says what was found and what to do.
    """

    items: pa.Table | Tensor
    schema: TableSchema | ImageSchema
    groups: Sequence[str] | None = None
    item_groups: Sequence[str | None] | None = None
    warnings: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
