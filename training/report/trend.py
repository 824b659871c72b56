"""Whether the data change along the file: a cheap model of its first part meets its last one; columns that grow."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from elbound.calibration.conformal import ConformalCalibrator, spread_of
from elbound.evaluation import allowed_alarms, knn_yardstick
from elbound.fit.defaults import bank_size
from elbound.schema import TableSchema
from elbound.views.table import StandardView
from training.report.facts import ColumnChange, NotChecked, RateCheck, TrendFacts

FIRST_SHARE, LAST_SHARE = 0.8, 0.1
MOST_ROWS = 2_000
"""Rows that train, that calibrate and that are counted, at most; so the check takes about a second."""
MOST_RANKED, RANKED_CELLS = 20_000, 4_000_000
LEAST_LATER = 10
LEAST_RARER = 20
"""Rows of a column without its commonest value: with fewer, ranks have no normal law."""
FALSE_ALARMS, FALSE_COLUMNS = 0.0005, 0.0005
"""How often rows in random order are reported, by the count of alarms and over all columns."""
LEAST_CORRELATION = 0.2
"""With the place in the file: a line that rises by 0.7 of the noise's standard deviation from first to last row."""
STRETCHES = 10


def follow_file(
    x: Tensor, schema: TableSchema, groups: Sequence[object] | None, *, alpha: float, seed: int
) -> TrendFacts | NotChecked:
    """Alarms on the last tenth of rows `(n, d)` by a model of the first 80 %, and the columns that move.

    The model is the distance to the 5th nearest of some rows, with a threshold from other rows, both drawn from the
    first 80 %. Where the order of the rows means nothing, the later rows are exchangeable with those that calibrate,
    and the count of alarms is beta-binomial, or smaller with ties: it is judged from above alone. Where `alpha` does
    not resolve on so few rows, the smallest rate that does is taken.

    With `groups` (one label a row) one row of each counts, at the mean place of its group: groups are exchangeable
    where their rows are not. At most `MOST_ROWS` train, calibrate and are counted. The same rows and seed give the
    same answer.
    """
    draw = np.random.default_rng(seed)
    order = np.arange(len(x)) if groups is None else one_row_each(groups, draw)
    n = len(order)
    first, last = order[: int(FIRST_SHARE * n)], order[n - int(LAST_SHARE * n) :]
    if len(last) < LEAST_LATER:
        kind = "rows" if groups is None else "groups"
        return NotChecked(f"the last tenth of {n} {kind} is too few to count alarms; it takes {10 * LEAST_LATER}")
    shuffled = draw.permutation(first)
    bank, calibration = np.array_split(shuffled, 2)
    bank, calibration = bank[: bank_size(min(len(bank), MOST_ROWS), x.shape[1])], calibration[:MOST_ROWS]
    later = np.sort(draw.permutation(last)[:MOST_ROWS])
    check = _alarms_ahead(x, schema, bank, calibration, later, alpha)
    places = np.sort(draw.permutation(n)[: max(1_000, min(MOST_RANKED, RANKED_CELLS // x.shape[1]))])
    columns = column_changes(x[order[places]], schema, last_from=n - len(last), places=places)
    growing = sorted((one for one in columns if one.p_value is not None), key=lambda one: -abs(one.correlation))
    moved = max(columns, key=lambda one: abs(one.shift), default=None)
    return TrendFacts(
        check=check,
        trained=len(bank),
        calibrated=len(calibration),
        growing=[one for one in growing if grows(one)],
        moved=moved,
    )


def grows(column: ColumnChange) -> bool:
    """Whether a column rises or falls along the file: surely, and by enough to matter to a model."""
    return (
        column.p_value is not None and column.p_value < FALSE_COLUMNS and abs(column.correlation) >= LEAST_CORRELATION
    )


def one_row_each(groups: Sequence[object], draw: np.random.Generator) -> np.ndarray:
    """The place of one row of each group, drawn; the groups by the mean place of their rows."""
    member = np.unique([str(group) for group in groups], return_inverse=True)[1]
    shuffled = draw.permutation(len(member))
    row_of = shuffled[np.unique(member[shuffled], return_index=True)[1]]
    middle = np.bincount(member, weights=np.arange(len(member))) / np.bincount(member)
    rows: np.ndarray = row_of[np.argsort(middle, kind="stable")]
    return rows


def column_changes(x: Tensor, schema: TableSchema, *, last_from: int, places: np.ndarray) -> list[ColumnChange]:
    """How each column of numbers, times or booleans of rows `(m, d)` moves; `places` `(m,)` are theirs in the file.

    Spearman's rank correlation r with the place. Where the order means nothing, r has mean 0 and variance
    1 / (m - 1) exactly, with ties too (Hoeffding, A combinatorial central limit theorem, 1951), and is normal in
    good approximation; the p-value has two sides and is multiplied by the columns (Bonferroni). Rows that resemble
    their neighbours in time wander without a trend, so the mean ranks of ten stretches must rise or fall too: the
    larger p-value counts, of the rows or of the stretches (Pearson's correlation, a t-test). None where nearly all
    values are the same.
    """
    from scipy.stats import norm, pearsonr, rankdata

    used = [i for i, column in enumerate(schema.columns) if column.kind != "categorical"]
    late, found = places >= last_from, []
    for i in used:
        values = x[:, i].double().numpy()
        seen = np.isfinite(values)
        shift = _shift(values[seen & ~late], values[seen & late])
        correlation, p_value = 0.0, None
        _, counts = np.unique(values[seen], return_counts=True)
        if counts.sum() - counts.max(initial=0) >= LEAST_RARER:
            ranks = rankdata(values[seen])
            correlation = float(np.corrcoef(ranks, np.arange(len(ranks)))[0, 1])
            by_row = min(1.0, len(used) * 2 * float(norm.sf(abs(correlation) * np.sqrt(len(ranks) - 1))))
            means = [stretch.mean() for stretch in np.array_split(ranks, STRETCHES)]
            p_value = max(by_row, float(pearsonr(means, np.arange(STRETCHES)).pvalue)) if np.ptp(means) > 0 else 1.0
        found.append(ColumnChange(schema.columns[i].name, shift, correlation, p_value))
    return found


def _shift(before: np.ndarray, after: np.ndarray) -> float:
    """Mean of the last tenth minus mean of the rest, in standard deviations of the rest; 0 where that has none."""
    if len(before) < 2 or len(after) == 0 or not before.std() > 0:
        return 0.0
    return float((after.mean() - before.mean()) / before.std())


def _alarms_ahead(
    x: Tensor, schema: TableSchema, bank: np.ndarray, calibration: np.ndarray, later: np.ndarray, alpha: float
) -> RateCheck:
    view = StandardView(schema, {}).fit(x[bank])

    def coordinates(rows: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            found: np.ndarray = view.coordinates(x[rows]).numpy()
        return found

    distances = knn_yardstick(coordinates(bank))
    normal, ahead = distances(coordinates(calibration)), distances(coordinates(later))
    calibrator = ConformalCalibrator(normal, spread=spread_of(normal))
    alpha = max(alpha, calibrator.smallest_alpha)
    alarms = int(calibrator.is_anomaly(ahead, alpha).sum())
    high = allowed_alarms(len(later), calibrator.rank(alpha), calibrator.n, 1 - 2 * FALSE_ALARMS)[1]
    return RateCheck(alarms, len(later), 0, high, "the last tenth of the file", alpha)
