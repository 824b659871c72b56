"""Calibration-conditional p-values, and how sure a realised rate is."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from elbound.calibration.conformal import ConformalCalibrator, check_guarantee
from elbound.errors import ConfigError


def of_size(n: int) -> ConformalCalibrator:
    return ConformalCalibrator(np.arange(n, dtype=float), spread=1.0)


@pytest.mark.parametrize(("n", "k"), [(229, 0), (230, 1)])
def test_alpha_of_one_per_cent_needs_230_items_for_nine_in_ten(n: int, k: int) -> None:
    assert of_size(n).rank(0.01, 0.9) == k
    assert (of_size(n).threshold(0.01, 0.9) is None) == (k == 0)
    assert (of_size(n).smallest_alpha_with(0.9) <= 0.01) == (k == 1)


@given(st.integers(1, 500), st.integers(1, 99), st.floats(0.5, 0.999))
def test_the_rank_is_the_largest_that_the_beta_law_allows(n: int, per_cent: int, guarantee: float) -> None:
    alpha = per_cent / 100
    k = of_size(n).rank(alpha, guarantee)
    assert k == 0 or beta(k, n + 1 - k).cdf(alpha) >= guarantee
    assert k == n or beta(k + 1, n - k).cdf(alpha) < guarantee


@given(st.integers(1, 200), st.integers(1, 99), st.floats(0.5, 0.99))
def test_the_conditional_p_value_the_threshold_and_the_decision_agree(n: int, per_cent: int, guarantee: float) -> None:
    calibrator, alpha = of_size(n), per_cent / 100
    scores = np.arange(-1.0, n + 1) + 0.5
    p_values = calibrator.conditional_p_values(scores, guarantee)
    clear = np.abs(p_values - alpha) > 1e-9
    decided = calibrator.is_anomaly(scores, alpha, guarantee)
    assert (decided == (p_values <= alpha))[clear].all()
    threshold = calibrator.threshold(alpha, guarantee)
    assert (decided == (scores > (np.inf if threshold is None else threshold))).all()
    assert (p_values >= calibrator.p_values(scores) * 0.5).all()
    assert (np.diff(p_values) <= 0).all()
    assert p_values[-1] == pytest.approx(calibrator.smallest_alpha_with(guarantee))
    assert p_values[0] == 1


def test_the_realised_rate_has_the_law_of_the_paper() -> None:
    """Uniform scores: the rate above the k-th largest of n is known exactly, set by set."""
    draw = np.random.default_rng(0)
    n, alpha = 99, 0.1
    rates = [1 - ConformalCalibrator(draw.random(n), spread=1e-9).threshold(alpha) for _ in range(2_000)]  # type: ignore[operator]
    interval = of_size(n).realised_rate(alpha)
    assert interval is not None
    inside = np.mean([(interval.low <= rate <= interval.high) for rate in rates])
    assert inside == pytest.approx(interval.confidence, abs=0.02)
    assert np.mean(rates) == pytest.approx(alpha, abs=0.003)
    assert of_size(5).realised_rate(0.01) is None


@pytest.mark.parametrize("guarantee", [0.0, 0.49, 1.0, -1.0, math.nan])
def test_a_guarantee_outside_of_its_range_is_refused(guarantee: float) -> None:
    with pytest.raises(ConfigError, match="guarantee must be a confidence"):
        check_guarantee(guarantee)


@pytest.mark.parametrize("guarantee", [None, 0.5, 0.9, 0.999])
def test_the_smallest_alpha_resolves_as_it_is_told(guarantee: float | None) -> None:
    for n in (*range(1, 60), 999, 12_345):
        calibrator = of_size(n)
        alpha = calibrator.smallest_alpha_with(guarantee)
        assert alpha >= 1 or calibrator.rank(alpha, guarantee) == 1
        assert calibrator.rank(alpha * (1 - 1e-9), guarantee) == 0
