"""The nearest normal row: the fewest columns to change, and each by as little as will do."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from elbound.explain.counterfactual.domain import Domain
from elbound.explain.counterfactual.judge import Judge, Judged
from elbound.explain.counterfactual.walk import Progress, Walk, growing_counts
from elbound.explain.rows import explain_rows

BATCH_CELLS, LEAST_ROWS, MOST_ROWS = 8192, 8, 32
"""Candidates of a slice: so many cells, but not fewer or more rows."""
GREEDY_ROUNDS, GREEDY_COLUMNS, DONORS = 8, 8, 4
SPREADING_ROUNDS, DONOR_PATHS = 4, 3
PRUNING_ROUNDS = 8
DRAWN_COLUMNS, DRAWING_ROUNDS = 8, 2
FURTHEST = 100.0
"""Standard deviations: the way back to a wilder value than this begins here."""


def search_row(judge: Judge, seen: Tensor) -> Iterator[Progress]:
    """Slices of the search for the normal row nearest to `seen` `(d,)`; each yields the row as it is by then."""
    search = RowSearch(judge, seen)
    yield from search.look()
    if not bool(search.may_change.any()):
        return
    for phase in (search.one_by_one, search.as_expected, search.as_another_row):
        if not search.found:
            yield from phase()
    if search.found:
        for phase in (search.prune, search.draw_back, search.prune):
            yield from phase()


class RowSearch(Walk):
    """Rows `(d,)`. Proposals `(n, d)` are NaN where a cell is to stay as it is."""

    def __init__(self, judge: Judge, seen: Tensor) -> None:
        super().__init__(judge, seen, batch=min(max(BATCH_CELLS // len(seen), LEAST_ROWS), MOST_ROWS))
        self.domain = Domain.of(judge.scorer)
        self.may_change = self.domain.may_change & (~seen.isnan() | self.domain.gaps_are_odd)

    def one_by_one(self) -> Iterator[Progress]:
        """Change the column that lowers the score most, again and again, until the row is normal.

        A column's candidates are what the model expects from the other columns alone (its own cell is a gap then),
        and, where that helps most, the values of the nearest training rows. A column that was changed among odd ones
        may change once more.
        """
        donors = self.domain.nearest_rows(self.seen, DONORS)
        for _ in range(GREEDY_ROUNDS):
            columns = self._suspicious()
            own = self._only(columns)
            expected = self._expected(self.x.masked_fill(own, torch.nan))
            yield self.progress()
            judged = self._try(expected.where(own, torch.nan), self.x)
            if not judged.is_normal.any():
                yield self.progress()
                helpful = own[judged.score.argsort(kind="stable")[:GREEDY_COLUMNS]].repeat_interleave(DONORS, 0)
                donated = self._try(donors.repeat(len(helpful) // DONORS, 1).where(helpful, torch.nan), self.x)
                judged = min(judged, donated, key=lambda one: one.score.min())
            place = self._best(judged)
            if judged.score[place] >= self.score:
                return
            yield self.take(judged, place)
            if self.found:
                return

    def as_expected(self) -> Iterator[Progress]:
        """Give more and more columns, by falling share, the values that the model expects; then expect anew.

        What the model expects of a row with many odd cells is odd itself, and less so with each round (Rezende,
        Mohamed and Wierstra, Stochastic Backpropagation and Approximate Inference in Deep Generative Models, 2014,
        appendix F, do so for missing data).
        """
        for _ in range(SPREADING_ROUNDS):
            shares = explain_rows(self.judge.scorer, self.x[None])
            order = np.argsort(-shares.shares[0] - 1e30 * self._changed().numpy(), kind="stable")
            yield self.progress()
            growing = self._first(torch.from_numpy(order[self.may_change[order].numpy()]))
            judged = self._try(torch.from_numpy(shares.expected).where(growing, torch.nan), self.seen)
            place = judged.first_normal()
            if place is None and judged.score.min() >= self.score:
                return
            yield self.take(judged, judged.best() if place is None else place)
            if self.found:
                return

    def as_another_row(self) -> Iterator[Progress]:
        """Take over the columns of a near training row that is normal, those first that differ most."""
        rows = self.domain.nearest_rows(self.seen, self.batch)
        whole = self._try(rows, self.seen)
        yield self.progress()
        fewest = len(self.seen) + 1
        for place in np.flatnonzero(whole.is_normal)[:DONOR_PATHS]:
            distance = self._distance(whole.x[place])
            order = distance.argsort(descending=True, stable=True)[: int((distance > 0).sum())]
            judged = self._try(whole.x[place].where(self._first(order), torch.nan), self.seen)
            normal = judged.first_normal()
            if normal is not None and (count := int(_differ(judged.x[normal], self.seen).sum())) < fewest:
                fewest = count
                self.take(judged, normal)
            yield self.progress()

    def prune(self) -> Iterator[Progress]:
        """Take back what the row does not need to be normal."""
        yield from self.take_back(lambda: self._only(self._changed().nonzero()[:, 0]), rounds=PRUNING_ROUNDS)

    def draw_back(self) -> Iterator[Progress]:
        """Draw each changed number towards the value that was seen, as far as the row stays normal."""
        numbers = self._changed() & (self.domain.levels == 0) & ~self.seen.isnan()
        order = self._distance(self.x).masked_fill(~numbers, -1).argsort(descending=True, stable=True)
        for column in order[: min(DRAWN_COLUMNS, int(numbers.sum()))].tolist():
            reach = FURTHEST * float(self.domain.scale[column])
            far = float(self.seen[column].clamp(self.x[column] - reach, self.x[column] + reach))
            for _ in range(DRAWING_ROUNDS):
                values = torch.linspace(far, float(self.x[column]), self.batch + 1, dtype=torch.float64)[:-1]
                proposal = torch.full((len(values), len(self.seen)), torch.nan, dtype=torch.float64)
                proposal[:, column] = values
                judged = self._try(proposal, self.x)
                place = judged.first_normal()
                far = float(values[-1 if place is None else max(place - 1, 0)])
                yield self.progress() if place is None else self.take(judged, place)

    def _suspicious(self) -> Tensor:
        """Columns that may change, the most suspicious ones first, at most a batch of them."""
        columns = self.may_change.nonzero()[:, 0]
        if len(columns) <= self.batch:
            return columns
        share = torch.from_numpy(explain_rows(self.judge.scorer, self.x[None]).shares[0])
        share[self.x.isnan() | self._changed()] = torch.inf
        return columns[share[columns].argsort(descending=True, stable=True)[: self.batch]]

    def _expected(self, x: Tensor) -> Tensor:
        return torch.from_numpy(explain_rows(self.judge.scorer, x).expected)

    def _only(self, columns: Tensor) -> Tensor:
        """One row for each of `columns`, true there alone, `(columns, d)`."""
        return columns[:, None] == torch.arange(len(self.seen))

    def _first(self, order: Tensor) -> Tensor:
        """Rows `(n, d)` that are true for more and more of the columns of `order`, all of them in the last."""
        counts = growing_counts(len(order), self.batch)
        rank = torch.full((len(self.seen),), len(order)).scatter(0, order, torch.arange(len(order)))
        return rank < torch.from_numpy(counts)[:, None]

    def _changed(self) -> Tensor:
        return _differ(self.x, self.seen)

    def _distance(self, x: Tensor) -> Tensor:
        """How far each cell of `x` `(d,)` lies from the one seen, in standard deviations; 1 for levels and gaps."""
        far = ((x - self.seen) / self.domain.scale).abs()
        return torch.where((self.domain.levels > 0) | far.isnan(), _differ(x, self.seen).double(), far)

    def _try(self, proposals: Tensor, base: Tensor) -> Judged:
        """Proposals `(n, d)` for the row `base`, judged; one that changes nothing scores infinitely high."""
        values = self.domain.valid(proposals)
        events = base.where(values.isnan() | ~self.may_change, values)
        judged = self.judge(events)
        idle = ~_differ(events, base).any(1).numpy()
        return judged._replace(score=np.where(idle, np.inf, judged.score), is_normal=judged.is_normal & ~idle)

    def _best(self, judged: Judged) -> int:
        """The place of the normal row with the fewest changes, or else of the lowest score."""
        changes = _differ(judged.x, self.seen).sum(1).numpy()
        return int(np.lexsort((judged.score, changes * judged.is_normal, ~judged.is_normal))[0])


def _differ(x: Tensor, y: Tensor) -> Tensor:
    """Where cells are not the same; two gaps are."""
    return (x != y) & ~(x.isnan() & y.isnan())
