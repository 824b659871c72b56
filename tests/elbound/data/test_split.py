"""Three parts that never meet: their sizes, whole groups, and the seed that draws them."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from elbound.data.split import MIN_ITEMS, Split, everything, part_sizes, split_items
from elbound.errors import DataError, TooFewItems

PROPERTY = settings(max_examples=150, deadline=None, derandomize=True)


def parts(split: Split) -> tuple[np.ndarray, ...]:
    return split.train, split.validation, split.calibration


def check_cover(split: Split, n: int) -> None:
    """The parts are sorted, disjoint, not empty and together everything."""
    for part in parts(split):
        assert len(part)
        assert (np.diff(part) > 0).all()
    assert sorted(np.concatenate(parts(split)).tolist()) == list(range(n))
    assert split.held_out


@pytest.mark.parametrize(
    ("n", "train", "validation", "calibration"),
    [
        (20, 13, 2, 5), (21, 14, 2, 5), (100, 65, 10, 25), (395, 258, 39, 98), (396, 258, 39, 99), (494, 346, 49, 99),
        (495, 347, 49, 99), (500, 350, 50, 100), (100_000, 75_000, 5_000, 20_000), (1_000_000, 975_000, 5_000, 20_000),
    ],
)  # fmt: skip
def test_sizes_of_the_parts(n: int, train: int, validation: int, calibration: int) -> None:
    sizes = part_sizes(n)
    assert (sizes.train, sizes.validation, sizes.calibration) == (train, validation, calibration)
    assert sizes.smallest_alpha == 1 / (calibration + 1)


@PROPERTY
@given(st.integers(MIN_ITEMS, 10**7))
def test_sizes_add_up_and_train_is_the_largest(n: int) -> None:
    sizes = part_sizes(n)
    assert sizes.train + sizes.validation + sizes.calibration == n
    assert sizes.train >= 0.65 * n
    assert 2 <= sizes.validation <= 5_000
    assert n // 5 >= 20_000 or sizes.calibration >= n // 5
    assert sizes.calibration <= max(n // 4, 99)
    assert part_sizes(n + 1).calibration >= sizes.calibration


@pytest.mark.parametrize("n", [0, 1, 19])
def test_fewer_than_twenty_items_are_too_few(n: int) -> None:
    with pytest.raises(TooFewItems, match=f"{n} items; at least 20 normal ones are needed"):
        part_sizes(n)
    with pytest.raises(TooFewItems):
        split_items(n, seed=0)
    with pytest.raises(TooFewItems):
        split_items(n, seed=0, groups=[1] * n)


@PROPERTY
@given(st.integers(MIN_ITEMS, 2_000), st.integers(0, 2**20))
def test_items_are_split_into_parts_of_the_stated_sizes(n: int, seed: int) -> None:
    split = split_items(n, seed=seed)
    check_cover(split, n)
    sizes = part_sizes(n)
    assert [len(part) for part in parts(split)] == [sizes.train, sizes.validation, sizes.calibration]
    again = split_items(n, seed=seed)
    for part, other in zip(parts(split), parts(again), strict=True):
        np.testing.assert_array_equal(part, other)


def test_another_seed_is_another_split_and_every_item_may_calibrate() -> None:
    drawn = [set(split_items(100, seed=seed).calibration.tolist()) for seed in range(40)]
    assert len({frozenset(part) for part in drawn}) == 40
    assert set().union(*drawn) == set(range(100))


@PROPERTY
@given(st.lists(st.integers(0, 30), min_size=MIN_ITEMS, max_size=300), st.integers(0, 2**20))
def test_whole_groups_stay_together(groups: list[int], seed: int) -> None:
    counts = np.bincount(groups)
    counts = counts[counts > 0]
    n = len(groups)
    assume(len(counts) >= 3)
    assume(counts.max() <= part_sizes(n).calibration)
    try:
        split = split_items(n, seed=seed, groups=groups)
    except TooFewItems:
        assert len(counts) < 6  # a handful of groups, of which two parts take more than three quarters
        return
    check_cover(split, n)
    labels = np.array(groups)
    members = [set(labels[part].tolist()) for part in parts(split)]
    assert not members[0] & members[1]
    assert not members[0] & members[2]
    assert not members[1] & members[2]
    sizes = part_sizes(n)
    assert len(split.calibration) < sizes.calibration + counts.max()
    assert len(split.validation) < sizes.validation + counts.max()
    assert len(split.train) >= math.ceil(n / 4)
    if len(counts) > 6:
        assert len(split.calibration) >= sizes.calibration
    same = split_items(n, seed=seed, groups=[str(label) for label in groups])
    for part, other in zip(parts(split), parts(same), strict=True):
        np.testing.assert_array_equal(part, other)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(
    "counts", [[70, 10, 10, 10], [40, 40, 10, 10], [10, 10, 80], [34, 33, 33], [60, 1, 1], [26, 25, 25, 24], [5] * 20]
)
def test_groups_that_can_be_split_are_split_whatever_the_seed(counts: list[int], seed: int) -> None:
    groups = [str(label) for label, count in enumerate(counts) for _ in range(count)]
    split = split_items(len(groups), seed=seed, groups=groups)
    check_cover(split, len(groups))
    members = [{groups[i] for i in part} for part in parts(split)]
    assert sum(map(len, members)) == len(counts)


def test_many_groups_come_near_the_stated_sizes() -> None:
    groups = [i // 4 for i in range(1_000)]
    split = split_items(1_000, seed=3, groups=groups)
    assert [len(part) for part in parts(split)] == [700, 100, 200]


def test_too_few_groups_are_an_error() -> None:
    with pytest.raises(TooFewItems, match="2 groups; at least 3 are needed, one for each part"):
        split_items(30, seed=0, groups=["a"] * 15 + ["b"] * 15)
    with pytest.raises(TooFewItems, match="1 groups"):
        split_items(30, seed=0, groups=[None] * 30)


def test_groups_must_name_every_item() -> None:
    with pytest.raises(DataError, match=r"groups must name one group an item\. Got 29 for 30 items instead"):
        split_items(30, seed=0, groups=list(range(29)))


def test_everything_is_in_every_part() -> None:
    split = everything(5)
    assert all(part.tolist() == [0, 1, 2, 3, 4] for part in parts(split))
    assert not split.held_out
