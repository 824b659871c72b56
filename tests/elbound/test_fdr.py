"""Benjamini and Hochberg's procedure on conformal p-values."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control

from elbound.calibration.conformal import ConformalCalibrator
from elbound.calibration.fdr import check_level, discover
from elbound.errors import ConfigError

SCORES = st.lists(st.integers(-50, 50).map(float), min_size=1, max_size=60)


@given(SCORES, SCORES, st.integers(1, 99))
def test_it_agrees_with_adjusted_p_values(calibration: list[float], scores: list[float], per_cent: int) -> None:
    """A discovery is an item whose adjusted p-value (scipy's) is at most the level; ties at the level may round."""
    calibrator = ConformalCalibrator(np.array(calibration), spread=1.0)
    level = per_cent / 100
    found = discover(calibrator, np.array(scores), level).is_discovery
    adjusted = false_discovery_control(calibrator.p_values(np.array(scores)))
    clear = np.abs(adjusted - level) > 1e-9
    assert (found == (adjusted <= level))[clear].all()
    assert found[np.isclose(adjusted, level, rtol=0, atol=1e-12)].all()


@given(st.integers(1, 400), st.integers(1, 300), st.integers(1, 99))
def test_the_least_discoveries_are_what_the_calibration_size_allows(n: int, m: int, per_cent: int) -> None:
    calibrator = ConformalCalibrator(np.arange(n, dtype=float), spread=1.0)
    level = per_cent / 100
    none = discover(calibrator, np.zeros(m) - 1, level)
    assert none.least == math.ceil(round(m / (level * (n + 1)), 9))
    assert none.resolvable == (none.least <= m)
    if none.resolvable:
        scores = np.where(np.arange(m) < none.least, np.inf, -1.0)
        assert discover(calibrator, scores, level).is_discovery.sum() == none.least
        scores[0] = -1.0
        assert not discover(calibrator, scores, level).is_discovery.any() or none.least == 1


def test_an_upload_of_nothing_has_no_discovery() -> None:
    found = discover(ConformalCalibrator(np.arange(9.0), spread=1.0), np.empty(0), 0.1)
    assert len(found.is_discovery) == 0
    assert found.resolvable


def test_a_score_that_is_no_number_is_a_discovery() -> None:
    calibrator = ConformalCalibrator(np.arange(99.0), spread=1.0)
    assert discover(calibrator, np.array([np.nan, 1.0]), 0.05).is_discovery.tolist() == [True, False]


@pytest.mark.parametrize("level", [0.0, 1.0, -1.0, math.nan])
def test_a_level_outside_of_its_range_is_refused(level: float) -> None:
    with pytest.raises(ConfigError, match="fdr must be a rate"):
        check_level(level)


def test_a_level_next_to_nothing_has_a_whole_number_that_json_takes() -> None:
    found = discover(ConformalCalibrator(np.arange(99.0), spread=1.0), np.arange(3.0), 5e-324)
    assert found.least == 2**53
    assert not found.resolvable
    assert not found.is_discovery.any()
