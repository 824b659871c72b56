"""Explanations as documents: what is told, in which words, and that it can be JSON."""

import json

import numpy as np
import pytest
import torch

from elbound.errors import SchemaError
from elbound.explain import explain_fired, explain_rows, fired_documents, row_documents
from elbound.explain.documents import cell_value
from elbound.explain.fired import TOLD_ALREADY
from elbound.schema import Column
from elbound.scorer import Scorer


def test_a_row_is_told_by_falling_share_with_the_rest_in_one_number(table_scorer: Scorer) -> None:
    x = table_scorer.golden.clone()
    x[0] = torch.tensor([1.0, torch.nan, 500.0, 0.0, 3.0])
    shares = explain_rows(table_scorer, x)
    whole, short = (row_documents(table_scorer, x, shares, top)[0] for top in (None, 2))
    json.dumps(whole, allow_nan=False)
    features = whole["features"]
    assert isinstance(features, list)
    by_name = {feature["name"]: feature for feature in features}
    assert features[0]["name"] == "c"
    assert [feature["share"] for feature in features] == sorted((f["share"] for f in features), reverse=True)
    assert by_name["c"]["seen"] == 500.0
    low, high = by_name["c"]["interval"]
    assert low < by_name["c"]["expected"] < high < 500
    assert by_name["c"]["probability"] is None
    assert (by_name["b"]["seen"], by_name["b"]["share"]) == (None, 0)
    assert by_name["ok"]["seen"] is False
    assert by_name["ok"]["interval"] is None
    assert 0 < by_name["ok"]["probability"] < 1
    assert by_name["site"]["seen"] == "other"
    assert by_name["site"]["expected"] in ("north", "south", "east")
    assert whole["rest"] == 0
    assert short["features"] == features[:2]
    assert short["rest"] == pytest.approx(sum(feature["share"] for feature in features[2:]))


def test_times_are_text_as_far_as_the_calendar_goes() -> None:
    when = Column(name="when", kind="datetime")
    assert cell_value(when, 1_795_305_600.0) == "2026-11-22T00:00:00Z"
    assert cell_value(when, 0.25) == "1970-01-01T00:00:00.250Z"
    assert cell_value(when, 1e15) == 1e15
    assert cell_value(when, float("nan")) is None


@pytest.mark.parametrize("kind", ["table", "image"])
def test_every_score_tells_what_it_can(kind: str, table_scorer: Scorer, image_scorer: Scorer) -> None:
    """What adds up over features adds up to the score; every document says what is normal and can be JSON."""
    scorer = table_scorer if kind == "table" else image_scorer
    x = scorer.golden
    scores = dict(zip(scorer.detector.score_names, scorer.raw_scores(x).T, strict=True))
    told: dict[str, set[str]] = {}
    for name, values in scores.items():
        fired = explain_fired(scorer, x, [name] * len(x), nearest_items=2)
        documents = fired_documents(scorer, x, fired)
        json.dumps(documents, allow_nan=False)
        if name in TOLD_ALREADY:
            assert documents == [None] * len(x)
            continue
        for one, document, value in zip(fired, documents, values, strict=True):
            assert one is not None
            assert document is not None
            told[name] = set(document) - {"score", "normal"}
            normal = document["normal"]
            assert isinstance(normal, dict)
            assert normal["low"] <= normal["median"] <= normal["high"]
            if one.features is not None:
                total = one.features.sum() + (one.latent or 0)
                assert total == pytest.approx(value, rel=1e-4, abs=1e-4)
            if one.nearest is not None:
                assert one.distances is not None
                assert (np.diff(one.distances) >= 0).all()
    adds_up, nearest = {"features", "latent", "rest"}, {"nearest"}
    expected = {
        "table": {"reconstruction_error": adds_up, "neighbours": adds_up | nearest, "normal.reconstruction": adds_up},
        "image": {
            "error_top": {"heatmap"}, "dissimilarity": {"heatmap"}, "coarse_neighbours": nearest,
            "latent_neighbours": nearest, "code_length": set(), "latent_mahalanobis": set(),
        },
    }  # fmt: skip
    assert {name: told[name] for name in expected[kind]} == expected[kind]


def test_the_nearest_rows_are_training_rows_in_units_of_the_data(table_scorer: Scorer) -> None:
    member = next(table_scorer.detector.each())
    score = next(score for score in member.scores if getattr(score, "name", "") == "neighbours")
    rows = member.view.at_coordinates(score.points[:5])  # type: ignore[operator,union-attr,index]
    fired = explain_fired(table_scorer, rows, ["neighbours"] * 5, nearest_items=1)
    for i, one in enumerate(fired):
        assert one is not None
        assert one.nearest is not None
        assert one.distances is not None
        assert one.distances[0] == pytest.approx(0, abs=1e-4)
        torch.testing.assert_close(one.nearest[0], rows[i], rtol=1e-5, atol=1e-5)
    documents = fired_documents(table_scorer, rows, fired)
    assert documents[0] is not None
    nearest = documents[0]["nearest"]
    assert isinstance(nearest, list)
    assert set(nearest[0]["row"]) == {"a", "b", "c", "ok", "site"}
    none = explain_fired(table_scorer, rows, ["neighbours"] * 5, nearest_items=0)
    assert all(one is not None and one.nearest is None for one in none)


def test_only_items_with_a_name_are_explained_and_each_by_its_own(table_scorer: Scorer) -> None:
    names = ["neighbours", None, "negative_elbo", "normal.negative_elbo"]
    found = explain_fired(table_scorer, table_scorer.golden[:4], names, nearest_items=1)
    assert [one if one is None else one.score for one in found] == ["neighbours", None, None, "normal.negative_elbo"]
    with pytest.raises(SchemaError, match="no score 'nonsense'"):
        explain_fired(table_scorer, table_scorer.golden[:1], ["nonsense"], nearest_items=1)
