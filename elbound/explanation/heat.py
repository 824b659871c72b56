"""Where in an image the anomaly is: maps from the same terms as the scores, and their picture for people."""

import io
from typing import NamedTuple
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

DEFECT_SHARE = 1 / 14
"""Errors of pixels are smoothed by this part of the longer side: what is looked for is a spot, not a pixel."""

NORMAL_QUANTILE, EVIDENT_TIMES = 0.99, 2.0
OPACITY = 0.75


class NormalLevels(NamedTuple):
    """Of normal images: each kind's mean, `(kinds, 1, 1, 1)`, and the 99 % quantile of their heat."""

    mean: Tensor
    quantile: Tensor


_NORMAL_LEVELS: WeakKeyDictionary[Scorer, NormalLevels] = WeakKeyDictionary()
"""Those of each loaded scorer, computed once."""


def heat_maps(scorer: Scorer, x: Tensor) -> np.ndarray:
    """How odd each pixel of events `(n, *event)` is, float32 `(n, height, width)`; 1 is rare among normal pixels.

    Of pixels the smoothed squared error of the reconstruction, whose largest values make `error_top`; of features
    the mean of the patch scores' maps, brought to the size of the image; each in units of its mean over the golden
    items, which are normal. A map tells *where*, the verdict tells how much: so a map is divided by 1 + its own root
    mean square, or an image that is odd all over outshines the spot of another one (divisive normalisation: Carandini
    and Heeger 2012), and then by the 99 % quantile over the golden items. Raises SchemaError for a table.
    """
    raw = _raw_maps(scorer, x)
    if scorer not in _NORMAL_LEVELS:
        normal = _raw_maps(scorer, scorer.golden)
        mean = normal.flatten(1).mean(1).clamp(min=1e-12).view(-1, 1, 1, 1)
        _NORMAL_LEVELS[scorer] = NormalLevels(mean, torch.quantile(_standing_out(normal / mean), NORMAL_QUANTILE))
    levels = _NORMAL_LEVELS[scorer]
    heat: np.ndarray = (_standing_out(raw / levels.mean) / levels.quantile).numpy()
    return heat


def _standing_out(relative: Tensor) -> Tensor:
    """The mean `(n, height, width)` of maps `(kinds, n, height, width)` over 1 + its root mean square."""
    heat = relative.mean(0)
    return heat / (1 + heat.square().mean((1, 2), keepdim=True).sqrt())


def overlay(pixels: np.ndarray, heat: np.ndarray) -> bytes:
    """A PNG of one image `(height, width[, 3])` uint8 under its map `(height, width)`.

    What is common among normal pixels stays as it is; from 1 on yellow comes up and turns to red at 2 times that.
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
        return error_map(member.model, observed, sigma=max(1.0, DEFECT_SHARE * max(x.shape[-2:])))[None]
    maps = torch.stack([score.patch_map(member.model, observed) for score in scores])
    return functional.interpolate(maps, x.shape[-2:], mode="bilinear")
