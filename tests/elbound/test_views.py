"""What the views make of a table: scales, normal scores, typed values; finite for whatever comes."""

import numpy as np
import pytest
import torch
from scipy import stats

from elbound.fit.defaults import bank_size, typed_values
from elbound.schema import Column, TableSchema
from elbound.views import build_view, modelled_schema
from elbound.views.table import KNOTS, MAX_COORDINATE, MAX_DEVIATION, StandardView


def numbers(d: int) -> TableSchema:
    return TableSchema(columns=tuple(Column(name=f"x{i}", kind="numeric") for i in range(d)))


def columns(n: int, seed: int = 0) -> torch.Tensor:
    draw = np.random.default_rng(seed)
    return torch.from_numpy(
        np.stack([draw.normal(size=n), np.exp(2 * draw.normal(size=n)), draw.standard_cauchy(n)], 1)
    )


@pytest.mark.parametrize("n", [100, 300, 5000])
def test_a_long_tailed_column_becomes_normal_and_others_only_standard(n: int) -> None:
    x = columns(n)
    view = build_view("normal", numbers(3), {}).fit(x)
    seen = view(x).numpy()
    assert view.mapped.tolist() == [False, True, True]
    for j in (1, 2):
        assert stats.kstest(seen[:, j], "norm").statistic < 2 / n**0.5
        ranks = stats.rankdata(x[:, j].numpy())
        assert (np.diff(seen[np.argsort(ranks), j]) >= 0).all(), "the order of values is kept"
    torch.testing.assert_close(seen[:, 0], build_view("standard", numbers(3), {}).fit(x)(x).numpy()[:, 0])


def test_the_map_goes_on_rising_beyond_what_was_seen() -> None:
    x = columns(2000)
    view = build_view("normal", numbers(3), {}).fit(x)
    top = x.max(0).values
    further = torch.stack([top * factor for factor in (1, 2, 10, 1e3, 1e30)])
    seen = view(further)
    assert torch.isfinite(seen).all()
    assert (seen[1:, 1] >= seen[:-1, 1]).all()
    assert seen[1, 1] > seen[0, 1] > 3
    assert seen[-1, 1] == MAX_DEVIATION
    assert view.coordinates(further).abs().max() <= MAX_COORDINATE


@pytest.mark.parametrize("name", ["standard", "normal"])
def test_a_view_can_be_undone(name: str) -> None:
    """Within what was seen, beyond it, and where a cell is missing."""
    x = columns(1000)
    view = build_view(name, numbers(3), {}).fit(x)
    x = torch.cat([x, 3 * x[:20], torch.full((1, 3), torch.nan, dtype=torch.float64)])
    assert isinstance(view, StandardView)
    torch.testing.assert_close(view.inverse(view.numbers(x)), x, equal_nan=True, rtol=1e-8, atol=1e-8)


def test_mid_ranks_with_ties_and_more_values_than_knots() -> None:
    """Half of the rows are zero: their normal score is that of the middle of their ranks."""
    x = torch.cat([torch.zeros(3000), torch.arange(1, 3001).double() ** 3])[:, None].double()
    view = build_view("normal", numbers(1), {}).fit(x)
    assert view.knots.shape == (1, KNOTS)
    assert float(view(torch.zeros(1, 1).double())) == pytest.approx(stats.norm.ppf(0.25), abs=0.01)
    assert float(view(torch.tensor([[1500.0**3]]).double())) == pytest.approx(stats.norm.ppf(0.75), abs=0.01)


@pytest.mark.parametrize("name", ["standard", "normal"])
def test_nothing_is_nan_but_gaps(name: str) -> None:
    """Constant columns, all-missing ones, tails to 1e30, duplicates."""
    draw = np.random.default_rng(0)
    heavy = draw.choice([1.0, -1.0], 100) * 10 ** draw.uniform(-30, 30, 100)
    x = torch.from_numpy(np.stack([np.full(100, 7.0), np.full(100, np.nan), heavy, heavy, np.full(100, 1e30)], 1))
    view = build_view(name, numbers(5), {}).fit(x)
    odd = torch.tensor([[1e308, 1.0, -1e308, 0.0, -1e30], [np.nan] * 5], dtype=torch.float64)
    seen = view(torch.cat([x, odd]))
    torch.testing.assert_close(torch.isnan(seen), torch.isnan(torch.cat([x, odd])))
    assert torch.isfinite(view.coordinates(torch.cat([x, odd]))).all()


def test_numbers_of_few_values_are_typed_by_rule() -> None:
    draw = np.random.default_rng(0)
    n = 400
    kinds = {
        "rare": (draw.random(n) < 0.05) * 1.0,
        "code": draw.choice([1.0, 2.0, 5.0], n, p=[0.7, 0.2, 0.1]),
        "grade": draw.integers(1, 6, n) * 1.0,
        "half": draw.choice([0.5, 1.5], n),
        "many": draw.integers(0, 40, n) * 1.0,
        "constant": np.ones(n),
    }
    x = torch.from_numpy(np.stack(list(kinds.values()), 1))
    schema = TableSchema(columns=tuple(Column(name=name, kind="numeric") for name in kinds))
    typed = typed_values(schema, x)
    assert typed == {0: (0.0, 1.0), 1: (1.0, 2.0, 5.0)}
    assert typed_values(schema, x[:199]) == {}
    modelled = modelled_schema(schema, typed)
    assert [column.kind for column in modelled.columns] == ["boolean", "categorical", *["numeric"] * 4]
    view = build_view("normal", schema, typed).fit(x)
    odd = x[:1].repeat(3, 1)
    odd[:, 0] = torch.tensor([1.0, 0.5, torch.nan])
    odd[:, 1] = torch.tensor([5.0, 3.0, 9.0])
    seen = view(odd)
    assert seen[:2, 0].tolist() == [1.0, 2.0]
    assert bool(torch.isnan(seen[2, 0]))
    assert seen[:, 1].tolist() == [2.0, 3.0, 3.0]


def test_the_bank_is_bounded_in_rows_and_in_numbers() -> None:
    assert bank_size(100, 10) == 100
    assert bank_size(50_000, 32) == 2000
    assert bank_size(50_000, 5000) == 800
    assert bank_size(50_000, 100_000) == 200
