"""Drift: a conformal test martingale that bets against the ranks of the scores that a model gives.

While nothing changes, calibration scores and all scores since are exchangeable, and the rank of each new score
among those before it, ties broken by a draw, is uniform and independent of the earlier ranks. A capital that bets
on any other law of the ranks is then a martingale that starts at 1 and passes c with probability at most 1 / c,
ever (Ville). Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, 2005; Vovk, Petej, Nouretdinov,
Ahlberg, Carlsson and Gammerman, Retrain or not retrain: conformal test martingales for change-point detection, 2021.
"""

import functools
import hashlib
import math
from collections.abc import Mapping
from statistics import NormalDist

import numpy as np

from elbound.calibration.conformal import ConformalCalibrator
from elbound.errors import DataError

LOG_THRESHOLD = math.log(100)
"""The log martingale passes this with probability at most 1 %, ever, while nothing changes."""
EPOCH = 50_000
"""Scores that are remembered, 400 kB; then a new epoch starts. Ranks among more of them tell little more."""
BINS = 100
"""Bets are constant on bins of the p-value, so that they are bounded: no item multiplies the capital by over 10."""
SHIFTS, SCALES = (1 / 4, -1 / 4, 1 / 2, -1 / 2, 1, -1, 0, 0), (1, 1, 1, 1, 1, 1, 3 / 2, 2 / 3)
"""What is bet on: scores rise or fall by so many of their standard deviations, spread, or gather."""
CHUNK = 250
"""Scores that are ranked at once: each is compared with all others of its chunk, counted in bytes."""
EARLIER = np.tri(CHUNK, k=-1, dtype=bool)


def _bets() -> np.ndarray:
    """log of each bet on each bin, `(bets, BINS)`: a density of p-values, averaged over the bin; its mean is 1.

    A bet is right where scores that were N(0, 1) are N(shift, scale²): then P(p <= q) = Phi((z_q + shift) / scale)
    with z_q the normal quantile. Ranks do not ask whether scores were normal.
    """
    normal = NormalDist()
    quantiles = [normal.inv_cdf(edge / BINS) for edge in range(1, BINS)]
    laws = [
        [0.0, *(normal.cdf((z + shift) / scale) for z in quantiles), 1.0]
        for shift, scale in zip(SHIFTS, SCALES, strict=True)
    ]
    log_bets: np.ndarray = np.log(np.diff(laws, axis=1) * BINS)
    return log_bets


LOG_BETS = _bets()


@functools.cache
def _starts() -> tuple[np.ndarray, np.ndarray]:
    """log of each bet's share that starts before item s of an epoch, `(EPOCH,)`, and that has not yet, `(EPOCH + 1,)`.

    Half starts at once, since the commonest change is that what comes is not like the calibration; the rest in
    shares of 1 / (s + 1), the same on every scale of time: to wait for item s costs log(23 (s + 1)) nats.
    """
    shares = 1 / np.arange(1, EPOCH + 1)
    shares /= 2 * shares.sum()
    shares[0] += 0.5
    waiting = np.append(np.cumsum(shares[::-1])[::-1], 0.0)
    with np.errstate(divide="ignore"):
        return np.log(shares / len(LOG_BETS)), np.log(waiting)


def follow_bets(gains: np.ndarray, log_weights: np.ndarray, first: int) -> tuple[np.ndarray, np.ndarray]:
    """log of the whole capital after each of m items, `(m,)`, and of each bet's after the last, `(bets,)`.

    `gains` are the log bets on items first, first + 1, ... of an epoch, `(bets, m)`; `log_weights` is each bet's
    capital before them. It grows as w_i = g_i (w_{i-1} + start_i): a running sum once divided by g_1 ... g_i.
    """
    log_starts, log_waiting = _starts()
    stop = first + gains.shape[1]
    grown = np.cumsum(gains, axis=1)
    begun = log_starts[first:stop] - (grown - gains)
    begun[:, 0] = np.logaddexp(begun[:, 0], log_weights)
    each = grown + np.logaddexp.accumulate(begun, axis=1)
    most = each.max(axis=0)
    begun_capital = most + np.log(np.exp(each - most).sum(axis=0))  # five times as fast as `logaddexp.reduce`
    path: np.ndarray = np.logaddexp(begun_capital, log_waiting[first + 1 : stop + 1])
    return path, each[:, -1]


class OnlineRanks:
    """Scores ranked among the calibration scores and all that came before them."""

    def __init__(self, calibrator: ConformalCalibrator, seen: np.ndarray) -> None:
        self.calibrator = calibrator
        self.pool = np.sort(np.concatenate([calibrator.sorted_scores, seen]))

    def p_values(self, scores: np.ndarray, draws: np.ndarray) -> np.ndarray:
        """(#{earlier > score} + draw * (1 + #{earlier = score})) / (1 + #earlier), `(m,)`.

        `scores` lie on the calibrator's grid, `draws` are uniform on (0, 1). The result is uniform and
        independent where the scores are exchangeable with those of the calibration.
        """
        parts = [
            self._rank(scores[start : start + CHUNK], draws[start : start + CHUNK])
            for start in range(0, len(scores), CHUNK)
        ]
        return np.concatenate(parts) if parts else np.empty(0)

    def _rank(self, scores: np.ndarray, draws: np.ndarray) -> np.ndarray:
        n, pool, order = len(scores), self.pool, np.argsort(scores, kind="stable")
        ordered = scores[order]  # searched for in order, they are found in half the time
        left, right = pool.searchsorted(ordered, side="left"), pool.searchsorted(ordered, side="right")
        first = ordered.searchsorted(ordered)
        above, equal, place = np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.uint8)
        above[order] = len(pool) - right
        equal[order] = right - left + np.arange(n) - first  # equal ones stay in the order in which they came
        place[order] = first  # compared eight times as fast as the scores
        above += _count_earlier(place > place[:, None])
        self.pool = np.insert(pool, left, ordered)
        p_values: np.ndarray = (above + draws * (1 + equal)) / (len(pool) + 1 + np.arange(n))
        return p_values


def _count_earlier(pairs: np.ndarray) -> np.ndarray:
    """How many of the columns before the diagonal are true, `(n,)` for `(n, n)`; n at most `CHUNK`."""
    earlier = pairs & EARLIER[: len(pairs), : len(pairs)]
    counts: np.ndarray = earlier.view(np.uint8).sum(axis=1, dtype=np.uint8).astype(np.int64)
    return counts


def _log_budget(epoch: int) -> float:
    """-log of the capital with which epoch e = 0, 1, ... starts: 1 / ((e + 1) (e + 2)) = 1/2, 1/6, 1/12, ...

    They sum to 1, so that all epochs together pass the threshold with probability at most 1 %; and they fall so
    slowly that after many epochs a change is still found (halving would leave nothing).
    """
    return math.log((epoch + 1) * (epoch + 2))


class DriftMartingale:
    """The capital of a gambler who bets that the scores of a model have changed.

    Capital jumps once, from waiting to a bet of `LOG_BETS`, in shares that are fixed beforehand (`_starts`). After
    `EPOCH` scores the ranks start anew from the calibration scores with less capital (`_log_budget`). Ties are
    broken by a generator that the calibration scores seed.
    """

    def __init__(self, calibrator: ConformalCalibrator) -> None:
        self.calibrator = calibrator
        self.epoch = 0
        self.scores = 0
        """Scores of all epochs."""
        self.p_value_counts = np.zeros(BINS, dtype=np.int64)
        self.alarmed_after: int | None = None
        """The number of scores after which the threshold was first passed."""
        self._start_epoch()
        self.max_log_martingale = self.log_martingale
        self._resume(np.empty(0))

    def _start_epoch(self) -> None:
        self.log_weights = np.full(len(LOG_BETS), -np.inf)
        self.log_martingale = -_log_budget(self.epoch)

    def _resume(self, seen: np.ndarray) -> None:
        self.seen = np.empty(EPOCH)
        self.seen[: len(seen)] = seen
        self.n_seen = len(seen)
        self.ranks = OnlineRanks(self.calibrator, seen)
        seed = int(fingerprint(self.calibrator)[:16], 16)
        self.draws = np.random.Generator(np.random.PCG64(seed).advance(self.scores))

    @property
    def alarmed(self) -> bool:
        """Whether the martingale has ever passed the threshold."""
        return self.alarmed_after is not None

    def observe(self, scores: np.ndarray) -> np.ndarray:
        """Bet on `(m,)` scores in turn; the log martingale after each, nats.

        The same for one score at a time as for many, up to rounding. A score that is not a number is as
        anomalous as can be.
        """
        scores = self.calibrator.on_grid(np.where(np.isnan(scores), np.inf, scores))
        paths = []
        while len(scores):
            if self.n_seen == EPOCH:
                self.epoch += 1
                self._start_epoch()
                self._resume(np.empty(0))
            part, scores = np.split(scores, [EPOCH - self.n_seen])
            paths.append(self._bet(part))
        return np.concatenate(paths) if paths else np.empty(0)

    def _bet(self, scores: np.ndarray) -> np.ndarray:
        first, stop = self.n_seen, self.n_seen + len(scores)
        p_values = self.ranks.p_values(scores, self.draws.random(len(scores)))
        bins = np.minimum((p_values * BINS).astype(np.int64), BINS - 1)
        path, self.log_weights = follow_bets(LOG_BETS[:, bins], self.log_weights, first)
        path -= _log_budget(self.epoch)
        above = np.flatnonzero(path >= LOG_THRESHOLD)
        if len(above) and self.alarmed_after is None:
            self.alarmed_after = self.scores + int(above[0]) + 1
        self.seen[first:stop] = scores
        self.n_seen = stop
        self.scores += len(scores)
        self.p_value_counts += np.bincount(bins, minlength=BINS)
        self.log_martingale = float(path[-1])
        self.max_log_martingale = max(self.max_log_martingale, float(path.max()))
        return path

    def to_state(self) -> dict[str, np.ndarray]:
        """Copies of all that is needed to go on, by name."""
        return {
            "seen": self.seen[: self.n_seen].copy(),
            "log_weights": self.log_weights.copy(),
            "p_value_counts": self.p_value_counts.copy(),
            "log_martingale": np.array([self.log_martingale, self.max_log_martingale]),
            "position": np.array([self.epoch, self.scores, self.alarmed_after or 0]),
        }

    @classmethod
    def from_state(cls, calibrator: ConformalCalibrator, state: Mapping[str, np.ndarray]) -> "DriftMartingale":
        """Go on where `to_state` was taken, bit for bit. Raises DataError where the numbers cannot be a state's."""
        martingale = cls(calibrator)
        _check_state(state, martingale.to_state(), calibrator)
        epoch, scores, alarmed_after = (int(number) for number in state["position"])
        martingale.epoch, martingale.scores, martingale.alarmed_after = epoch, scores, alarmed_after or None
        martingale.log_martingale, martingale.max_log_martingale = (float(one) for one in state["log_martingale"])
        martingale.log_weights = np.array(state["log_weights"])
        martingale.p_value_counts = np.array(state["p_value_counts"])
        martingale._resume(state["seen"])
        return martingale


def _check_state(
    state: Mapping[str, np.ndarray], fresh: Mapping[str, np.ndarray], calibrator: ConformalCalibrator
) -> None:
    """Raise DataError that says what is wrong with `state`; `fresh` is that of no scores."""
    for name, array in fresh.items():
        found = state.get(name)
        if found is None or found.dtype != array.dtype or (name != "seen" and found.shape != array.shape):
            raise DataError(f"{name} is missing or has another type or shape", where=name)
        if np.isnan(found).any():
            raise DataError(f"{name} holds what is not a number", where=name)
    seen, counts, log_weights = state["seen"], state["p_value_counts"], state["log_weights"]
    epoch, scores, alarmed_after = (int(number) for number in state["position"])
    now, most = (float(number) for number in state["log_martingale"])
    if seen.ndim != 1 or len(seen) > EPOCH or (seen != calibrator.on_grid(seen)).any():
        raise DataError(f"seen must be at most {EPOCH:,} scores on the model's grid", where="seen")
    if epoch < 0 or scores != epoch * EPOCH + len(seen) or not 0 <= alarmed_after <= scores:
        raise DataError(f"epoch {epoch} with {len(seen):,} scores cannot follow {scores:,}", where="position")
    if (counts < 0).any() or counts.sum() != scores:
        raise DataError(f"counts of p-values must add up to {scores:,}", where="p_value_counts")
    waiting = _starts()[1][len(seen)]
    capital = np.logaddexp(np.logaddexp.reduce(log_weights), waiting) - _log_budget(epoch)
    if not abs(now - capital) <= 1e-6 * max(1.0, abs(capital)):
        raise DataError(f"the bets have a capital of {capital:g} and not of {now:g}", where="log_martingale")
    if most < now or (most >= LOG_THRESHOLD) != (alarmed_after > 0):
        raise DataError(f"a maximum of {most:g} is not that of the rest", where="log_martingale")


def fingerprint(calibrator: ConformalCalibrator) -> str:
    """SHA-256, in hex, of what the ranks and bets are made of: another calibration has another one."""
    content = hashlib.sha256(calibrator.sorted_scores.astype("<f8").tobytes())
    content.update(np.array([calibrator.spread, EPOCH]).astype("<f8").tobytes())
    content.update(LOG_BETS.round(9).astype("<f8").tobytes())
    return content.hexdigest()
