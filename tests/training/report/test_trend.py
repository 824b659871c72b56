"""Rows that change along the file are seen, and rows in random order are not."""

import numpy as np
import pyarrow as pa
import pytest

from elbound.data.infer import infer_schema
from elbound.data.table import TablePreprocessor
from tests.conftest import mixed_table
from training.report.collapse import columns_depend
from training.report.facts import NotChecked, TrendFacts
from training.report.trend import LEAST_LATER, follow_file, one_row_each
from training.report.verdict import alarms_ahead


def follow(table: pa.Table, *, seed: int = 0, alpha: float = 0.05, groups: list[str] | None = None) -> TrendFacts:
    schema = infer_schema(table).schema
    x = TablePreprocessor.fit(schema, table).to_tensor(table).only()
    found = follow_file(x, schema, groups, alpha=alpha, seed=seed)
    assert isinstance(found, TrendFacts), found
    return found


def numbers(rows: np.ndarray) -> pa.Table:
    return pa.table({f"c{i}": column for i, column in enumerate(rows.T)})


def text(draw: np.random.Generator, n: int, columns: int) -> pa.Table:
    words = np.array(["red", "green", "blue", "grey"])
    return pa.table({f"c{i}": words[draw.choice(4, n, p=[0.6, 0.25, 0.1, 0.05])] for i in range(columns)})


@pytest.mark.parametrize("rise", [1.0, 2.0, -3.0])
def test_a_slow_trend_names_its_column(rise: float) -> None:
    for seed in range(3):
        rows = np.random.default_rng(seed).normal(size=(1_500, 6))
        rows[:, 2] += np.linspace(0, rise, len(rows))
        found = follow(numbers(rows), seed=seed)
        assert [column.name for column in found.growing] == ["c2"]
        assert np.sign(found.growing[0].correlation) == np.sign(found.growing[0].shift) == np.sign(rise)
        shuffled = np.random.default_rng(seed).permutation(rows)
        at_rest = follow(numbers(shuffled), seed=seed)
        assert not at_rest.growing
        assert not alarms_ahead(at_rest)


@pytest.mark.parametrize("start", [0.9, 0.95])
def test_a_step_near_the_end_alarms_and_names_its_column(start: float) -> None:
    rows = np.random.default_rng(0).normal(size=(1_000, 6))
    rows[int(start * len(rows)) :, 4] += 3
    found = follow(numbers(rows))
    assert alarms_ahead(found)
    assert found.check.items == 100
    assert found.moved is not None
    assert found.moved.name == "c4"


def test_rows_in_random_order_are_at_rest() -> None:
    reported = 0
    for seed in range(30):
        draw = np.random.default_rng(seed)
        tables = (
            numbers(draw.normal(size=(300, 5))),
            mixed_table(300, seed=seed),
            text(draw, 300, 2),
            pa.table({"a": draw.random(300) < 0.4, "b": draw.random(300) < 0.02, "c": draw.poisson(1.5, 300)}),
        )
        for table in tables:
            found = follow(table, seed=seed, alpha=(0.01, 0.05, 0.1)[seed % 3])
            reported += alarms_ahead(found) or bool(found.growing)
    assert reported <= 1  # 120 tables, 1 in 1,000 each


def test_rows_that_resemble_their_neighbours_have_no_trend() -> None:
    for seed in range(10):
        draw = np.random.default_rng(seed)
        rows = draw.normal(size=(1_000, 4))
        for i in range(1, len(rows)):
            rows[i] = 0.9 * rows[i - 1] + 0.19**0.5 * rows[i]
        assert not follow(numbers(rows), seed=seed).growing


def test_of_each_group_one_row_counts() -> None:
    """Rows of a group are alike: as rows they would be far from those before, as groups they are at rest."""
    for seed in range(5):
        draw = np.random.default_rng(seed)
        rows = np.repeat(draw.normal(size=(300, 3)), 20, axis=0) + 0.1 * draw.normal(size=(6_000, 3))
        groups = [f"g{i // 20}" for i in range(len(rows))]
        found = follow(numbers(rows), seed=seed, groups=groups)
        assert found.check.items == 30
        assert not alarms_ahead(found)
        assert not found.growing
    chosen = one_row_each(["b", "b", "a", "a", "c"], np.random.default_rng(0))
    assert [["b", "b", "a", "a", "c"][i] for i in chosen] == ["b", "a", "c"]


def test_the_answer_is_the_same_again_and_too_few_rows_say_so() -> None:
    table = mixed_table(500)
    assert follow(table) == follow(table)
    schema = infer_schema(table).schema
    x = TablePreprocessor.fit(schema, table).to_tensor(table).only()
    few = follow_file(x[: 10 * LEAST_LATER - 1], schema, None, alpha=0.05, seed=0)
    assert isinstance(few, NotChecked)
    assert "it takes 100" in few.because


def test_gaps_and_constant_columns_are_no_trend() -> None:
    draw = np.random.default_rng(0)
    gappy = [None if i > 400 else value for i, value in enumerate(draw.normal(size=500).tolist())]
    table = pa.table({"a": draw.normal(size=500), "gappy": gappy, "rare": draw.random(500) < 0.01})
    assert not follow(table).growing


def test_dependence_between_any_two_columns_is_seen() -> None:
    def depend(table: pa.Table) -> bool:
        schema = infer_schema(table).schema
        return columns_depend(TablePreprocessor.fit(schema, table).to_tensor(table).only(), schema)

    for seed in range(20):
        draw = np.random.default_rng(seed)
        assert not depend(text(draw, 600, 4))
        assert not depend(numbers(draw.normal(size=(600, 4))))
    angle = draw.uniform(0, 2 * np.pi, 600)
    circle = np.stack([np.cos(angle), np.sin(angle)], 1) + 0.1 * draw.normal(size=(600, 2))
    assert depend(numbers(circle))  # without any correlation
    colour = draw.choice(4, 600)
    names = np.array(["red", "green", "blue", "grey"])
    assert depend(pa.table({"a": names[colour], "b": draw.normal(size=600) + colour}))
