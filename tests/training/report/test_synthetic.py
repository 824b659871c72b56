"""Synthetic anomalies keep what the schema says of an event, and differ from their source."""

import pyarrow as pa
import pytest
import torch

from elbound.schema import Column, ImageSchema, TableSchema
from elbound.scorer import Scorer
from training.report.synthetic import image_makers, make_anomalies, table_makers


def test_rows_keep_shape_dtype_and_the_values_that_columns_can_have(
    table_scorer: Scorer, normal_rows: pa.Table
) -> None:
    x = table_scorer.to_tensor(normal_rows).x
    schema = table_scorer.schema
    assert isinstance(schema, TableSchema)
    made = make_anomalies(x, schema, most=150, seed=0)
    assert (made.x.dtype, made.x.shape[1:]) == (x.dtype, x.shape[1:])
    assert 145 <= len(made.x) == len(made.kinds) <= 150  # a row without numbers cannot be shifted
    assert set(made.kinds) == {
        "cells swapped between rows", "one number shifted", "numbers scaled", "levels exchanged"
    }  # fmt: skip
    for j, column in enumerate(schema.columns):
        cells = made.x[:, j][~made.x[:, j].isnan()]
        if column.kind in ("boolean", "categorical"):
            assert set(cells.tolist()) <= set(range(max(2, len(column.levels))))
        assert torch.isfinite(cells).all()
    seen = {tuple(row) for row in torch.nan_to_num(x, nan=-99.0).tolist()}
    again = seen & {tuple(row) for row in torch.nan_to_num(made.x, nan=-99.0).tolist()}
    assert len(again) <= 2  # swapped cells can make another row of the pool by chance


def test_no_item_is_used_twice() -> None:
    x = 1_000.0 * torch.arange(40, dtype=torch.float64)[:, None].expand(40, 3) + torch.tensor([0.0, 1.0, 2.0])
    schema = TableSchema(columns=tuple(Column(name=name, kind="numeric") for name in "abc"))
    assert len(make_anomalies(x, schema, most=1_000, seed=0).x) <= 40


def test_the_same_seed_makes_the_same_anomalies(table_scorer: Scorer) -> None:
    first, second = (make_anomalies(table_scorer.golden, table_scorer.schema, most=8, seed=3) for _ in range(2))
    assert first.kinds == second.kinds
    assert torch.equal(first.x.nan_to_num(), second.x.nan_to_num())


def test_kinds_are_those_that_the_columns_allow() -> None:
    x = torch.tensor([[0.0], [1.0], [1.0]], dtype=torch.float64)
    assert list(table_makers(TableSchema(columns=(Column(name="a", kind="boolean"),)), x)) == ["levels exchanged"]
    numeric = TableSchema(columns=(Column(name="a", kind="numeric"),))
    assert list(table_makers(numeric, x)) == ["one number shifted", "numbers scaled"]


def test_a_row_that_cannot_be_altered_is_left_out() -> None:
    schema = TableSchema(columns=(Column(name="a", kind="numeric"),))
    missing = torch.full((6, 1), torch.nan, dtype=torch.float64)
    assert len(make_anomalies(missing, schema, most=6, seed=0).x) == 0


@pytest.mark.parametrize(
    ("channels", "bits", "dtype"), [(1, 8, torch.uint8), (3, 8, torch.uint8), (1, 16, torch.int32)]
)
@pytest.mark.parametrize(("height", "width"), [(12, 9), (4, 4)])
def test_images_keep_shape_dtype_and_range(
    channels: int, bits: int, dtype: torch.dtype, height: int, width: int
) -> None:
    schema = ImageSchema(height=height, width=width, channels=channels, bits=bits)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 2**bits, (60, *schema.event), generator=generator).to(dtype)
    made = make_anomalies(x, schema, most=60, seed=0)
    assert (made.x.dtype, made.x.shape[1:]) == (dtype, x.shape[1:])
    assert 0 <= int(made.x.min()) <= int(made.x.max()) <= 2**bits - 1
    assert set(made.kinds) == set(image_makers(schema))
    assert len(made.x) > 50
