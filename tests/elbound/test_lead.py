"""The paired bootstrap of a difference of two AUROCs."""

import numpy as np
import pytest

from elbound.evaluation import auroc, auroc_lead


def scores(draw: np.random.Generator, n: int, m: int) -> tuple[np.ndarray, np.ndarray]:
    """A cause that both detectors see, of normals `(n,)` and anomalies `(m,)`."""
    return draw.normal(size=n), draw.normal(1.0, 1.0, size=m)


def with_noise(draw: np.random.Generator, parts: tuple[np.ndarray, np.ndarray], sd: float) -> tuple[np.ndarray, ...]:
    return tuple(part + sd * draw.normal(size=len(part)) for part in parts)


def test_the_lead_is_the_difference_and_ties_count_half() -> None:
    ours = np.array([0.0, 1.0, 1.0, 3.0]), np.array([1.0, 2.0, 4.0])
    theirs = np.array([0.0, 0.0, 2.0, 2.0]), np.array([2.0, 2.0, np.inf])
    found = auroc_lead(ours, theirs, rounds=200)
    assert found.lead == pytest.approx(auroc(*theirs) - auroc(*ours))
    assert found.low <= found.lead <= found.high


def test_a_detector_has_no_lead_over_itself() -> None:
    one = scores(np.random.default_rng(0), 50, 40)
    found = auroc_lead(one, one, rounds=50)
    assert (found.lead, found.low, found.high) == (0, 0, 0)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    draw = np.random.default_rng(0)
    many = scores(draw, 200_000, 200_000)
    truth = auroc(*with_noise(draw, many, 0.5)) - auroc(*with_noise(draw, many, 1.0))
    covered = 0
    for trial in range(200):
        parts = scores(draw, 100, 80)
        theirs, ours = with_noise(draw, parts, 0.5), with_noise(draw, parts, 1.0)
        found = auroc_lead((ours[0], ours[1]), (theirs[0], theirs[1]), confidence=0.9, rounds=200, seed=trial)
        covered += found.low <= truth <= found.high
    assert 165 <= covered <= 194  # 180 expected; percentiles of small sets cover a little less


def test_pairing_narrows_the_interval() -> None:
    draw = np.random.default_rng(0)
    parts = scores(draw, 200, 200)
    near = tuple(part + 0.01 * draw.normal(size=len(part)) for part in parts)
    far = scores(draw, 200, 200)
    paired = auroc_lead(parts, (near[0], near[1]), rounds=200)
    unpaired = auroc_lead(parts, far, rounds=200)
    assert paired.high - paired.low < 0.1 * (unpaired.high - unpaired.low)
