"""Heat maps of a scoring run: one picture for each anomalous image, in a folder."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from elbound.errors import ConfigError, DataError
from elbound.explain.heat import heat_maps
from elbound.explain.pictures import overlay
from elbound.scorer import Scorer

IMAGES_AT_ONCE = 64
NAME_CHARACTERS = 50
"""Of four bytes each at most: a file name may have 255 bytes."""


def make_folder(scorer: Scorer, heatmaps: Path, paths: Sequence[Path]) -> None:
    """Make the folder of the pictures. Raises ConfigError before the work, not after it."""
    if scorer.image is None:
        raise ConfigError(
            f"--heatmaps is for images; {scorer.name} scores rows of a table, which have no heat maps", where="heatmaps"
        )
    for path in paths:
        if path.is_dir() and heatmaps.resolve().is_relative_to(path.resolve()):
            raise ConfigError(
                f"--heatmaps: {heatmaps} lies in {path}, whose images are scored; the next run would score the maps",
                where="heatmaps",
            )
    try:
        heatmaps.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--heatmaps: {heatmaps} cannot be made: {error.strerror}", where="heatmaps") from error


def write_heatmaps(scorer: Scorer, x: Tensor, names: Sequence[str], rows: np.ndarray, heatmaps: Path) -> int:
    """Write a PNG of each event `(n, *event)` under its map, named by its row of the results; says how many.

    Raises DataError where a picture cannot be written.
    """
    assert scorer.image is not None
    for start in range(0, len(x), IMAGES_AT_ONCE):
        part = slice(start, start + IMAGES_AT_ONCE)
        pictures = zip(scorer.image.from_tensor(x[part]), heat_maps(scorer, x[part]), strict=True)
        for (pixels, heat), name, row in zip(pictures, names[part], rows[part].tolist(), strict=True):
            path = heatmaps / picture_name(row, name)
            try:
                path.write_bytes(overlay(pixels, heat))
            except OSError as error:
                raise DataError(f"{path} could not be written: {error.strerror or error}", where=str(path)) from error
    return len(x)


def picture_name(row: int, name: str) -> str:
    """A file name that no other row has and that leads nowhere else, whatever the image is called."""
    stem = re.sub(r"\.\w+$", "", name)
    safe = re.sub(r"[^\w.-]+", "_", stem)[-NAME_CHARACTERS:]
    return f"{row:06d}_{safe}.png"
