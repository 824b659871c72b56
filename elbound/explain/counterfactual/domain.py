"""Which values a column of a row may take, and rows that training saw."""

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from elbound.detector import Member
from elbound.schema import TableSchema
from elbound.scorer import Scorer
from elbound.scores.neighbours import Neighbours
from elbound.views.table import StandardView

SHOWN_DIGITS = 4
"""Decimal digits of a column's scale that a proposed number keeps: 0.4231, not 0.42309999465942383."""
MAX_DECIMALS = 22
"""Powers of ten are exact in float64 up to this one."""
WHOLE_TOLERANCE = 1e-6
LARGEST_DIFFERENCE = 3.0
"""Standard deviations a column may count in the distance to a training row: the odd cells must not choose it."""

_DOMAINS: WeakKeyDictionary[Scorer, "Domain"] = WeakKeyDictionary()
"""That of each loaded scorer, learned once."""


@dataclass(frozen=True)
class Domain:
    """What is known of the columns; all tensors are on the CPU.

    `scale` `(d,)` is the training standard deviation of numbers and 1 of levels; `levels` `(d,)` is the count of known
    levels, 0 for numbers; `decimals` `(d,)` those that a number keeps, 0 where training's were whole; `typed` the
    values of numbers that took few; `may_change` `(d,)` is False for the column that says by which group a row is
    judged. `rows` `(m, d)` are training rows where the detector keeps any and golden ones, NaN where a value is not
    known; `points` their coordinates.
    """

    view: StandardView
    scale: Tensor
    levels: Tensor
    decimals: Tensor
    typed: dict[int, Tensor]
    may_change: Tensor
    gaps_are_odd: Tensor
    rows: Tensor
    points: Tensor

    @classmethod
    def of(cls, scorer: Scorer) -> "Domain":
        """The domain of a scorer of tables."""
        if scorer not in _DOMAINS:
            _DOMAINS[scorer] = _learn(scorer)
        return _DOMAINS[scorer]

    def valid(self, x: Tensor) -> Tensor:
        """`x` `(n, d)` with each value as its column has them, and NaN where there is no such value."""
        power = 10.0 ** self.decimals.abs()
        rounded = torch.where(self.decimals >= 0, (x * power).round() / power, (x / power).round() * power)
        x = torch.where(self.decimals.abs() <= MAX_DECIMALS, rounded, x) + 0.0  # no -0
        for column, values in self.typed.items():
            nearest = values[(x[:, column, None] - values).abs().nan_to_num(0.0).argmin(1)]
            x[:, column] = nearest.masked_fill(x[:, column].isnan(), torch.nan)
        level = self.levels > 0
        return x.masked_fill(level & ((x < 0) | (x >= self.levels)) | x.isinf(), torch.nan)

    def nearest_rows(self, row: Tensor, count: int) -> Tensor:
        """The `count` rows nearest to `row` `(d,)`, nearest first, NaN where a value is not known."""
        point = self.view.coordinates(row[None].to(self.view.mean.device)).cpu()
        distance = (self.points - point).abs().clamp(max=LARGEST_DIFFERENCE).sum(1)
        return self.rows[distance.argsort(stable=True)[:count]]


def _learn(scorer: Scorer) -> Domain:
    schema, member = scorer.schema, next(scorer.detector.each())
    assert isinstance(schema, TableSchema)
    assert isinstance(member.view, StandardView)
    view, device = member.view, member.noise.device
    points = view.coordinates(scorer.golden.to(device)).cpu()
    remembered = _remembered(member, points.shape[1])
    kept = view.at_coordinates(remembered.to(device)).cpu()
    rows = torch.cat([kept, scorer.golden])
    levels = torch.tensor([{"boolean": 2, "categorical": len(c.levels)}.get(c.kind, 0) for c in schema.columns])
    scale = view.scale.cpu()
    whole = _are_whole(kept.masked_fill(kept == view.mean.cpu(), torch.nan), scorer.golden, scale) | (levels > 0)
    decimals = torch.where(whole, 0.0, SHOWN_DIGITS - scale.log10().floor())
    typed = {
        column: torch.tensor(values, dtype=torch.float64)
        for each in scorer.detector.each()
        for column, values in each.spec.typed.items()
    }
    may_change = torch.tensor([name != schema.group_by for name in schema.names])
    gaps_are_odd = torch.tensor([not column.nullable for column in schema.columns])
    domain = Domain(
        view, scale, levels, decimals, typed, may_change, gaps_are_odd, rows, torch.cat([remembered, points])
    )
    rows[: len(kept)] = domain.valid(kept)
    return domain


def _remembered(member: Member, size: int) -> Tensor:
    """Coordinates of training rows, `(m, size)`: none where the detector has no bank."""
    kept = [score.points.cpu() for score in member.scores if isinstance(score, Neighbours)]
    return kept[0] if kept else torch.empty(0, size)


def _are_whole(kept: Tensor, golden: Tensor, scale: Tensor) -> Tensor:
    """Which columns had whole numbers alone, `(d,)`, NaN apart; what float32 cannot tell of `kept`, `golden` tells."""
    tolerance = WHOLE_TOLERANCE * (scale + kept.abs())
    off = ((kept - kept.round()).abs() > tolerance) & (tolerance < 0.05)
    exact = golden.isnan() | (golden == golden.round())
    return exact.all(0) & ~off.any(0)
