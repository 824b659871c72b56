"""Where in an image the anomaly is: maps from the same terms as the scores, and their picture for people."""

import io
from weakref import WeakKeyDictionary

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from elbound.detector import Member
from elbound.errors import SchemaError
from elbound.scorer import Scorer
from elbound.scores.appearance import error_map
from elbound.scores.patches import PatchScore

SHOWN_SIDE = 224
"""Smaller images are enlarged by a whole factor to about this, or nobody sees the colours."""

NORMAL_QUANTILE, EVIDENT_TIMES = 0.99, 3.0
OPACITY = 0.75
_NORMAL_LEVELS: WeakKeyDictionary[Scorer, Tensor] = WeakKeyDictionary()
"""The quantile of each loaded scorer, computed once."""


def heat_maps(scorer: Scorer, x: Tensor) -> np.ndarray:
    """How odd each pixel of events `(n, *event)` is, float32 `(n, height, width)`; 1 is rare among normal pixels.

    Of pixels the smoothed squared error of the reconstruction, whose largest values make `error_top`; of features
    the mean of the patch scores' maps, brought to the size of the image. Each map is divided by the 99 % quantile
    over the golden items, which are normal, so that maps of different images and kinds compare. Raises
    SchemaError for a table.
    """
    raw = _raw_maps(scorer, x)
    if scorer not in _NORMAL_LEVELS:
        normal = _raw_maps(scorer, scorer.golden).flatten(1)
        _NORMAL_LEVELS[scorer] = torch.quantile(normal, NORMAL_QUANTILE, dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)
    heat: np.ndarray = (raw / _NORMAL_LEVELS[scorer]).mean(0).numpy()
    return heat


def overlay(pixels: np.ndarray, heat: np.ndarray) -> bytes:
    """A PNG of one image `(height, width[, 3])` uint8 under its map `(height, width)`.

    What is common among normal pixels stays as it is; from 1 on yellow comes up and turns to red at 3 times that.
    """
    factor = max(1, SHOWN_SIDE // max(heat.shape))
    page = Image.fromarray(pixels).convert("RGB")
    size = (page.width * factor, page.height * factor)
    level = np.clip((heat - 1) / (EVIDENT_TIMES - 1), 0, 1).astype(np.float32)
    shown = np.asarray(Image.fromarray(level).resize(size, Image.Resampling.BILINEAR))[..., None]
    colour = np.concatenate([np.full_like(shown, 255), 220 * (1 - shown), np.zeros_like(shown)], 2)
    opacity = OPACITY * np.minimum(1, 2 * shown)
    under = np.asarray(page.resize(size, Image.Resampling.NEAREST), dtype=np.float32)
    buffer = io.BytesIO()
    Image.fromarray(np.rint(under * (1 - opacity) + colour * opacity).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@torch.inference_mode()
def _raw_maps(scorer: Scorer, x: Tensor) -> Tensor:
    """The first member's maps `(kinds, n, height, width)`, each in its own unit, on the CPU."""
    if scorer.image is None:
        raise SchemaError(f"{scorer.name} scores rows of a table, which have no heat map")
    member = next(scorer.detector.each())
    chunk = scorer.detector.cpu_chunk
    return torch.cat([_chunk_maps(member, part.to(scorer.device)).cpu() for part in x.split(chunk)], 1)


def _chunk_maps(member: Member, x: Tensor) -> Tensor:
    observed = member.observe(x)
    scores = [score for score in member.scores if isinstance(score, PatchScore)]
    if not scores:
        return error_map(member.model, observed)[None]
    maps = torch.stack([score.patch_map(member.model, observed) for score in scores])
    return functional.interpolate(maps, x.shape[-2:], mode="bilinear")
