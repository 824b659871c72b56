"""The strongest regions of an explained image, as boxes."""

from typing import NamedTuple

import numpy as np

MAX_REGIONS = 5


class Region(NamedTuple):
    """A box of pixels and the sum of their shares, nats."""

    left: int
    top: int
    width: int
    height: int
    share: float


def strongest_regions(heat: np.ndarray, shares: np.ndarray) -> list[Region]:
    """Boxes around the connected parts of `heat` above 1, both `(height, width)`, by falling share.

    At most `MAX_REGIONS`; boxes that overlap become one. None where nothing is above 1.
    """
    from scipy import ndimage

    labels, count = ndimage.label(heat > 1, structure=np.ones((3, 3)))
    if not count:
        return []
    parts = [_Box(rows.start, rows.stop, cols.start, cols.stop) for rows, cols in ndimage.find_objects(labels)]
    regions = [
        Region(box.left, box.top, box.right - box.left, box.bottom - box.top, float(box.of(shares).sum()))
        for box in _disjoint(parts)
    ]
    return sorted(regions, key=lambda region: -region.share)[:MAX_REGIONS]


class _Box(NamedTuple):
    top: int
    bottom: int
    left: int
    right: int

    def meets(self, other: "_Box") -> bool:
        return (
            self.top < other.bottom and other.top < self.bottom and self.left < other.right and other.left < self.right
        )

    def of(self, values: np.ndarray) -> np.ndarray:
        return values[self.top : self.bottom, self.left : self.right]

    def around(self, other: "_Box") -> "_Box":
        return _Box(
            min(self.top, other.top),
            max(self.bottom, other.bottom),
            min(self.left, other.left),
            max(self.right, other.right),
        )


def _disjoint(boxes: list[_Box]) -> list[_Box]:
    """Boxes that cover `boxes` and do not overlap: each one takes in whatever it meets."""
    apart: list[_Box] = []
    for box in boxes:
        grown = box
        while met := [other for other in apart if other.meets(grown)]:
            apart = [other for other in apart if not other.meets(grown)]
            for other in met:
                grown = grown.around(other)
        apart.append(grown)
    return apart
