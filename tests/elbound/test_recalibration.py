"""A new version with fresh calibration: what changes, what stays, and what is refused."""

import numpy as np
import pytest

from elbound.errors import ConfigError, DataError, SchemaError, TooFewItems
from elbound.evaluation import realised_rate
from elbound.fit.recalibration import recalibrated
from elbound.scorer import Scorer
from tests.conftest import mixed_table


def scores_of(scorer: Scorer, n: int, seed: int, shift: float = 0.0) -> np.ndarray:
    x = scorer.to_tensor(mixed_table(n, seed=seed)).only().clone()
    x[:, 0] += shift
    return scorer.raw_scores(x)


def test_it_ranks_against_the_fresh_items_and_leaves_the_old_scorer_alone(table_scorer: Scorer) -> None:
    before = table_scorer.calibration.verdict.sorted_scores.copy()
    fresh, difference = recalibrated(table_scorer, scores_of(table_scorer, 400, 21), alpha=0.02, guarantee=0.8)
    assert not difference.is_strange
    assert (table_scorer.calibration.verdict.sorted_scores == before).all()
    assert fresh.calibration.n == 400
    assert (fresh.alpha, fresh.guarantee) == (0.02, 0.8)
    assert fresh.version != table_scorer.version
    assert fresh.manifest.calibrated_from == table_scorer.version
    assert (fresh.calibration.reference_scores == table_scorer.calibration.reference_scores).all()
    again = scores_of(table_scorer, 2_000, 22)
    verdict = fresh.calibration.rule.combine(dict(zip(fresh.detector.score_names, again.T, strict=True)))
    assert realised_rate(fresh.calibration.verdict, verdict, 0.05, confidence=0.999).as_promised


def test_data_that_look_nothing_like_the_old_are_refused_unless_trusted(table_scorer: Scorer) -> None:
    odd = scores_of(table_scorer, 100, 23, shift=4.0)
    with pytest.raises(DataError, match="nothing like what calibrated rows before"):
        recalibrated(table_scorer, odd)
    fresh, difference = recalibrated(table_scorer, odd, trust=True)
    assert difference.is_strange
    assert fresh.calibration.n == 100


def test_a_small_shift_is_taken_and_told(table_scorer: Scorer) -> None:
    _, difference = recalibrated(table_scorer, scores_of(table_scorer, 2_000, 24, shift=0.2))
    assert difference.is_certain
    assert not difference.is_strange


def test_too_few_items_and_another_shape_are_refused(table_scorer: Scorer) -> None:
    with pytest.raises(TooFewItems, match="19 readable items; at least 20"):
        recalibrated(table_scorer, scores_of(table_scorer, 19, 25))
    with pytest.raises(SchemaError, match="expected scores of shape"):
        recalibrated(table_scorer, np.zeros((50, 2)))
    with pytest.raises(ConfigError, match="alpha must be a rate"):
        recalibrated(table_scorer, scores_of(table_scorer, 50, 26), alpha=0.0)
