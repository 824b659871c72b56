"""Events of one version as events of another: the same upload, in the columns and levels that the other learned."""

from collections.abc import Callable

import torch
from torch import Tensor

from elbound.schema import Column, ImageSchema, TableSchema, list_names
from service.errors import NoShadow

Translate = Callable[[Tensor], Tensor]


def translation(live: TableSchema | ImageSchema, other: TableSchema | ImageSchema) -> Translate:
    """What makes events `(n, *event)` of `live` into those of `other`.

    A value that the live version never saw is unseen to the other too: what it was is not known any more. Raises
    NoShadow where the live version does not read all that the other needs.
    """
    if isinstance(live, TableSchema) and isinstance(other, TableSchema):
        return _columns(live, other)
    if live.model_copy(update={"group_by": None}) != other.model_copy(update={"group_by": None}):
        raise NoShadow(
            "its images are read in another way than the live version's (size, channels, bits or resizing)",
            where="version",
        )
    return lambda x: x


def _columns(live: TableSchema, other: TableSchema) -> Translate:
    places = {column.name: i for i, column in enumerate(live.columns)}
    lacking = [
        column.name
        for column in other.columns
        if column.name not in places or live.columns[places[column.name]].kind != column.kind
    ]
    if lacking:
        raise NoShadow(
            f"it needs columns that the live version does not read, or not as the same kind: {list_names(lacking)}",
            where="version",
        )
    order = torch.tensor([places[column.name] for column in other.columns])
    levels = {
        i: _levels(live.columns[places[column.name]], column)
        for i, column in enumerate(other.columns)
        if column.kind == "categorical"
    }

    def translate(x: Tensor) -> Tensor:
        out = x[:, order]
        for i, numbers in levels.items():
            is_there = ~out[:, i].isnan()
            out[is_there, i] = numbers[out[is_there, i].long()]
        return out

    return translate


def _levels(live: Column, other: Column) -> Tensor:
    """The other's number for each of the live version's levels, and last for what it never saw."""
    number = {level: i for i, level in enumerate(other.levels)}
    unseen = len(other.levels)
    return torch.tensor([*(number.get(level, unseen) for level in live.levels), unseen], dtype=torch.float64)
