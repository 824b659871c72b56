"""The shares of a row: they add up for every view, law and model, and say what was expected."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from elbound.data.infer import infer_schema
from elbound.data.table import TablePreprocessor
from elbound.detector import Detector, DetectorSpec
from elbound.errors import SchemaError
from elbound.explain import explain_rows
from elbound.explain.rows import member_shares
from elbound.model.models import ModelSpec
from elbound.schema import TableSchema
from elbound.scorer import Scorer
from elbound.views.table import StandardView
from tests.conftest import mixed_table, odd_detector


def column(scorer: Scorer, name: str) -> int:
    assert isinstance(scorer.schema, TableSchema)
    return scorer.schema.names.index(name)


def negative_elbo(scorer: Scorer, x: torch.Tensor) -> np.ndarray:
    return scorer.raw_scores(x)[:, scorer.detector.score_names.index("negative_elbo")]


@settings(max_examples=15, deadline=None)
@given(cells=st.lists(st.tuples(*[st.one_of(st.none(), st.floats(-1e9, 1e9))] * 3, *[st.sampled_from([0.0, 1.0])] * 2)))
def test_shares_add_up_to_the_score_of_any_rows(table_scorer: Scorer, cells: list[tuple[float | None, ...]]) -> None:
    x = torch.tensor([[np.nan if cell is None else cell for cell in row] for row in cells], dtype=torch.float64)
    x = x.view(-1, 5)
    found = explain_rows(table_scorer, x)
    np.testing.assert_allclose(found.shares.sum(1) + found.latent, negative_elbo(table_scorer, x), rtol=1e-5, atol=1e-4)
    nullable = np.array([column.nullable for column in table_scorer.schema.columns])  # type: ignore[union-attr]
    gaps = torch.isnan(x).numpy()
    assert (found.shares[gaps & nullable] == 0).all()
    assert (found.shares[gaps & ~nullable] > np.log(100)).all()
    assert np.isfinite(found.expected).all()
    assert found.part(0, 1).shares.shape == (min(1, len(cells)), 5)


def test_a_row_alone_has_the_shares_that_it_has_in_a_batch(table_scorer: Scorer, normal_rows: pa.Table) -> None:
    x = table_scorer.to_tensor(normal_rows).only()
    together, alone = explain_rows(table_scorer, x), explain_rows(table_scorer, x[7:8])
    for name in ("shares", "latent", "expected", "low", "high", "probability"):
        np.testing.assert_allclose(getattr(alone, name), getattr(together.part(7, 8), name), rtol=1e-4, atol=1e-4)


def test_a_changed_cell_has_the_largest_share_and_lies_outside_what_was_expected(table_scorer: Scorer) -> None:
    b = column(table_scorer, "b")
    rows = table_scorer.golden[~torch.isnan(table_scorer.golden[:, b])].clone()
    normal = explain_rows(table_scorer, rows)
    inside = (normal.low[:, b] < rows[:, b].numpy()) & (rows[:, b].numpy() < normal.high[:, b])
    assert inside.mean() > 0.7
    rows[:, b] += 40
    found = explain_rows(table_scorer, rows)
    assert (found.shares.argmax(1) == b).all()
    assert (found.high[:, b] < rows[:, b].numpy()).all()
    assert (found.low[:, b] < found.expected[:, b]).all()
    assert (found.expected[:, b] < found.high[:, b]).all()


def test_intervals_hold_about_what_they_say(table_scorer: Scorer) -> None:
    x = table_scorer.to_tensor(mixed_table(1000, seed=5)).only()
    found = explain_rows(table_scorer, x)
    for name in ("a", "b", "c"):
        j = column(table_scorer, name)
        seen = ~torch.isnan(x[:, j]).numpy()
        cells = x[:, j].numpy()[seen]
        assert 0.9 < ((found.low[seen, j] <= cells) & (cells <= found.high[seen, j])).mean() <= 1


def test_levels_have_a_probability_and_numbers_an_interval(table_scorer: Scorer) -> None:
    x = table_scorer.golden
    found = explain_rows(table_scorer, x)
    levels = [column(table_scorer, name) for name in ("ok", "site")]
    numbers = [column(table_scorer, name) for name in ("a", "b", "c")]
    seen = ~torch.isnan(x).numpy()
    assert np.isnan(found.probability[:, numbers]).all()
    assert np.isnan(found.low[:, levels]).all()
    assert np.isnan(found.high[:, levels]).all()
    assert np.isfinite(found.low[:, numbers]).all()
    assert np.isfinite(found.high[:, numbers]).all()
    assert np.isfinite(found.probability[:, levels]).tolist() == seen[:, levels].tolist()
    likely = found.probability[:, levels] > 0.5
    assert (found.expected[:, levels] == x[:, levels].numpy())[likely].all()
    ok = levels[0]
    certain = found.probability[:, ok]
    np.testing.assert_allclose(found.shares[:, ok], -np.log(certain), rtol=0.5, atol=0.05)


def test_every_view_and_model_explains_itself(table_scorer: Scorer) -> None:
    detector, _, events = odd_detector()
    stand_in = stand_in_scorer(table_scorer, detector)
    for member in detector.each():
        with torch.inference_mode():
            expected = member.observe(events).terms.negative_elbo.mean(0)
        found = member_shares(stand_in, member, events)
        np.testing.assert_allclose(found.shares.sum(1) + found.latent, expected.numpy(), rtol=1e-4, atol=1e-4)
        assert (found.low <= found.high).all()
        assert np.isfinite(found.expected).all()


def test_typed_columns_are_told_in_units_of_the_data(table_scorer: Scorer) -> None:
    """As the first and only view: `normal` with a number of two values and one of three."""
    table = mixed_table(300, seed=3)
    schema = TablePreprocessor.fit(infer_schema(table).schema, table).schema
    x = TablePreprocessor(schema).to_tensor(table).only()
    x[:, 0], x[:, 1] = (x[:, 0] > 0) * 4.0 + 3, (x[:, 0] > 1) * 2.0 + (x[:, 0] > 0) * 5
    settings = {"view": "normal", "latent": 2, "typed": {0: (3.0, 7.0), 1: (0.0, 5.0, 7.0)}}
    detector = Detector(DetectorSpec(models=(ModelSpec.model_validate(settings),)), schema)
    member = next(detector.each())
    member.view.fit(x)
    detector.eval()
    found = member_shares(stand_in_scorer(table_scorer, detector, schema), member, x)
    assert set(np.unique(found.expected[:, 0])) <= {3.0, 7.0}
    assert set(np.unique(found.expected[:, 1])) <= {0.0, 5.0, 7.0}
    assert np.isnan(found.low[:, :2]).all()
    assert np.isfinite(found.probability[:, :2]).all()
    assert isinstance(member.view, StandardView)
    assert member.view.inverse(torch.full((1, 5), 3.0))[0, :2].tolist() == [7.0, 7.0], "another value than all three"


def test_images_have_no_columns(image_scorer: Scorer) -> None:
    with pytest.raises(SchemaError, match="no columns"):
        explain_rows(image_scorer, image_scorer.golden)


def stand_in_scorer(scorer: Scorer, detector: Detector, schema: TableSchema | None = None) -> Scorer:
    """A scorer with another detector, as far as explanations ask."""
    other = object.__new__(Scorer)
    manifest = scorer.manifest.model_copy(update={"item": schema or detector_schema(detector, scorer)})
    vars(other).update(manifest=manifest, detector=detector, device=scorer.device)
    return other


def detector_schema(detector: Detector, scorer: Scorer) -> TableSchema:
    assert isinstance(scorer.schema, TableSchema)
    kept = [column for column in scorer.schema.columns if column.name in ("a", "c")]
    return scorer.schema.model_copy(update={"columns": tuple(kept)})
