"""Drift: ranks that are uniform, a capital that is a martingale, alarms that come and alarms that do not."""

import itertools
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, kstest

from elbound.calibration.conformal import ConformalCalibrator
from elbound.calibration.drift import (
    BINS,
    EPOCH,
    LOG_BETS,
    DriftMartingale,
    OnlineRanks,
    fingerprint,
    follow_bets,
)
from elbound.errors import DataError

SHIFT = NormalDist().inv_cdf(0.75)
"""Added to normal scores, it lowers the median p-value to 0.25."""
NOTHING = np.full(len(LOG_BETS), -np.inf)


def calibrated(scores: np.ndarray) -> ConformalCalibrator:
    return ConformalCalibrator(scores, spread=1.0)


def smooth(draw: np.random.Generator, n: int) -> np.ndarray:
    return draw.normal(size=n)


def tied(draw: np.random.Generator, n: int) -> np.ndarray:
    """About nine values in all."""
    return np.rint(2 * draw.normal(size=n)) / 2


def test_online_p_values_by_hand() -> None:
    ranks = OnlineRanks(calibrated(np.array([1.0, 2.0, 3.0])), np.empty(0))
    found = ranks.p_values(np.array([2.0, 2.0, 9.0]), np.array([0.5, 0.25, 0.5]))
    assert found.tolist() == [(1 + 0.5 * 2) / 4, (1 + 0.25 * 3) / 5, 0.5 / 6]
    assert ranks.p_values(np.array([9.0]), np.array([0.5])).tolist() == [0.5 * 2 / 7]


@pytest.mark.parametrize("scores", [smooth, tied])
def test_online_p_values_are_those_of_the_definition(scores: Callable[..., np.ndarray]) -> None:
    draw = np.random.default_rng(0)
    calibrator = calibrated(scores(draw, 40))
    stream, draws = calibrator.on_grid(scores(draw, 700)), draw.random(700)
    found = OnlineRanks(calibrator, np.empty(0)).p_values(stream, draws)
    for i, score in enumerate(stream):
        earlier = np.concatenate([calibrator.sorted_scores, stream[:i]])
        expected = ((earlier > score).sum() + draws[i] * (1 + (earlier == score).sum())) / (1 + len(earlier))
        assert found[i] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("scores", [smooth, tied])
def test_online_p_values_are_uniform_and_independent(scores: Callable[..., np.ndarray]) -> None:
    """4,000 streams of 6 after 5 calibration scores: each place uniform, neighbours without correlation."""
    draw = np.random.default_rng(1)
    found = np.array(
        [
            OnlineRanks(calibrator, np.empty(0)).p_values(calibrator.on_grid(scores(draw, 6)), draw.random(6))
            for calibrator in (calibrated(scores(draw, 5)) for _ in range(4000))
        ]
    )
    assert min(kstest(place, "uniform").pvalue for place in found.T) > 0.001
    correlation = np.corrcoef(found.T)[np.triu_indices(6, k=1)]
    assert np.abs(correlation).max() < 4 / np.sqrt(4000)  # 15 normal values: 0.1 % beyond


def test_each_bet_is_fair_and_bounded() -> None:
    assert np.exp(LOG_BETS).mean(axis=1) == pytest.approx(1)
    assert LOG_BETS.max() <= np.log(10) + 1e-9


def test_the_martingale_has_expectation_one() -> None:
    """All 120 orders of two calibration scores and three more, averaged exactly over the draws of ties."""
    total = np.zeros(3)
    orders = list(itertools.permutations(range(1, 6)))
    for order in orders:
        places = np.array(order, dtype=float)
        lowest = OnlineRanks(calibrated(places[:2]), np.empty(0)).p_values(places[2:], np.zeros(3))
        draws = (np.arange(BINS) + 0.5) / BINS  # each p-value's range is cut at every edge of a bin
        p_values = lowest[:, None] + draws / np.arange(3, 6)[:, None]
        gains = np.exp(LOG_BETS[:, (p_values * BINS).astype(int)]).mean(axis=2)
        total += np.exp(follow_bets(np.log(gains), NOTHING, 0)[0])
    assert total / len(orders) == pytest.approx(1, abs=1e-12)


@given(st.lists(st.integers(1, 400), min_size=1, max_size=8), st.integers(0, 2**32 - 1), st.booleans())
def test_batches_of_any_size_give_the_same_martingale(sizes: list[int], seed: int, ties: bool) -> None:
    draw = np.random.default_rng(seed)
    scores = tied if ties else smooth
    calibrator, stream = calibrated(scores(draw, 30)), scores(draw, sum(sizes)) + draw.normal()
    alone, together = DriftMartingale(calibrator), DriftMartingale(calibrator)
    path = np.concatenate([alone.observe(part) for part in np.split(stream, np.cumsum(sizes)[:-1])])
    assert together.observe(stream) == pytest.approx(path, abs=1e-8)
    assert (alone.p_value_counts == together.p_value_counts).all()
    assert alone.max_log_martingale == pytest.approx(together.max_log_martingale, abs=1e-8)


def test_one_by_one_is_all_at_once() -> None:
    draw = np.random.default_rng(2)
    calibrator, stream = calibrated(draw.normal(size=50)), draw.normal(size=600) + 0.3
    one, all_ = DriftMartingale(calibrator), DriftMartingale(calibrator)
    path = [float(one.observe(stream[i : i + 1])[0]) for i in range(len(stream))]
    assert all_.observe(stream) == pytest.approx(path, abs=1e-8)
    assert one.alarmed_after == all_.alarmed_after
    assert one.log_martingale == path[-1]
    assert one.max_log_martingale == max([-np.log(2), *path])
    assert len(one.observe(np.empty(0))) == 0


@pytest.mark.parametrize("before", [0, 1, 777, EPOCH, EPOCH + 300])
def test_a_state_goes_on_bit_for_bit(before: int) -> None:
    draw = np.random.default_rng(3)
    calibrator = calibrated(draw.normal(size=60))
    original = DriftMartingale(calibrator)
    original.observe(draw.normal(size=before) + 0.2)
    restored = DriftMartingale.from_state(calibrator, original.to_state())
    more = draw.normal(size=500)
    assert (original.observe(more) == restored.observe(more)).all()
    for name, array in original.to_state().items():
        assert array.tobytes() == restored.to_state()[name].tobytes(), name


def test_after_an_epoch_ranks_start_anew_with_less_capital_and_alarms_stay() -> None:
    draw = np.random.default_rng(4)
    martingale = DriftMartingale(calibrated(draw.normal(size=500)))
    martingale.observe(draw.normal(size=1000) + SHIFT)
    alarmed_after, most = martingale.alarmed_after, martingale.max_log_martingale
    assert martingale.alarmed
    martingale.observe(draw.normal(size=EPOCH - 1000))
    assert (martingale.epoch, martingale.n_seen) == (0, EPOCH)
    path = martingale.observe(draw.normal(size=1))
    assert (martingale.epoch, martingale.n_seen, martingale.scores) == (1, 1, EPOCH + 1)
    assert path[0] < np.log(1 / 6) + np.log(10)
    assert len(martingale.ranks.pool) == 501
    assert martingale.max_log_martingale >= most
    assert martingale.alarmed_after == alarmed_after


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_quiet_streams_seldom_alarm() -> None:
    """1,000 streams of 10,000 scores, smooth and tied, after 100, 500 and 2,000 calibration scores.

    `python -m benchmarks.drift` runs 2,000 for each of the six.
    """
    draw = np.random.default_rng(5)
    streams, alarms = 0, 0
    for scores, n in itertools.islice(itertools.cycle(itertools.product((smooth, tied), (100, 500, 2000))), 1000):
        martingale = DriftMartingale(calibrated(scores(draw, n)))
        martingale.observe(scores(draw, 10_000))
        streams, alarms = streams + 1, alarms + martingale.alarmed
    assert alarms <= binom.ppf(0.999, streams, 0.01)


@pytest.mark.parametrize(("n", "quiet", "within", "share"), [
    (100, 0, 300, 0.93),  # a hundred scores hardly know their own quarter
    (500, 0, 300, 0.98), (2000, 0, 300, 0.99),
    (100, 10_000, 1000, 0.98), (500, 10_000, 1000, 0.98), (2000, 10_000, 1000, 0.98),
])  # fmt: skip
def test_a_shift_is_found(n: int, quiet: int, within: int, share: float) -> None:
    draw = np.random.default_rng(6)
    found = 0
    for _ in range(100):
        martingale = DriftMartingale(calibrated(draw.normal(size=n)))
        martingale.observe(draw.normal(size=quiet))
        martingale.observe(draw.normal(size=within) + SHIFT)
        found += martingale.alarmed_after is not None and martingale.alarmed_after > quiet
    assert found >= share * 100


@pytest.mark.parametrize("change", [
    lambda draw: draw.normal(size=500) - SHIFT,
    lambda draw: draw.normal(size=500) * 2.5,
    lambda draw: draw.normal(size=500) / 3,
    lambda _: np.full(500, 0.1),
    lambda _: np.full(500, np.nan),
], ids=["fall", "spread", "gather", "frozen", "not numbers"])  # fmt: skip
def test_other_changes_are_found_too(change: Callable[[np.random.Generator], np.ndarray]) -> None:
    draw = np.random.default_rng(7)
    martingale = DriftMartingale(calibrated(draw.normal(size=1000)))
    martingale.observe(draw.normal(size=500))
    assert not martingale.alarmed
    path = martingale.observe(change(draw))
    assert martingale.alarmed
    assert np.isfinite(path).all()


BAD = {
    "seen": [lambda x: x[:-1], lambda x: np.append(x[:-1], np.nan), lambda x: x + 1e-9, lambda _: np.zeros(EPOCH + 1)],
    "log_weights": [lambda x: x[:-1], lambda x: x + 1e300, lambda x: x * np.nan, lambda x: x.astype(np.float32)],
    "p_value_counts": [lambda x: -x, lambda x: x + 1, lambda x: x.astype(float)],
    "log_martingale": [lambda x: x * 0 + 1e308, lambda x: x - 1, lambda x: x + np.array([0, 9]), lambda x: -x * np.inf],
    "position": [lambda x: -x, lambda x: x + np.array([1, 0, 0]), lambda x: x + np.array([0, 0, 10**9])],
}


@pytest.mark.parametrize(("name", "bad"), [(name, i) for name, all_ in BAD.items() for i in range(len(all_))])
def test_a_state_that_cannot_be_is_refused(name: str, bad: int) -> None:
    draw = np.random.default_rng(8)
    calibrator = calibrated(draw.normal(size=60))
    martingale = DriftMartingale(calibrator)
    martingale.observe(draw.normal(size=300))
    state = martingale.to_state()
    with np.errstate(all="ignore"):
        changed = {**state, name: BAD[name][bad](state[name])}
    with pytest.raises(DataError):
        DriftMartingale.from_state(calibrator, changed)
    with pytest.raises(DataError, match=name):
        DriftMartingale.from_state(calibrator, {key: value for key, value in state.items() if key != name})


def test_another_calibration_has_another_fingerprint() -> None:
    scores = np.arange(10.0)
    assert fingerprint(calibrated(scores)) == fingerprint(calibrated(scores[::-1]))
    assert fingerprint(calibrated(scores)) != fingerprint(calibrated(scores + 1))
    assert fingerprint(calibrated(scores)) != fingerprint(ConformalCalibrator(scores, spread=2.0))
