"""Every score: its shape and unit, no dependence on the batch, larger for what is not normal."""

import numpy as np
import pytest
import torch

from elbound.scorer import Scorer
from elbound.scores import SCORES

UNITS = {"nats", "relative", "standard deviations", "bits"}


@pytest.mark.parametrize("name", SCORES)
def test_a_score_declares_its_name_and_unit(name: str) -> None:
    assert SCORES[name].name == name
    assert SCORES[name].unit in UNITS


@pytest.mark.parametrize("fixture", ["table_scorer", "image_scorer"])
def test_the_halves_make_the_negative_elbo(fixture: str, request: pytest.FixtureRequest) -> None:
    scorer: Scorer = request.getfixturevalue(fixture)
    scores = scorer.score_tensor(scorer.golden).scores
    assert set(scores) == set(scorer.detector.score_names)
    assert {name.rpartition(".")[2] for name in scores} <= set(SCORES)
    np.testing.assert_allclose(scores["negative_elbo"], scores["reconstruction"] + scores["kl"], rtol=1e-5, atol=1e-4)
    assert (scores["kl"] >= 0).all()
    assert (scores["reconstruction_error"] >= 0).all()


@pytest.mark.parametrize("name", ["negative_elbo", "reconstruction", "reconstruction_error", "neighbours"])
def test_an_odd_row_scores_higher(name: str, numeric_scorer: Scorer) -> None:
    rows = numeric_scorer.golden.clone()
    rows[:, 0] += 8
    normal, odd = (numeric_scorer.score_tensor(x).scores[name] for x in (numeric_scorer.golden, rows))
    assert (odd > normal).all()


@pytest.mark.parametrize("name", ["negative_elbo", "reconstruction", "reconstruction_error", "negative_iwae"])
def test_an_odd_image_scores_higher(name: str, image_scorer: Scorer) -> None:
    noise = torch.randint(
        0, 256, image_scorer.golden.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    normal, odd = (image_scorer.score_tensor(x).scores[name] for x in (image_scorer.golden, noise))
    assert odd.min() > np.median(normal)


def test_the_reconstruction_error_is_the_mean_over_seen_features(table_scorer: Scorer) -> None:
    """A row without a single cell has no error, and the surprise of each gap that training never saw."""
    nothing = torch.full((1, 5), torch.nan, dtype=torch.float64)
    scores = table_scorer.score_tensor(nothing).scores
    assert scores["reconstruction_error"][0] == 0
    novelty = table_scorer.manifest.detector.models[0].novelty  # of two numbers and a boolean; the others had gaps
    assert scores["reconstruction"][0] == pytest.approx(-np.log(novelty / 2) * 2 - np.log(novelty / 3), rel=1e-6)
    assert np.isfinite(scores["negative_elbo"][0])
