"""Where in an image the anomaly is: heat maps through the queue, drawn for the answer."""

import base64
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from elbound.data.items import TensorItems
from elbound.errors import ConfigError, LimitExceeded
from elbound.explanation.heat import heat_maps, overlay
from elbound.scorer import Scorer
from service.batcher import Batcher

SLICE_ITEMS = 16
"""The device takes at most so many maps at once: nobody else waits for more."""


@dataclass(frozen=True)
class HeatMaps:
    """Maps of `n` items, `(n, height, width)`."""

    values: np.ndarray

    def part(self, start: int, stop: int) -> "HeatMaps":
        """A copy of the maps from `start` to `stop`: those of other callers are not kept alive."""
        return HeatMaps(self.values[start:stop].copy())


@dataclass(frozen=True)
class HeatRun:
    """What the device runs; two of the same model are equal, so that their jobs join."""

    scorer: Scorer

    def __call__(self, x: Tensor) -> HeatMaps:
        return HeatMaps(heat_maps(self.scorer, x))


def check_explains(scorer: Scorer) -> None:
    """Raise ConfigError where there is no explanation of this model's items."""
    if scorer.image is None:
        raise ConfigError(
            f"explain=true is for images; {scorer.name} scores rows of a table, which have no explanations yet",
            code="explain_unsupported",
            where="explain",
        )


def check_count(items: TensorItems, *, max_explained_items: int) -> None:
    """Raise LimitExceeded where more items were read than one upload may have explained."""
    if len(items.x) > max_explained_items:
        raise LimitExceeded(
            f"{len(items.x):,} items; with explain=true at most {max_explained_items:,} are taken "
            "(max_explained_items)",
            where="explain",
        )


async def heat_of_items(scorer: Scorer, x: Tensor, batcher: Batcher, *, deadline: float) -> np.ndarray:
    """Heat maps `(n, height, width)` of events `(n, *event)`, slice by slice in the bulk lane.

    Raises Overloaded, DeadlineExceeded.
    """
    run = HeatRun(scorer)
    parts = [
        await batcher.submit(run, rows, lane="bulk", deadline=deadline, batch_rows=SLICE_ITEMS)
        for rows in x.split(SLICE_ITEMS)
    ]
    return np.concatenate([part.values for part in parts])


def draw_heat(scorer: Scorer, x: Tensor, heat: np.ndarray) -> list[str]:
    """A PNG in base64 of each event under its map, as the model saw it: of the schema's size, in 8 bits."""
    assert scorer.image is not None
    return [
        base64.b64encode(overlay(pixels, of_item)).decode()
        for pixels, of_item in zip(scorer.image.from_tensor(x), heat, strict=True)
    ]
