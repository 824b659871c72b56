"""Why an item is odd in the eyes of another score than `negative_elbo`: what the score that decided can tell."""

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from elbound.detector import Member
from elbound.errors import SchemaError
from elbound.explain.heat import NORMAL_QUANTILE
from elbound.scorer import Scorer
from elbound.scores import Nearest, Observed, Reasons, Score

TOLD_ALREADY = ("negative_elbo", "reconstruction", "kl")
"""Of the first view: the shares of `negative_elbo` say all that these could."""

_NORMAL_PLACES: WeakKeyDictionary[Scorer, dict[str, float]] = WeakKeyDictionary()
"""The 99 % quantile of each score's map over the golden items of each loaded scorer, computed once."""


@dataclass(frozen=True)
class FiredReasons:
    """What `score` tells of one item.

    `features` `(d,)` and, where there is one, `latent` add up to the score, in its unit. `heat` `(height, width)` is 1
    where a normal pixel is rare. `nearest` are training items in units of the data, `(k, *event)`, at `distances`
    `(k,)`. None is what the score cannot tell.
    """

    score: str
    features: np.ndarray | None
    latent: float | None
    heat: np.ndarray | None
    distances: np.ndarray | None
    nearest: Tensor | None


@torch.inference_mode()
def explain_fired(
    scorer: Scorer, x: Tensor, names: Sequence[str | None], *, nearest_items: int
) -> list[FiredReasons | None]:
    """Why events `(n, *event)` score as they do by the score called `names[i]` each.

    None where there is no name, or where the first explanation says it all. At most `nearest_items` training items are
    looked up for each. Raises SchemaError for the name of no score of the model.
    """
    found: list[FiredReasons | None] = [None] * len(x)
    for name in dict.fromkeys(name for name in names if name is not None and name not in TOLD_ALREADY):
        own = [i for i, one in enumerate(names) if one == name]
        member, score = _score_called(scorer, name)
        for part in torch.tensor(own).split(scorer.detector.cpu_chunk):
            observed = member.observe(x[part].to(scorer.device))
            for i, told in zip(part.tolist(), _told(scorer, name, score, observed, nearest_items), strict=True):
                found[i] = told
    return found


def _score_called(scorer: Scorer, name: str) -> tuple[Member, Score]:
    places = [(member, score) for member in scorer.detector.each() for score in member.scores]
    for (member, score), own in zip(places, scorer.detector.score_names, strict=True):
        if own == name:
            assert isinstance(score, Score)
            return member, score
    raise SchemaError(f"{scorer.name} has no score {name!r}", where="fired")


def _told(scorer: Scorer, name: str, score: Score, observed: Observed, nearest_items: int) -> list[FiredReasons]:
    reasons = score.reasons(observed.model, observed)
    nearest = score.nearest(observed.model, observed, nearest_items) if nearest_items else None
    features, latent = reasons.features, reasons.latent
    if scorer.table is None:
        features = latent = None  # of pixels there is a map
    heat = _heat(scorer, name, score, _places(reasons), observed)
    return [
        FiredReasons(
            name,
            None if features is None else features[i].double().cpu().numpy(),
            None if latent is None else float(latent[i]),
            None if heat is None else heat[i],
            *_nearest(nearest, i),
        )
        for i in range(len(observed.x))
    ]


def _nearest(nearest: Nearest | None, i: int) -> tuple[np.ndarray | None, Tensor | None]:
    return (None, None) if nearest is None else (nearest.distances[i].cpu().numpy(), nearest.events[i].cpu())


def _places(reasons: Reasons) -> Tensor | None:
    """The map of a score; of one that adds up over pixels their sum over colours."""
    if reasons.features is not None and reasons.features.ndim == 4:
        return reasons.features.sum(1)
    return reasons.places


def _heat(scorer: Scorer, name: str, score: Score, places: Tensor | None, observed: Observed) -> np.ndarray | None:
    """A score's map at the size of the image, over the 99 % quantile of its normal maps."""
    if places is None:
        return None
    levels = _NORMAL_PLACES.setdefault(scorer, {})
    if name not in levels:
        member, _ = _score_called(scorer, name)
        normal = _places(score.reasons(observed.model, member.observe(scorer.golden.to(scorer.device))))
        assert normal is not None
        levels[name] = max(1e-12, float(torch.quantile(normal.flatten().float(), NORMAL_QUANTILE)))
    size = observed.x.shape[-2:]
    sized = functional.interpolate(places[:, None].float(), size, mode="bilinear")[:, 0]
    heat: np.ndarray = (sized / levels[name]).cpu().numpy()
    return heat
