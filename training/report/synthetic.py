"""Anomalies made from held-out normals: they rank methods, and say nothing of the anomalies that will come."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from elbound.schema import ImageSchema, TableSchema
from elbound.views.table import column_scales

TRIES = 4
SHIFT_DEVIATIONS = (3.0, 6.0)
SCALE_FACTORS = (2.0, 4.0)
CHANGED_SHARE = 1 / 3
ZOOMS = (1.3, 1.8)
TURNS = (math.pi / 6, math.pi / 2)


class Synthetic(NamedTuple):
    """Events `x` `(m, *event)` of the dtype of the data and the kind of each."""

    x: Tensor
    kinds: list[str]


Maker = Callable[[Tensor, Tensor, torch.Generator], Tensor]
"""Altered events from events `(n, *event)` and as many others, in float64."""


def make_anomalies(x: Tensor, schema: TableSchema | ImageSchema, *, most: int, seed: int) -> Synthetic:
    """At most `most` altered copies of events `(n, *event)`, each of another event, the kinds in turn.

    None is used twice: copies of one event are no independent evidence. A copy that came out as it was is
    made again, and left out after `TRIES`.
    """
    generator = torch.Generator().manual_seed(seed)
    makers = table_makers(schema, x) if isinstance(schema, TableSchema) else image_makers(schema)
    names = list(makers)
    order = torch.randperm(len(x), generator=generator)[:most]
    parts, kinds = [], []
    for i, name in enumerate(names):
        mine = order[i :: len(names)]
        found = _altered(makers[name], x[mine].double(), x, generator)
        if isinstance(schema, ImageSchema):
            found = found.round().clamp(0, 2**schema.bits - 1)
        found = found.to(x.dtype)
        changed = ~_same(found, x[mine])
        parts.append(found[changed])
        kinds += [name] * int(changed.sum())
    shuffled = torch.randperm(len(kinds), generator=generator)
    return Synthetic(torch.cat(parts)[shuffled], [kinds[i] for i in shuffled.tolist()])


def table_makers(schema: TableSchema, x: Tensor) -> dict[str, Maker]:
    """Kinds of altered rows by name, for the columns that `schema` has; scales are those of events `x` `(n, d)`."""
    numeric = torch.tensor([column.kind in ("numeric", "datetime") for column in schema.columns])
    levels = torch.tensor([2 if c.kind == "boolean" else len(c.levels) for c in schema.columns])
    middle = x.nanmedian(0).values
    spread = column_scales(x)[1]

    def swapped(rows: Tensor, others: Tensor, generator: torch.Generator) -> Tensor:
        return torch.where(_some(rows, torch.ones_like(numeric), generator), others, rows)

    def shifted(rows: Tensor, _: Tensor, generator: torch.Generator) -> Tensor:
        size = _uniform(rows.shape, SHIFT_DEVIATIONS, generator) * spread
        sign = torch.randint(0, 2, rows.shape, generator=generator) * 2 - 1
        return torch.where(_one_of(rows, numeric, generator), rows + sign * size, rows)

    def scaled(rows: Tensor, _: Tensor, generator: torch.Generator) -> Tensor:
        factor = _uniform((len(rows), 1), SCALE_FACTORS, generator)
        return torch.where(_some(rows, numeric, generator), middle + factor * (rows - middle), rows)

    def relabelled(rows: Tensor, _: Tensor, generator: torch.Generator) -> Tensor:
        new = (torch.rand(rows.shape, generator=generator) * levels).floor().double()
        return torch.where(_some(rows, ~numeric, generator), new, rows)

    makers: dict[str, Maker] = {}
    if len(numeric) > 1:
        makers["cells swapped between rows"] = swapped
    if bool(numeric.any()):
        makers |= {"one number shifted": shifted, "numbers scaled": scaled}
    if not bool(numeric.all()):
        makers["levels exchanged"] = relabelled
    return makers


def image_makers(schema: ImageSchema) -> dict[str, Maker]:
    """Kinds of altered images by name."""
    height, width = schema.height, schema.width
    top = 2**schema.bits - 1

    def pasted(images: Tensor, others: Tensor, generator: torch.Generator) -> Tensor:
        side = (max(2, height // 4), max(2, width // 4))
        out = images.clone()
        for one, other in zip(out, others, strict=True):
            here, there = _window(height, width, side, generator), _window(height, width, side, generator)
            one[:, here[0], here[1]] = other[:, there[0], there[1]]
        return out

    def scratched(images: Tensor, _: Tensor, generator: torch.Generator) -> Tensor:
        out = images.clone()
        for one in out:
            rows, columns = _line(height, width, generator)
            one[:, rows, columns] = top if float(one[:, rows, columns].mean()) < top / 2 else 0.0
        return out

    def blurred(images: Tensor, _: Tensor, generator: torch.Generator) -> Tensor:  # noqa: ARG001 - the contract
        reach = max(1, min(height, width) // 14)
        padded = functional.pad(images, (reach,) * 4, mode="replicate")
        return functional.avg_pool2d(padded, 2 * reach + 1, 1)

    def noisy(images: Tensor, _: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.randn(images.shape, generator=generator, dtype=images.dtype)
        return images + noise * images.std((1, 2, 3), keepdim=True).clamp(min=top / 100) / 2

    def zoomed(images: Tensor, _: Tensor, generator: torch.Generator) -> Tensor:
        return _warped(images, torch.zeros(len(images)), _uniform((len(images),), ZOOMS, generator))

    def turned(images: Tensor, _: Tensor, generator: torch.Generator) -> Tensor:
        sign = torch.randint(0, 2, (len(images),), generator=generator) * 2 - 1
        return _warped(images, sign * _uniform((len(images),), TURNS, generator), torch.ones(len(images)))

    return {
        "patch of another image": pasted,
        "scratch": scratched,
        "blur": blurred,
        "noise": noisy,
        "zoom": zoomed,
        "rotation": turned,
    }


def _altered(maker: Maker, events: Tensor, pool: Tensor, generator: torch.Generator) -> Tensor:
    out = events.clone()
    for _ in range(TRIES):
        left = _same(out, events).nonzero()[:, 0]
        if len(left) == 0:
            break
        others = pool[torch.randint(0, len(pool), (len(left),), generator=generator)].double()
        out[left] = maker(events[left], others, generator)
    return out


def _same(first: Tensor, second: Tensor) -> Tensor:
    """Whether events are equal, gaps included, `(n,)`."""
    return ((first == second) | (first.isnan() & second.isnan())).flatten(1).all(1)


def _some(rows: Tensor, allowed: Tensor, generator: torch.Generator) -> Tensor:
    """Which cells to alter: about a third of each row's allowed ones, at least one."""
    chance = torch.rand(rows.shape, generator=generator).masked_fill(~allowed, 2.0)
    return (chance < CHANGED_SHARE) | (chance == chance.amin(1, keepdim=True))


def _one_of(rows: Tensor, allowed: Tensor, generator: torch.Generator) -> Tensor:
    chance = torch.rand(rows.shape, generator=generator).masked_fill(~allowed, 2.0)
    return (chance == chance.amin(1, keepdim=True)) & allowed


def _uniform(shape: tuple[int, ...], ends: tuple[float, float], generator: torch.Generator) -> Tensor:
    return ends[0] + (ends[1] - ends[0]) * torch.rand(shape, generator=generator)


def _window(height: int, width: int, side: tuple[int, int], generator: torch.Generator) -> tuple[slice, slice]:
    top, left = (
        int(torch.randint(0, whole - part + 1, (), generator=generator))
        for whole, part in zip((height, width), side, strict=True)
    )
    return slice(top, top + side[0]), slice(left, left + side[1])


def _line(height: int, width: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Rows and columns of the pixels of a straight line between two points, a third of the image apart or more."""
    size = torch.tensor([height - 1, width - 1])
    start, end = torch.rand(2, 2, generator=generator) * size
    end = torch.where((end - start).abs() < size / 3, (start + size / 2) % (size + 1), end)
    steps = torch.linspace(0, 1, 2 * max(height, width))[:, None]
    points = (start + steps * (end - start)).round().long()
    return points[:, 0].clamp(0, height - 1), points[:, 1].clamp(0, width - 1)


def _warped(images: Tensor, angle: Tensor, zoom: Tensor) -> Tensor:
    """Images turned by `angle` and enlarged by `zoom` around the middle, borders continued."""
    cos, sin, zero = angle.cos() / zoom, angle.sin() / zoom, torch.zeros_like(angle)
    theta = torch.stack([torch.stack([cos, -sin, zero], 1), torch.stack([sin, cos, zero], 1)], 1).to(images.dtype)
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
