"""The default alpha, and the sentences about what a calibration set can decide."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elbound.calibration.conformal import ConformalCalibrator
from elbound.calibration.resolution import (
    DEFAULT_ALPHAS,
    alpha_sentence,
    default_alpha,
    needed_items,
    rounded_up,
    unresolved,
)
from elbound.data.split import items_for_calibration, part_sizes


def calibrator(n: int) -> ConformalCalibrator:
    return ConformalCalibrator(np.arange(n, dtype=float), spread=1.0)


@pytest.mark.parametrize(
    ("n", "guarantee", "alpha"),
    [
        (1, None, 0.5), (5, None, 0.2), (9, None, 0.1), (18, None, 0.1), (19, None, 0.05), (30, None, 0.05),
        (56, None, 0.02), (98, None, 0.02), (99, None, 0.01), (20_000, None, 0.01),
        (99, 0.9, 0.05), (229, 0.9, 0.02), (230, 0.9, 0.01), (5, 0.99, 0.5),
    ],
)  # fmt: skip
def test_the_default_is_the_smallest_that_resolves(n: int, guarantee: float | None, alpha: float) -> None:
    assert default_alpha(n, guarantee) == alpha


@given(
    st.integers(1, 3_000),
    st.sampled_from([*DEFAULT_ALPHAS, 0.001, 0.003, 0.07]),
    st.sampled_from([None, 0.5, 0.8, 0.99]),
)
def test_so_many_items_are_needed_and_no_more(n: int, alpha: float, guarantee: float | None) -> None:
    assert bool(calibrator(n).rank(alpha, guarantee)) == (n >= needed_items(alpha, guarantee))


@pytest.mark.parametrize("calibration", [1, 5, 6, 98, 99, 100, 230, 20_000])
def test_so_many_items_hold_out_a_calibration_part(calibration: int) -> None:
    items = items_for_calibration(calibration)
    assert items is not None
    assert part_sizes(items).calibration >= calibration
    assert items == 20 or part_sizes(items - 1).calibration < calibration


def test_more_than_is_ever_held_out_cannot_be_had_by_training() -> None:
    assert items_for_calibration(20_001) is None
    assert "train" not in str(unresolved(calibrator(99), 1e-5))


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        (
            {"n": 56, "alpha": 0.02, "items": 225, "kind": "image"},
            "alpha = 0.02, one false alarm in 50: 225 images decide no finer one; 396 would decide 0.01",
        ),
        ({"n": 99, "alpha": 0.01, "items": 400, "kind": "table"}, "alpha = 0.01, one false alarm in 100"),
        (
            {"n": 99, "alpha": 0.05, "items": 400, "kind": "table", "guarantee": 0.9},
            "alpha = 0.05 with 90 % confidence, one false alarm in 20: 400 rows decide no finer one; "
            "1,150 would decide 0.01",
        ),
        (
            {"n": 90, "alpha": 0.02, "items": 400, "kind": "table", "grouped": True},
            "alpha = 0.02, one false alarm in 50: 90 of 400 rows calibrate, in whole groups, and decide no finer one; "
            "99 would decide 0.01",
        ),
    ],
)
def test_the_default_is_explained(facts: dict[str, object], sentence: str) -> None:
    assert alpha_sentence(**{"guarantee": None, "grouped": False, **facts}) == sentence  # type: ignore[arg-type]


def test_one_line_says_that_nothing_can_alarm_and_what_to_do() -> None:
    assert unresolved(calibrator(75), 0.02) is None
    assert unresolved(calibrator(75), 0.01) == (
        "at alpha = 0.01 nothing can ever be an anomaly: 75 calibration items decide nothing finer than 0.0132; "
        "ask for alpha = 0.02, or train on at least 396 items, or calibrate with at least 99 normal items"
    )
    assert str(unresolved(calibrator(99), 0.01, 0.9)).startswith(
        "at alpha = 0.01 with 90 % confidence nothing can ever be an anomaly: 99 calibration items decide nothing "
        "finer than 0.023; ask for alpha = 0.05, or train on at least 1,150 items"
    )


@given(st.integers(1, 20_000), st.sampled_from([None, 0.9]))
def test_the_smallest_alpha_that_is_named_resolves(n: int, guarantee: float | None) -> None:
    verdict = calibrator(n)
    assert verdict.rank(float(rounded_up(verdict.smallest_alpha_with(guarantee))), guarantee)
