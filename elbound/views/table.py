"""Views of a row: its numbers on their scale, or straightened, and numbers of few values as what they are."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from elbound.schema import TableSchema
from elbound.torch_graph import gaps_as_zero, places
from elbound.views.base import View

MAX_DEVIATION = 1e5
"""Standardised values are clipped here, in float64, before anything is squared in float32."""

MAX_COORDINATE = 1e3
"""Coordinates of a search of neighbours are clipped here: its squares are summed in float32."""

ROUNDING = 1e-14
"""Relative spread below which the cells of a column differ by rounding of float64 alone."""

SINGLE = 2.0**-23
"""A unit in the last place of float32: a cell that went through float32 is still the same value."""

LEAST_DEVIATION = 1.0
"""Scales by which any other value than that of a constant column is off: as much as 1 where training saw only 0."""

FEW_VALUES = 12
KNOTS = 400


class StandardView(View):
    """Numbers minus their mean over their standard deviation; booleans and levels as they are.

    `typed` columns are numbers of few values, which the model sees as the place of the value among `typed` and as
    `len(typed)` for every other value. A typed column of one value is constant and stays a number: its scale is 1
    (the value's own size where that is below 1), and every other value lies at least `LEAST_DEVIATION` away.
    """

    numeric: Tensor
    mean: Tensor
    scale: Tensor
    hot_column: Tensor
    hot_level: Tensor
    constant: Tensor

    def __init__(self, schema: TableSchema, typed: Mapping[int, tuple[float, ...]]) -> None:
        super().__init__()
        numeric = torch.tensor([column.kind in ("numeric", "datetime") for column in schema.columns])
        self.register_buffer("numeric", numeric, persistent=False)
        self.register_buffer("mean", torch.zeros(len(numeric), dtype=torch.float64))
        self.register_buffer("scale", torch.ones(len(numeric), dtype=torch.float64))
        hot = [(i, j) for i, c in enumerate(schema.columns) if c.kind == "categorical" for j in range(len(c.levels))]
        self.register_buffer("hot_column", torch.tensor([i for i, _ in hot], dtype=torch.long), persistent=False)
        self.register_buffer("hot_level", torch.tensor([j for _, j in hot], dtype=torch.float64), persistent=False)
        self.plain = [i for i, column in enumerate(schema.columns) if column.kind != "categorical"]
        several = {column: values for column, values in typed.items() if len(values) > 1}
        self.typed = TypedValues(several) if several else None
        constant = [column for column, values in typed.items() if len(values) == 1]
        self.register_buffer("constant", torch.tensor(constant, dtype=torch.long), persistent=False)

    def fit(self, x: Tensor) -> "StandardView":
        mean, scale = column_scales(x)
        self.mean.copy_(torch.where(self.numeric, mean, 0.0))
        self.scale.copy_(torch.where(self.numeric, scale, 1.0))
        return self

    def forward(self, x: Tensor) -> Tensor:
        numbers = self.numbers(x)
        if self.typed is not None:
            numbers[:, self.typed.columns] = self.typed(x)
        return numbers.float()

    def numbers(self, x: Tensor) -> Tensor:
        """Every column on its scale, float64, typed ones too."""
        numbers = ((x - self.mean) / self.scale).clamp(-MAX_DEVIATION, MAX_DEVIATION)
        if len(self.constant):
            numbers[:, self.constant] = self._off_constant(x[:, self.constant], numbers[:, self.constant])
        return numbers

    def _off_constant(self, cells: Tensor, numbers: Tensor) -> Tensor:
        """Deviations `(n, constants)`: 0 for the value itself, at least `LEAST_DEVIATION` for every other one."""
        value = self.mean[self.constant]
        same = (cells - value).abs() <= SINGLE * value.abs()
        away = torch.where(numbers.abs() < LEAST_DEVIATION, LEAST_DEVIATION * torch.sign(cells - value), numbers)
        return torch.where(same, 0.0, away)

    def inverse(self, seen: Tensor) -> Tensor:
        """From what a model sees, `(n, d)`, to units of the data, float64 `(n, d)`; NaN stays.

        A typed column's place for every other value becomes the largest of its values.
        """
        found = self.unscaled(seen.double())
        if self.typed is not None:
            found[:, self.typed.columns] = self.typed.inverse(seen)
        return found

    def unscaled(self, numbers: Tensor) -> Tensor:
        """The inverse of `numbers` within its clip."""
        return numbers * self.scale + self.mean

    def coordinates(self, x: Tensor) -> Tensor:
        """Numbers on their scale, clipped at `MAX_COORDINATE`, 0 for a gap; levels one-hot, 1 apart."""
        numbers = gaps_as_zero(self.numbers(x)).clamp(-MAX_COORDINATE, MAX_COORDINATE)
        if len(self.hot_column) == 0:
            return numbers.float()
        hot = (x[:, self.hot_column] == self.hot_level) * math.sqrt(0.5)
        return torch.cat([numbers[:, self.plain], hot], 1).float()

    def by_feature(self, values: Tensor) -> Tensor:
        columns = torch.cat([torch.tensor(self.plain, device=values.device), self.hot_column])
        return values.new_zeros(len(values), len(self.numeric)).index_add(1, columns, values)

    def at_coordinates(self, points: Tensor) -> Tensor:
        """Rows `(n, d)` in units of the data: a gap is the mean, False or the level `other`, as it is among points."""
        plain, hot = points.double().split([len(self.plain), len(self.hot_level)], 1)
        numbers = plain.new_zeros(len(points), len(self.numeric))
        numbers[:, self.plain] = plain
        found = self.unscaled(numbers)
        other = torch.bincount(self.hot_column, minlength=len(self.numeric)).double()
        return (found + other).index_add(1, self.hot_column, (hot > 0) * (self.hot_level - other[self.hot_column]))


class NormalView(StandardView):
    """As `StandardView`, but a heavy-tailed or skewed column goes through its own distribution to a normal one.

    A column with more than `FEW_VALUES` values whose |skewness| is above 2 or excess kurtosis above 3 is
    mapped by its mid-rank distribution function, at most `KNOTS` knots, to normal quantiles; beyond the
    outermost knots the map goes on as a line. What one view hides behind a long tail the other one shows.
    """

    mapped: Tensor
    knots: Tensor
    quantiles: Tensor

    def __init__(self, schema: TableSchema, typed: Mapping[int, tuple[float, ...]]) -> None:
        super().__init__(schema, typed)
        d = len(schema.columns)
        self.register_buffer("mapped", torch.zeros(d, dtype=torch.bool))
        self.register_buffer("knots", torch.zeros(d, KNOTS, dtype=torch.float64))
        self.register_buffer("quantiles", torch.zeros(d, KNOTS, dtype=torch.float64))
        self.curves: Curves | None = None

    def fit(self, x: Tensor) -> "NormalView":
        self.curves = None
        super().fit(x)
        for j, column in enumerate(x.T):
            seen = column[~torch.isnan(column)]
            if bool(self.numeric[j]) and is_long_tailed(seen):
                knots, quantiles = normal_knots(seen)
                self.mapped[j] = True
                self.knots[j], self.quantiles[j] = knots, quantiles
        return self

    def numbers(self, x: Tensor) -> Tensor:
        numbers, curves = super().numbers(x), self._curves()
        if len(curves.columns):
            numbers[:, curves.columns] = curves(x).T.clamp(-MAX_DEVIATION, MAX_DEVIATION)
        return numbers

    def unscaled(self, numbers: Tensor) -> Tensor:
        found, curves = super().unscaled(numbers), self._curves()
        if len(curves.columns):
            found[:, curves.columns] = curves.inverse(numbers).T
        return found

    def train(self, mode: bool = True) -> "NormalView":
        """Knots may be loaded between modes: what was derived from them is derived anew."""
        self.curves = None
        super().train(mode)
        return self

    def _curves(self) -> "Curves":
        if self.curves is None or self.curves.knots.device != self.knots.device:
            with torch.inference_mode(False), torch.no_grad():  # kept beyond the call
                self.curves = Curves(self.mapped.nonzero()[:, 0], self.knots, self.quantiles)
        return self.curves


class Curves:
    """Piecewise linear maps of some `columns` `(columns,)` of a table, by their rows of knots `(d, KNOTS)`.

    Beyond the ends a map goes on with the slope of the outer tenth of the knots' range of quantiles.
    """

    def __init__(self, columns: Tensor, knots: Tensor, quantiles: Tensor) -> None:
        self.columns = columns
        self.knots, self.quantiles = knots[columns], quantiles[columns]
        self.last = places(self.knots, self.knots[:, -1:].contiguous())  # the first place of the largest knot
        self.below = _slope(self.knots, self.quantiles, 0, self.last)
        self.above = _slope(self.knots, self.quantiles, 1, self.last)

    def __call__(self, x: Tensor) -> Tensor:
        """Quantiles `(columns, n)` of events `(n, d)`; NaN stays."""
        return self._along(x, self.knots, self.quantiles, self.below, self.above)

    def inverse(self, numbers: Tensor) -> Tensor:
        """Values `(columns, n)` of numbers `(n, d)` on the scale of quantiles; NaN stays."""
        return self._along(numbers, self.quantiles, self.knots, 1 / self.below, 1 / self.above)

    def _along(self, x: Tensor, knots: Tensor, quantiles: Tensor, slope_below: Tensor, slope_above: Tensor) -> Tensor:
        cells = x[:, self.columns].T.contiguous()
        right = torch.minimum(places(knots, cells).clamp(min=1), self.last)
        x0, x1 = knots.gather(1, right - 1), knots.gather(1, right)
        z0, z1 = quantiles.gather(1, right - 1), quantiles.gather(1, right)
        inside = z0 + (z1 - z0) * (cells - x0) / (x1 - x0)
        low, high = knots[:, :1], knots[:, -1:]
        below = quantiles[:, :1] + (cells - low) * slope_below
        above = quantiles[:, -1:] + (cells - high) * slope_above
        return torch.where(cells < low, below, torch.where(cells > high, above, inside))


class TypedValues(nn.Module):
    """The place of a number among the values that training saw, one row of values a column."""

    columns: Tensor
    values: Tensor
    count: Tensor

    def __init__(self, typed: Mapping[int, tuple[float, ...]]) -> None:
        super().__init__()
        width = max(len(values) for values in typed.values())
        padded = [[*values, *[math.inf] * (width - len(values))] for values in typed.values()]
        self.register_buffer("columns", torch.tensor(list(typed)), persistent=False)
        self.register_buffer("values", torch.tensor(padded, dtype=torch.float64), persistent=False)
        self.register_buffer("count", torch.tensor([len(v) for v in typed.values()]), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Places `(n, columns)` of events `(n, d)`; NaN stays."""
        cells = x[:, self.columns].T.contiguous()  # (columns, n)
        place = places(self.values, cells).clamp(max=self.values.shape[1] - 1)
        known = self.values.gather(1, place) == cells
        found = torch.where(known, place, self.count[:, None]).double()
        return found.masked_fill(torch.isnan(cells), torch.nan).T

    def inverse(self, seen: Tensor) -> Tensor:
        """Values `(n, columns)` of places among `(n, d)`; NaN stays, the place of any other value is the largest."""
        cells = seen[:, self.columns].T
        place = torch.minimum(torch.nan_to_num(cells).long(), self.count[:, None] - 1)
        return self.values.gather(1, place).masked_fill(torch.isnan(cells), torch.nan).T


def column_scales(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and scale of each column of `(n, d)`, over the cells that are there."""
    seen = ~torch.isnan(x)
    count = seen.sum(0).clamp(min=1)
    largest = torch.nan_to_num(x).abs().amax(0).clamp(min=1e-300)  # squares of 1e300 would overflow
    unit = torch.nan_to_num(x) / largest
    mean = unit.sum(0) / count
    spread = (((unit - mean).square() * seen).sum(0) / count).sqrt() * largest
    mean = mean * largest
    size = mean.abs()
    constant = spread <= ROUNDING * size.clamp(min=1e-300)
    own_size = torch.where((size > 1e-300) & (size < 1), size, torch.ones_like(size))
    return mean, torch.where(constant, own_size, spread)


def is_long_tailed(column: Tensor) -> bool:
    """More than `FEW_VALUES` values, and |skewness| above 2 or excess kurtosis above 3."""
    if len(column) == 0 or len(column.unique()) <= FEW_VALUES:
        return False
    mean, scale = (part[0] for part in column_scales(column[:, None]))
    z = (column - mean) / scale
    return bool(z.pow(3).mean().abs() > 2) or bool(z.pow(4).mean() - 3 > 3)


def normal_knots(column: Tensor) -> tuple[Tensor, Tensor]:
    """Values and normal quantiles of their mid-ranks, `(KNOTS,)` each, both rising; the last ones repeat."""
    values, counts = column.unique(return_counts=True)
    middle = (counts.cumsum(0) - 0.5 * counts) / len(column)
    if len(values) > KNOTS:
        wanted = torch.linspace(0, 1, KNOTS, dtype=torch.float64) * (len(column) - 1)
        place = torch.searchsorted(counts.cumsum(0).double(), wanted, right=True).clamp(max=len(values) - 1)
        place = torch.cat([place, torch.tensor([0, len(values) - 1])]).unique()
        values, middle = values[place], middle[place]
    if len(values) > KNOTS:
        raise AssertionError("more knots than places. This is a bug.")
    padding = KNOTS - len(values)
    values = torch.cat([values, values[-1:].expand(padding)])
    return values, torch.special.ndtri(torch.cat([middle, middle[-1:].expand(padding)]))


def _slope(knots: Tensor, quantiles: Tensor, end: int, last: Tensor) -> Tensor:
    """Rise over run between an end and the knot a tenth of the knots inward, `(columns, 1)`."""
    inward = (last // 10).clamp(min=1)
    at, other = (last, last - inward) if end else (torch.zeros_like(last), inward)
    rise = quantiles.gather(1, at) - quantiles.gather(1, other)
    return rise / (knots.gather(1, at) - knots.gather(1, other))
