"""What models are measured against."""

import numpy as np
import pytest

from elbound.evaluation import knn_yardstick


def test_the_yardstick_is_the_distance_to_the_fifth_neighbour_in_standard_units() -> None:
    train = np.c_[np.repeat([-1.0, 1.0], 10), np.full(20, 7.0)]  # deviations 1 and none
    assert knn_yardstick(train)(np.array([[1.0, 7.0], [4.0, 7.0], [1.0, 9.0], [np.nan, 7.0]])) == pytest.approx(
        [0.0, 3.0, 2.0, 1.0]
    )
    assert knn_yardstick(train[:3])(train[:3]).shape == (3,), "fewer items than neighbours"
