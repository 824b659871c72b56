"""Where an image is odd: each pixel's share of `negative_elbo`, a heat map, and what the model made of the image."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from elbound.data.image import ImagePreprocessor
from elbound.detector import Member
from elbound.errors import SchemaError
from elbound.explain.heat import heat_of, raw_maps
from elbound.scorer import Scorer
from elbound.scores import Observed
from elbound.views.image import FeatureView


@dataclass(frozen=True)
class ImageShares:
    """Why `n` images score as they do.

    `shares` `(n, height, width)` nats, summed over colours, and `latent` `(n,)` nats add up to `negative_elbo`, both
    float64; of pretrained features each place's share is spread evenly over its pixels. `heat` `(n, height, width)`
    float32 is what is drawn: 1 is rare among normal pixels. `reconstruction` `(n, height, width[, 3])` uint8 is the
    model's image, None where it sees features.
    """

    shares: np.ndarray
    latent: np.ndarray
    heat: np.ndarray
    reconstruction: np.ndarray | None

    def part(self, start: int, stop: int) -> Self:
        """A copy of the images from `start` to `stop`: those of other callers are not kept alive."""
        own = slice(start, stop)
        rebuilt = None if self.reconstruction is None else self.reconstruction[own].copy()
        return type(self)(self.shares[own].copy(), self.latent[own].copy(), self.heat[own].copy(), rebuilt)


@torch.inference_mode()
def explain_images(scorer: Scorer, x: Tensor) -> ImageShares:
    """The shares of `negative_elbo` of events `(n, *event)`. Raises SchemaError where the model scores rows."""
    if scorer.image is None:
        raise SchemaError(f"{scorer.name} scores rows of a table, which have no pixels")
    member = next(scorer.detector.each())
    shares, latent, maps, rebuilt = [], [], [], []
    for part in x.split(scorer.detector.cpu_chunk):
        observed = member.observe(part.to(scorer.device))
        shares.append(pixel_shares(member, observed).double().cpu())
        latent.append(observed.terms.rate.mean(0).double().cpu())
        maps.append(raw_maps(member, observed).cpu())
        rebuilt.append(_rebuilt(scorer.image, member, observed))
    pictures = [one for one in rebuilt if one is not None]
    return ImageShares(
        torch.cat(shares).numpy(),
        torch.cat(latent).numpy(),
        heat_of(scorer, torch.cat(maps, 1)),
        np.concatenate(pictures) if pictures else None,
    )


def pixel_shares(member: Member, observed: Observed) -> Tensor:
    """Each pixel's share of the reconstruction's nats, `(n, height, width)`."""
    if not isinstance(member.view, FeatureView):
        by_pixel: Tensor = observed.terms.feature_shares.mean(0).sum(1)
        return by_pixel
    places = member.view.frozen.map_shape
    shares: Tensor = observed.terms.feature_shares.mean(0)
    by_place: Tensor = shares.unflatten(1, (*places, -1)).sum(-1)
    rows, columns = (_spread(inner, outer, shares) for inner, outer in zip(places, observed.x.shape[-2:], strict=True))
    return rows.mT @ by_place @ columns


def _spread(places: int, pixels: int, like: Tensor) -> Tensor:
    """Which part of each place's share goes to each pixel of a line, `(places, pixels)`: the part that it covers."""
    ends = torch.arange(places + 1, dtype=torch.float64) * pixels / places
    pixel = torch.arange(pixels, dtype=torch.float64)
    covered = (torch.minimum(ends[1:, None], pixel + 1) - torch.maximum(ends[:-1, None], pixel)).clamp(min=0)
    return (covered * places / pixels).to(like)


def _rebuilt(image: ImagePreprocessor, member: Member, observed: Observed) -> np.ndarray | None:
    grey = member.view.inverse(observed.terms.prediction.mean(0))
    return None if grey is None else grey_pixels(image, grey)


def grey_pixels(image: ImagePreprocessor, grey: Tensor) -> np.ndarray:
    """Grey levels `(n, channels, height, width)` of any size as pixels `(n, height, width[, 3])` uint8 for people."""
    return image.from_tensor(grey.round().clamp(0, 2**image.schema.bits - 1))
