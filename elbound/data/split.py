"""Which items train, which fit the verdict's rule, and which calibrate: three parts that never meet."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from elbound.errors import DataError, TooFewItems

MIN_ITEMS = 20
MAX_VALIDATION = 5_000
MAX_CALIBRATION = 20_000
RESOLVES_ONE_PERCENT = 99
"""Calibration items from which alpha = 0.01 resolves: 1 / (99 + 1)."""


@dataclass(frozen=True)
class Split:
    """Places of the items of each part. `held_out` is False where there were too few to hold any out."""

    train: np.ndarray
    validation: np.ndarray
    calibration: np.ndarray
    held_out: bool = True


@dataclass(frozen=True)
class PartSizes:
    train: int
    validation: int
    calibration: int

    @property
    def smallest_alpha(self) -> float:
        """The smallest false-alarm rate that the calibration part can promise."""
        return 1 / (self.calibration + 1)


def part_sizes(n: int) -> PartSizes:
    """The one small-n rule, for command and estimator alike.

    A fifth calibrates, at most 20,000; where a fifth does not resolve alpha = 0.01 (n < 495) up to 99
    items do, but never more than a quarter. A tenth validates, at most 5,000. The promise that is kept is
    `smallest_alpha`: 1/6 at n = 20, 1/26 at n = 100, 1/100 from n = 396.

    Raises TooFewItems below `MIN_ITEMS`: no rate worth the name could be promised.
    """
    if n < MIN_ITEMS:
        raise TooFewItems(
            f"{n} items; at least {MIN_ITEMS} normal ones are needed to train and to promise a false-alarm rate"
        )
    calibration = min(max(n // 5, min(RESOLVES_ONE_PERCENT, n // 4)), MAX_CALIBRATION)
    validation = min(max(2, n // 10), MAX_VALIDATION)
    return PartSizes(n - validation - calibration, validation, calibration)


def items_for_calibration(calibration: int) -> int | None:
    """The fewest items of which `part_sizes` holds out at least `calibration`; None beyond `MAX_CALIBRATION`."""
    if calibration > MAX_CALIBRATION:
        return None
    return max(MIN_ITEMS, (4 if calibration <= RESOLVES_ONE_PERCENT else 5) * calibration)


def split_items(n: int, *, seed: int, groups: Sequence[object] | None = None) -> Split:
    """Shuffle `n` items, or whole `groups` of them, into disjoint parts of the sizes of `part_sizes`.

    With groups (one label an item) no group is in two parts. Raises TooFewItems for fewer than
    `MIN_ITEMS` items, or for groups so few or so large that a part would stay empty.
    """
    sizes = part_sizes(n)
    order = np.random.default_rng(seed)
    if groups is None:
        shuffled = order.permutation(n)
        ends = (sizes.calibration, sizes.calibration + sizes.validation)
        calibration, validation, train = np.split(shuffled, ends)
        return Split(np.sort(train), np.sort(validation), np.sort(calibration))
    if len(groups) != n:
        raise DataError(f"groups must name one group an item. Got {len(groups):,} for {n:,} items instead")
    labels = np.unique([str(group) for group in groups], return_inverse=True)[1]
    part = _parts_of_groups(labels, sizes, order)
    train, validation, calibration = (np.flatnonzero(part == i) for i in range(3))
    return Split(train, validation, calibration)


def everything(n: int) -> Split:
    """All parts are all items: for the estimator on tiny data, which then promises no rate."""
    items = np.arange(n)
    return Split(items, items, items, held_out=False)


def _parts_of_groups(labels: np.ndarray, sizes: PartSizes, order: np.random.Generator) -> np.ndarray:
    """0 train, 1 validation or 2 calibration for each item; whole groups, drawn in random order.

    Groups larger than the whole calibration part are drawn last, and each part keeps at least one group.
    """
    counts = np.bincount(labels)
    if len(counts) < 3:
        raise TooFewItems(f"{len(counts)} groups; at least 3 are needed, one for each part")
    part_of_group = np.zeros(len(counts), dtype=np.int64)
    shuffled = sorted(order.permutation(len(counts)), key=lambda group: counts[group] > sizes.calibration)
    drawn = 0
    for part, wanted in ((2, sizes.calibration), (1, sizes.validation)):
        while wanted > 0 and len(counts) - drawn > part:  # as many groups as parts after this one are kept back
            part_of_group[shuffled[drawn]] = part
            wanted -= counts[shuffled[drawn]]
            drawn += 1
    part_of_item: np.ndarray = part_of_group[labels]
    if any(not (part_of_item == i).any() for i in range(3)) or (part_of_item == 0).sum() < math.ceil(len(labels) / 4):
        raise TooFewItems("the groups are too large to be split into three parts; use smaller groups")
    return part_of_item
