"""Cells that are missing when a row is scored, and columns that held one value."""

import math

import numpy as np
import pyarrow as pa
import pytest
import torch

from elbound.data.infer import infer_schema
from elbound.data.table import TablePreprocessor
from elbound.fit.detector import DetectorConfig, fit_detector
from elbound.model.likelihoods.columns import ColumnsLikelihood
from elbound.schema import Column, TableSchema
from elbound.scorer import Scorer
from elbound.views.table import NormalView, StandardView, column_scales

MIXED = TableSchema(
    columns=(
        Column(name="number", kind="numeric"),
        Column(name="gappy", kind="numeric", nullable=True),
        Column(name="yes", kind="boolean"),
        Column(name="level", kind="categorical", levels=("a", "b", "c")),
        Column(name="time", kind="datetime"),
    )
)


def columns_of(*, odd_gaps: bool) -> ColumnsLikelihood:
    return ColumnsLikelihood(MIXED, variance_floor=0.01, novelty=1e-3, odd_gaps=odd_gaps)


def test_a_gap_that_training_never_saw_costs_what_an_unseen_level_costs() -> None:
    """log p of a gap is that of one of the values that training never saw; a nullable column's drops out."""
    likelihood, before = columns_of(odd_gaps=True), columns_of(odd_gaps=False)
    parameters = torch.randn(1, 2, 3, *likelihood.parameter_shape)
    parameters[..., -1] = -40  # a trained decoder gives nothing to `other`, the last logit
    nothing = torch.full((1, 1, 3, 5), torch.nan)
    expected = torch.tensor([1e-3 / 2, 1.0, 1e-3 / 3, 1e-3 / 4, 1e-3 / 2]).log()
    torch.testing.assert_close(likelihood.log_prob(parameters, nothing), expected.expand(1, 2, 3, 5))
    assert (before.log_prob(parameters, nothing) == 0).all()
    whole = torch.tensor([0.3, -1.0, 1.0, 2.0, 0.1]).expand(1, 1, 3, 5)
    assert torch.equal(likelihood.log_prob(parameters, whole), before.log_prob(parameters, whole))
    unseen = likelihood.log_prob(parameters, torch.tensor([0.3, -1.0, 2.0, 3.0, 0.1]).expand(1, 1, 3, 5))
    gone = likelihood.log_prob(parameters, torch.tensor([0.3, -1.0, math.nan, math.nan, 0.1]).expand(1, 1, 3, 5))
    torch.testing.assert_close(gone[..., 2:4], unseen[..., 2:4])


def rows(n: int, *, seed: int) -> pa.Table:
    draw = np.random.default_rng(seed)
    z = draw.normal(size=(n, 3))
    numbers = {f"c{i}": z[:, i % 3] + 0.3 * draw.normal(size=n) for i in range(5)}
    kind = np.array(["a", "b", "c"])[(z[:, 0] > 0).astype(int) + (z[:, 1] > 0.5)]
    return pa.table({**numbers, "kind": kind, "fixed": np.full(n, 5.1)})


@pytest.fixture(scope="module")
def trained() -> Scorer:
    table = rows(1_000, seed=0)
    schema = infer_schema(table, include=("fixed",)).schema
    return fit_detector(table, schema, DetectorConfig(alpha=0.05, device="cpu", steps=400))


def alarm_share(scorer: Scorer, table: pa.Table) -> float:
    scored = scorer.score_tensor(scorer.to_tensor(table).only())
    return float((scorer.calibration.verdict.p_values(scored.score) <= 0.05).mean())


@pytest.mark.parametrize(("name", "least"), [("kind", 0.99), ("c0", 0.7), ("c3", 0.7)])
def test_a_cell_that_was_always_there_raises_an_alarm_when_it_is_empty(
    trained: Scorer, name: str, least: float
) -> None:
    fresh = rows(300, seed=1)
    place = fresh.column_names.index(name)
    empty = fresh.set_column(place, name, pa.nulls(300, fresh.schema.field(name).type))
    assert alarm_share(trained, fresh) < 0.12
    assert alarm_share(trained, empty) > least


@pytest.mark.parametrize("value", [5.2, 5.1001, 0.0, -5.1, 1e9])
def test_any_other_value_of_a_constant_column_raises_an_alarm(trained: Scorer, value: float) -> None:
    fresh = rows(300, seed=1)
    other = fresh.set_column(6, "fixed", pa.array(np.full(300, value)))
    assert alarm_share(trained, other) == 1.0


def test_a_constant_that_went_through_float32_is_the_same_value(trained: Scorer) -> None:
    fresh = rows(300, seed=1)
    rounded = fresh.set_column(6, "fixed", pa.array(np.full(300, np.float64(np.float32(5.1)))))
    assert alarm_share(trained, rounded) == alarm_share(trained, fresh)


@pytest.mark.parametrize("view", [StandardView, NormalView])
@pytest.mark.parametrize("value", [0.0, 5.1, -1e12, 1e-9])
def test_a_constant_column_lies_at_zero_and_every_other_value_at_least_one_away(
    view: type[StandardView], value: float
) -> None:
    schema = TableSchema(columns=(Column(name="a", kind="numeric"), Column(name="b", kind="numeric")))
    fixed = torch.full((50,), value, dtype=torch.float64)
    x = torch.stack([torch.linspace(-1, 1, 50, dtype=torch.float64), fixed], 1)
    fitted = view(schema, {1: (value,)}).fit(x)
    assert (fitted(x)[:, 1] == 0).all()
    near = x[:3].clone()
    near[:, 1] += torch.tensor([-1.0, 1.0, 3.0]) * max(abs(value), 1.0) * 1e-5
    assert (fitted(near)[:, 1].abs() >= 1).all()
    assert torch.equal(fitted(near)[:, 1].sign(), torch.tensor([-1.0, 1.0, 1.0]))
    assert torch.isnan(fitted(torch.full((1, 2), torch.nan, dtype=torch.float64))).all()


def test_a_column_that_hardly_varies_is_not_constant() -> None:
    """A minute of nanoseconds since 1970, which differ by 1e-11 of their size."""
    column = 1.79e18 + torch.linspace(0, 6e7, 400, dtype=torch.float64)
    mean, scale = column_scales(torch.stack([column, torch.full_like(column, 1.79e18)], 1))
    assert scale[0] == pytest.approx(float(column.std(correction=0)), rel=1e-3)
    assert scale[1] == 1
    standard = (column - mean[0]) / scale[0]
    assert standard.std() == pytest.approx(1, abs=0.01)


def test_a_row_without_a_single_value_is_an_error_of_that_row_alone() -> None:
    schema = TableSchema(
        columns=(Column(name="a", kind="numeric"), Column(name="b", kind="categorical", levels=("x",)))
    )
    preprocessor = TablePreprocessor(schema)
    nullable = TablePreprocessor(
        schema.model_copy(update={"columns": tuple(c.model_copy(update={"nullable": True}) for c in schema.columns)})
    )
    for each in (preprocessor, nullable):
        for items in (
            each.rows_to_tensor([{"a": None, "b": None}, {"a": 1, "b": "x"}, [None, "x"]]),
            each.to_tensor(pa.table({"a": ["", "1", None], "b": [None, "x", "x"]})),
        ):
            assert items.index.tolist() == [1, 2]
            assert [(error.code, error.where) for error in items.errors.values()] == [("row_empty", "row 0")]
            assert items.errors[0].message == "every cell is empty"
    numbers = TablePreprocessor(TableSchema(columns=tuple(Column(name=n, kind="numeric") for n in "ab")))
    items = numbers.array_to_tensor(np.array([[1, np.nan], [np.nan, np.nan]]))
    assert list(items.errors) == [1]
    assert items.x.tolist()[0][0] == 1
