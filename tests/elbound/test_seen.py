"""Items of the training are told from fresh ones, by their scores alone."""

import numpy as np
import pyarrow as pa
import pytest

from elbound.errors import DataError
from elbound.fit.recalibration import recalibrated
from elbound.fit.seen import matching_items
from elbound.scorer import Scorer
from tests.conftest import fit_table, mixed_table

ITEMS = 400


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return fit_table(mixed_table(ITEMS), steps=40, profile="fast")


def raw(scorer: Scorer, table: pa.Table) -> np.ndarray:
    return scorer.raw_scores(scorer.to_tensor(table).only())


def test_the_training_items_are_refused_in_any_order_and_batch(scorer: Scorer) -> None:
    shuffled = np.random.default_rng(1).permutation(ITEMS)
    scores = np.concatenate([raw(scorer, mixed_table(ITEMS).take(pa.array(part))) for part in np.split(shuffled, 8)])
    assert matching_items(scorer, scores) == len(scorer.calibration.calibration_scores) + len(
        scorer.calibration.reference_scores
    )
    with pytest.raises(DataError, match=r"these are the items that rows was trained on.*139 of 400"):
        recalibrated(scorer, scores)
    assert recalibrated(scorer, scores, trust=True)[0].calibration.n == ITEMS


def test_a_part_of_them_is_refused_and_a_mixture_with_fresh_items(scorer: Scorer) -> None:
    known = raw(scorer, mixed_table(ITEMS))
    assert matching_items(scorer, known[:50]) is not None
    assert matching_items(scorer, np.concatenate([known, raw(scorer, mixed_table(400, seed=5))])) is not None


@pytest.mark.parametrize("seed", range(5, 10))
@pytest.mark.parametrize("n", [20, 400, 5_000])
def test_fresh_items_are_not(scorer: Scorer, n: int, seed: int) -> None:
    assert matching_items(scorer, raw(scorer, mixed_table(n, seed=seed))) is None


def test_what_calibrated_last_may_calibrate_again_but_not_what_trained(scorer: Scorer) -> None:
    fresh = raw(scorer, mixed_table(300, seed=5))
    renewed = recalibrated(scorer, fresh)[0]
    assert matching_items(renewed, fresh) is None
    assert matching_items(renewed, raw(scorer, mixed_table(ITEMS))) is not None


def coarse(n: int, seed: int) -> pa.Table:
    """Rows of 18 kinds: fresh ones equal old ones."""
    draw = np.random.default_rng(seed)
    return pa.table({"size": draw.integers(0, 9, n).astype(float), "ok": draw.integers(0, 2, n).astype(bool)})


def test_where_rows_repeat_only_the_whole_training_file_is_known() -> None:
    scorer = fit_table(coarse(300, 0), steps=20, profile="fast")
    assert matching_items(scorer, raw(scorer, coarse(300, 0))) is not None
    assert matching_items(scorer, raw(scorer, coarse(299, 1))) is None
    assert matching_items(scorer, raw(scorer, coarse(2_000, 2))) is None
