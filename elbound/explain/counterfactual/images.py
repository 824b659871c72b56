"""The nearest normal image: the odd regions as the model would have them, the rest as it was."""

import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from elbound.detector import Member
from elbound.explain.counterfactual.judge import Judge, Judged
from elbound.explain.counterfactual.walk import Progress, Walk
from elbound.schema import ImageSchema
from elbound.scorer import Scorer
from elbound.scores.appearance import smoothed
from elbound.scores.latent import LatentNeighbours, codes

BATCH_VALUES, LEAST_IMAGES, MOST_IMAGES = 12_544, 4, 16
"""Candidates of a slice: so many values of pixels, but not fewer or more images."""
SHARES = 8
SMALLEST_SHARE = 1 / 256
"""Of the pixels: regions of `SHARES` sizes from this one to the whole image are tried side by side."""
WAYS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""How far the code goes towards the nearest normal one, a round each."""
NARROWING_ROUNDS = 3
SQUARES, TAKING_BACK_ROUNDS = 8, 2
REGION_SHARE = 1 / 28
"""Of the longer side: by so much the map of what is odd is smoothed, so that regions are replaced and not specks."""


def search_image(judge: Judge, seen: Tensor) -> Iterator[Progress]:
    """Slices of the search for the normal image nearest to `seen` `(channels, height, width)`."""
    search = ImageSearch(judge, seen)
    yield from search.look()
    for phase in (search.mend, search.as_another_image):
        if not search.found:
            yield from phase()
    if search.found:
        yield from search.narrow()
        yield from search.take_back(search.changed_squares, rounds=TAKING_BACK_ROUNDS)


class ImageSearch(Walk):
    """Images `(channels, height, width)` of whole numbers."""

    def __init__(self, judge: Judge, seen: Tensor) -> None:
        super().__init__(judge, seen, batch=min(max(BATCH_VALUES // seen.numel(), LEAST_IMAGES), MOST_IMAGES))
        schema = judge.scorer.schema
        assert isinstance(schema, ImageSchema)
        self.largest = 2**schema.bits - 1
        self.member = next(judge.scorer.detector.each())
        self.codes = _normal_codes(judge.scorer, self.member)
        self.sigma = max(1.0, REGION_SHARE * max(seen.shape[1:]))

    def mend(self) -> Iterator[Progress]:
        """Replace the oddest regions by what the model expects; expect anew from the mended image, and so on.

        In later rounds the code goes towards the nearest normal one. What a decoder draws is blurred, which is odd in
        itself where normal images have edges, so it is tried with the grey levels of the image seen, too.
        """
        shares = torch.logspace(math.log2(SMALLEST_SHARE), 0, SHARES, base=2)
        mended = self.seen[None]
        for way in WAYS:
            expected = torch.cat([self._expected(part, way) for part in mended.split(self.batch)])
            regions = self._oddest(expected, shares)
            yield self.progress()
            levels = self._with_levels_seen(expected)
            for drawn in (levels, expected):
                mended = self._pixels(drawn.where(regions, self.seen))
                for part in mended.split(self.batch):
                    yield self._consider(self.judge(part))
                    if self.found:
                        return

    def as_another_image(self) -> Iterator[Progress]:
        """Take the nearest golden image that is normal."""
        golden = self.judge.scorer.golden
        order = (golden.double() - self.seen).abs().flatten(1).mean(1).argsort(stable=True)
        for part in golden[order].split(self.batch):
            yield self._consider(self.judge(part))
            if self.found:
                return

    def narrow(self) -> Iterator[Progress]:
        """Replace less and less, those pixels first that differ most, while the image stays normal."""
        low, high, target = 0.0, 1.0, self.x
        same = (target == self.seen).all(0)
        gap = smoothed((target.float() - self.seen).abs().mean(0)[None], self.sigma).masked_fill(same, -1.0)
        rank, differing = _falling(gap), int((~same).sum())
        for _ in range(NARROWING_ROUNDS):
            shares = torch.linspace(low, high, self.batch + 2)[1:-1]
            counts = (shares * differing).round().view(-1, 1, 1, 1)
            judged = self.judge(target.where(rank < counts, self.seen))
            place = judged.first_normal()
            if place is None:
                low = float(shares[-1])
            else:
                low, high = float(shares[place - 1]) if place else low, float(shares[place])
            yield self.progress() if place is None else self.take(judged, place)

    def changed_squares(self) -> Tensor:
        """Squares of `SQUARES` a side in which the image differs from the one seen, `(squares, 1, height, width)`."""
        height, width = self.seen.shape[1:]
        down, across = (torch.arange(side) * SQUARES // side for side in (height, width))
        label = down[:, None] * SQUARES + across
        changed = label[(self.x != self.seen).any(0)].unique()
        squares: Tensor = label == changed.view(-1, 1, 1)
        return squares[:, None]

    def _expected(self, x: Tensor, way: float) -> Tensor:
        """Grey levels of the reconstructions of images `(n, *event)` whose codes go a `way` to the nearest normal."""
        observed = self.member.observe(x.to(self.judge.scorer.device))
        if way:
            own = codes(observed)
            normal = self.codes[torch.cdist(own, self.codes).argmin(1)]
            mu = torch.lerp(own, normal, way).unflatten(1, (self.member.spec.nets, -1)).transpose(0, 1)
            observed = replace(observed, posterior=replace(observed.posterior, mu=mu))
        levels = self.member.view.inverse(observed.terms.prediction.mean(0))
        assert levels is not None
        return levels.cpu()

    def _oddest(self, expected: Tensor, shares: Tensor) -> Tensor:
        """Where the image seen differs most from what is expected `(n, *event)`: `(shares, 1, height, width)`."""
        rank = _falling(smoothed((self.seen - expected).abs().mean(1), self.sigma))
        return (rank < (shares * rank[0].numel()).round().view(-1, 1, 1))[:, None]

    def _with_levels_seen(self, expected: Tensor) -> Tensor:
        """Images `(n, *event)` with the grey levels of the image seen: a channel's darkest pixel has its darkest."""
        levels = self.seen.flatten(1).to(expected.dtype).sort(dim=1).values.expand(len(expected), -1, -1)
        order = expected.flatten(2).argsort(dim=2, stable=True).argsort(dim=2)
        return levels.gather(2, order).view_as(expected)

    def _pixels(self, levels: Tensor) -> Tensor:
        return levels.round().clamp(0, self.largest).to(self.seen.dtype)

    def _consider(self, judged: Judged) -> Progress:
        place = judged.first_normal()
        if place is None and judged.score.min() >= self.score:
            return self.progress()
        return self.take(judged, judged.best() if place is None else place)


def _falling(maps: Tensor) -> Tensor:
    """The rank of each pixel of maps `(n, height, width)`, the largest first."""
    order = maps.flatten(1).argsort(dim=1, descending=True, stable=True)
    return order.argsort(dim=1).view_as(maps)


def _normal_codes(scorer: Scorer, member: Member) -> Tensor:
    """Codes of training images `(m, nets * latent)` where the detector keeps them, else of the golden ones."""
    kept = [score.codes for score in member.scores if isinstance(score, LatentNeighbours)]
    return kept[0] if kept else codes(member.observe(scorer.golden.to(scorer.device)))
