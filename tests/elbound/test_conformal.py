"""p-values, thresholds and severities."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from elbound.calibration.conformal import ConformalCalibrator, check_alpha, quantise, spread_of
from elbound.errors import ConfigError

FINITE = st.floats(-1e6, 1e6, allow_nan=False)
SCORES = st.lists(FINITE, min_size=1, max_size=60)


def calibrated(scores: list[float]) -> ConformalCalibrator:
    return ConformalCalibrator(np.array(scores), spread=1.0)


def test_by_hand_with_ties() -> None:
    calibrator = calibrated([1, 2, 2, 3, 4])
    assert calibrator.p_values(np.array([0, 1, 2, 2.5, 4, 5])).tolist() == [1, 1, 5 / 6, 3 / 6, 2 / 6, 1 / 6]
    assert calibrator.smallest_alpha == pytest.approx(1 / 6, rel=1e-15)
    assert calibrator.threshold(0.5) == 2
    assert calibrator.threshold(1 / 3) == 4 or calibrator.rank(1 / 3) == 1
    assert calibrator.threshold(0.1) is None
    assert calibrator.severity(np.array([2.0, 3.0]), 0.1) is None


def test_a_score_that_is_no_number_is_as_anomalous_as_can_be() -> None:
    calibrator = calibrated([1, 2, 3])
    assert calibrator.p_values(np.array([np.nan, np.inf, -np.inf])).tolist() == [1 / 4, 1 / 4, 1]
    assert calibrator.is_anomaly(np.array([np.nan]), 0.25).all()


@given(SCORES, st.lists(FINITE, min_size=1, max_size=20))
def test_p_values_lie_between_the_smallest_and_one(calibration: list[float], scores: list[float]) -> None:
    p_values = calibrated(calibration).p_values(np.array(scores))
    assert ((1 / (len(calibration) + 1) <= p_values) & (p_values <= 1)).all()


@given(SCORES, st.lists(FINITE, min_size=1, max_size=20), st.floats(0.001, 0.999))
def test_the_decision_the_threshold_and_the_severity_agree(
    calibration: list[float], scores: list[float], alpha: float
) -> None:
    calibrator = calibrated(calibration)
    values = np.array([*scores, *calibration])
    decided = calibrator.is_anomaly(values, alpha)
    threshold = calibrator.threshold(alpha)
    counts = [round(p * (calibrator.n + 1)) for p in calibrator.p_values(values)]
    assert decided.tolist() == [count <= Fraction(repr(alpha)) * (calibrator.n + 1) for count in counts]
    if threshold is None:
        assert not decided.any()
        return
    assert ((calibrator.on_grid(values) > threshold) == decided).all()
    severity = calibrator.severity(values, alpha)
    assert severity is None or ((severity > 1) == decided).all()


@pytest.mark.parametrize(
    ("alpha", "n", "k"), [(0.29, 99, 29), (0.07, 99, 7), (0.05, 19, 1), (0.05, 18, 0), (0.1, 9, 1)]
)
def test_the_rank_is_exact_for_alpha_as_written(alpha: float, n: int, k: int) -> None:
    """0.29 * 100 is 28.999999999999996 in floating point; the rate that was asked for is 29 %."""
    assert calibrated(list(range(n))).rank(alpha) == k


def test_p_values_of_normals_are_uniform() -> None:
    """Over many calibration sets: the realised rate is k / (n + 1), and no p-value is too small."""
    draw = np.random.default_rng(0)
    n, sets, each = 99, 400, 25
    p_values = []
    for _ in range(sets):
        calibrator = ConformalCalibrator(draw.normal(size=n), spread=1.0)
        p_values.append(calibrator.p_values(draw.normal(size=each)))
    pooled = np.concatenate(p_values)
    for alpha in (0.01, 0.05, 0.1, 0.5):
        by_set = np.array([(p <= alpha).mean() for p in p_values])
        error = by_set.std() / math.sqrt(sets)
        assert abs(by_set.mean() - alpha) < 4 * error
    jittered = pooled - draw.random(len(pooled)) / (n + 1)  # the smoothed p-value is exactly uniform
    assert kstest([j[0] for j in np.split(jittered, sets)], "uniform").pvalue > 0.001


@given(st.lists(FINITE, min_size=2, max_size=50), st.floats(1e-3, 1e3))
def test_the_grid_keeps_order_and_is_fine(values: list[float], spread: float) -> None:
    ordered = np.sort(np.array(values))
    rounded = quantise(ordered, spread)
    assert (np.diff(rounded) >= 0).all()
    assert (np.abs(rounded - ordered) <= 2.0**-14 * np.maximum(np.abs(ordered), spread)).all()
    assert (quantise(rounded, spread) == rounded).all()


def test_the_grid_joins_the_last_bits_of_float32() -> None:
    score = 3.2546387
    assert quantise(np.array([score]), 1.0) == quantise(np.array([score * (1 + 1e-7)]), 1.0)


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, 1.5, math.nan])
def test_alpha_outside_of_its_range_is_refused(alpha: float) -> None:
    with pytest.raises(ConfigError, match="alpha must be a rate"):
        check_alpha(alpha)


def test_spread_of_nothing_finite_is_zero() -> None:
    assert spread_of(np.array([np.inf])) == 0
    assert spread_of(np.array([1.0, 2.0, 3.0, np.inf])) == 1.0
