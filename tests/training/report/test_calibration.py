"""The check of the false-alarm rate: quiet where the promise is kept, loud where blocks differ."""

import numpy as np
import pytest

from elbound.calibration.calibration import Calibration, CalibrationGroups
from elbound.data.split import Split
from training.report.calibration import block_labels, block_p_values, check_calibration, drift
from training.report.facts import CalibrationFacts, DriftFacts, NotChecked
from training.report.verdict import drifts


def split_of(calibration: int, validation: int) -> Split:
    places = np.arange(calibration + validation)
    return Split(places[:0], places[calibration:], places[:calibration])


def check(scores: np.ndarray, reference: np.ndarray, groups: list[str] | None = None) -> CalibrationFacts:
    calibration = Calibration(("s",), scores[:, None], reference[:, None], rule="s")
    found = check_calibration(calibration, split_of(len(scores), len(reference)), groups, alpha=0.02)
    assert isinstance(found, CalibrationFacts)
    return found


def test_exchangeable_scores_keep_the_promise() -> None:
    broken = 0
    for seed in range(25):
        draw = np.random.default_rng(seed)
        broken += bool(check(draw.normal(size=300), draw.normal(size=150)).broken)
    assert broken <= 1  # two checks of 1 in 1,000 each


def test_counts_and_p_values_by_hand() -> None:
    label = np.array([0, 0, 1, 1, 1])
    p_values = block_p_values(np.array([5.0, 0.0, 1.0, 2.0, 3.0]), label, spread=1.0)
    assert p_values == pytest.approx([1 / 4, 1.0, 2 / 3, 2 / 3, 2 / 3])


def test_a_stretch_of_the_data_that_differs_is_reported() -> None:
    draw = np.random.default_rng(0)
    scores = draw.normal(size=400)
    scores[160:200] += 2.5
    found = check(scores, draw.normal(size=200))
    assert {one.what for one in found.broken if one.what.startswith("block")} == {"block 5, items 160 to 199"}
    assert found.by == "stretches of the data's order"


def test_groups_that_differ_are_reported_although_shuffling_would_hide_it() -> None:
    draw = np.random.default_rng(0)
    group = draw.integers(0, 12, 360)
    scores = draw.normal(size=360) + 2.0 * draw.normal(size=12)[group]
    found = check(scores[:240], scores[240:], [f"g{g}" for g in group])
    assert found.broken
    assert check(scores[:240], scores[240:]).broken == []  # by the order of the data nothing is to be seen


def test_a_validation_part_that_scores_higher_is_reported() -> None:
    draw = np.random.default_rng(0)
    found = check(draw.normal(size=300), 1.5 + draw.normal(size=200))
    assert {one.what for one in found.broken} == {"s"}


def test_blocks_are_stretches_or_whole_groups() -> None:
    labels = block_labels(np.arange(100), None)
    assert np.bincount(labels).tolist() == [10] * 10
    assert (np.diff(labels) >= 0).all()
    assert block_labels(np.arange(7), None).tolist() == [0] * 7
    groups = ["a"] * 50 + ["b"] * 3 + [f"c{i}" for i in range(30)]
    labels = block_labels(np.arange(83), groups)
    assert labels.max() == 9
    for name in set(groups):
        assert len({labels[i] for i in range(83) if groups[i] == name}) == 1


def test_what_cannot_be_checked_says_why() -> None:
    scores = np.arange(12.0)[:, None]
    tiny = Calibration(("s",), scores, scores, rule="s", held_out=False)
    assert isinstance(check_calibration(tiny, split_of(12, 12), None, alpha=0.1), NotChecked)
    one = Calibration(("s",), scores, scores, rule="s")
    assert isinstance(check_calibration(one, split_of(12, 12), ["a"] * 24, alpha=0.1), NotChecked)
    assert isinstance(drift(np.arange(59.0)), NotChecked)
    assert isinstance(drift(np.arange(300.0), [i // 10 for i in range(300)]), NotChecked)


def test_drift_is_seen_and_rest_is_not() -> None:
    at_rest = 0
    for seed in range(100):
        found = drift(np.random.default_rng(seed).normal(size=150))
        assert isinstance(found, DriftFacts)
        at_rest += not drifts(found)
    assert at_rest >= 98
    draw = np.random.default_rng(0)
    shifted = drift(draw.normal(size=300) + np.linspace(0, 2, 300))
    wider = drift(draw.normal(size=600) * np.repeat([1, 3], 300))
    assert isinstance(shifted, DriftFacts)
    assert drifts(shifted)
    assert isinstance(wider, DriftFacts)
    assert drifts(wider)


@pytest.mark.parametrize("kind", ["text", "boolean", "whole numbers"])
def test_ties_are_no_broken_promise(kind: str) -> None:
    """Few distinct rows have few distinct scores; most of alpha may then go unused, which is no fault."""
    below = 0
    for seed in range(10):
        draw = np.random.default_rng(seed)
        values = {"text": draw.choice(12, 3_000), "boolean": draw.integers(0, 2, 3_000), "whole numbers": None}[kind]
        scores = draw.poisson(1.5, 3_000).astype(float) if values is None else draw.normal(size=12)[values]
        found = check(scores[:2_000], scores[2_000:])
        assert found.broken == []
        below += sum(one.alarms < one.low for one in found.validation)
        moved = drift(scores)
        assert isinstance(moved, DriftFacts)
        assert not drifts(moved)
    assert below > 0  # what a lower bound without regard to ties would have reported


def test_blocks_say_that_they_pass_over_the_thresholds_of_groups() -> None:
    scores = np.random.default_rng(0).normal(size=(200, 1))
    groups = CalibrationGroups.of(["a", "b"] * 100, min_items=20)
    calibration = Calibration(("s",), scores, scores, rule="s", item_groups=groups)
    found = check_calibration(calibration, split_of(200, 200), None, alpha=0.05)
    assert isinstance(found, CalibrationFacts)
    assert found.by.endswith("by the thresholds of all items and not those of each group of --group-by")


def test_too_many_alarms_are_reported_among_ties_too() -> None:
    draw = np.random.default_rng(0)
    scores = draw.poisson(1.5, 3_000).astype(float)
    scores[2_000:] += 1
    assert check(scores[:2_000], scores[2_000:]).broken
