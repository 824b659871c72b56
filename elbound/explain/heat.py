"""Where in an image the anomaly is: maps from the same terms as the scores, 1 where a normal pixel is rare."""

from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from elbound.detector import Member
from elbound.errors import SchemaError
from elbound.scorer import Scorer
from elbound.scores import Observed
from elbound.scores.appearance import error_map
from elbound.scores.patches import PatchScore

DEFECT_SHARE = 1 / 14
"""Errors of pixels are smoothed by this part of the longer side: what is looked for is a spot, not a pixel."""

NORMAL_QUANTILE = 0.99


class NormalLevels(NamedTuple):
    """Of normal images: each kind's mean, `(kinds, 1, 1, 1)`, and the 99 % quantile of their heat."""

    mean: Tensor
    quantile: Tensor


_NORMAL_LEVELS: WeakKeyDictionary[Scorer, NormalLevels] = WeakKeyDictionary()
"""Those of each loaded scorer, computed once."""


@torch.inference_mode()
def heat_maps(scorer: Scorer, x: Tensor) -> np.ndarray:
    """How odd each pixel of events `(n, *event)` is, float32 `(n, height, width)`; 1 is rare among normal pixels.

    Of pixels the smoothed squared error of the reconstruction, whose largest values make `error_top`; of features
    the mean of the patch scores' maps, brought to the size of the image; each in units of its mean over the golden
    items, which are normal. A map tells *where*, the verdict tells how much: so a map is divided by 1 + its own root
    mean square, or an image that is odd all over outshines the spot of another one (divisive normalisation: Carandini
    and Heeger 2012), and then by the 99 % quantile over the golden items. Raises SchemaError for a table.
    """
    return heat_of(scorer, _maps_of_events(scorer, x))


def raw_maps(member: Member, observed: Observed) -> Tensor:
    """One member's maps `(kinds, n, height, width)` of what it observed, each in its own unit."""
    size = observed.x.shape[-2:]
    scores = [score for score in member.scores if isinstance(score, PatchScore)]
    if not scores:
        return error_map(member.model, observed, sigma=max(1.0, DEFECT_SHARE * max(size)))[None]
    maps = torch.stack([score.patch_map(member.model, observed) for score in scores])
    return functional.interpolate(maps, size, mode="bilinear")


def heat_of(scorer: Scorer, raw: Tensor) -> np.ndarray:
    """Raw maps of the first member as `heat_maps` gives them."""
    if scorer not in _NORMAL_LEVELS:
        normal = _maps_of_events(scorer, scorer.golden)
        mean = normal.flatten(1).mean(1).clamp(min=1e-12).view(-1, 1, 1, 1)
        _NORMAL_LEVELS[scorer] = NormalLevels(mean, torch.quantile(_standing_out(normal / mean), NORMAL_QUANTILE))
    levels = _NORMAL_LEVELS[scorer]
    heat: np.ndarray = (_standing_out(raw.cpu() / levels.mean) / levels.quantile).numpy()
    return heat


def _standing_out(relative: Tensor) -> Tensor:
    """The mean `(n, height, width)` of maps `(kinds, n, height, width)` over 1 + its root mean square."""
    heat = relative.mean(0)
    return heat / (1 + heat.square().mean((1, 2), keepdim=True).sqrt())


@torch.inference_mode()
def _maps_of_events(scorer: Scorer, x: Tensor) -> Tensor:
    if scorer.image is None:
        raise SchemaError(f"{scorer.name} scores rows of a table, which have no heat map")
    member = next(scorer.detector.each())
    chunks = x.split(scorer.detector.cpu_chunk)
    return torch.cat([raw_maps(member, member.observe(part.to(scorer.device))).cpu() for part in chunks], 1)
