"""A score is a fixed function of its item, whatever it came with and however it came."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from elbound.errors import SchemaError
from elbound.files.arrow import parse_arrow
from elbound.files.csv import parse_csv
from elbound.files.json import parse_ndjson
from elbound.files.npy import parse_npy
from elbound.files.parquet import parse_parquet
from elbound.scorer import Scorer

TOLERANCE = 1e-5
"""Relative to the score or to one nat, whichever is larger: float32 sums of terms of that size."""


def assert_same(found: np.ndarray, expected: np.ndarray) -> None:
    assert (np.abs(found - expected) <= TOLERANCE * np.maximum(np.abs(expected), 1)).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.floats(0.1, 1e4))
def test_a_row_scores_the_same_alone_and_in_any_batch(seed: int, size: int, scale: float) -> None:
    scorer = _scorer("table")
    draw = np.random.default_rng(seed)
    x = torch.from_numpy(draw.normal(size=(60, 5)) * scale)
    x[:, 3] = torch.from_numpy(draw.integers(0, 2, 60))
    x[:, 4] = torch.from_numpy(draw.integers(0, 4, 60))
    x[torch.from_numpy(draw.random((60, 5)) < 0.1)] = torch.nan
    whole = scorer.raw_scores(x)
    parts = np.concatenate([scorer.raw_scores(part) for part in x.split(size)])
    assert_same(parts, whole)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 20))
def test_an_image_scores_the_same_alone_and_in_any_batch(seed: int, size: int) -> None:
    scorer = _scorer("image")
    x = torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (24, 1, 12, 12), dtype=np.uint8))
    assert_same(np.concatenate([scorer.raw_scores(part) for part in x.split(size)]), scorer.raw_scores(x))


_KEPT: dict[str, Scorer] = {}


@pytest.fixture(autouse=True)
def _keep(table_scorer: Scorer, image_scorer: Scorer) -> None:
    """Hypothesis calls a test many times; fixtures of the session reach it here."""
    _KEPT.update(table=table_scorer, image=image_scorer)


def _scorer(kind: str) -> Scorer:
    return _KEPT[kind]


def test_scoring_twice_is_bit_for_bit_the_same(table_scorer: Scorer, image_scorer: Scorer) -> None:
    for scorer in (table_scorer, image_scorer):
        assert (scorer.raw_scores(scorer.golden) == scorer.raw_scores(scorer.golden)).all()


def test_every_format_of_the_same_rows_gives_the_same_scores(table_scorer: Scorer, normal_rows: pa.Table) -> None:
    text, parquet, stream, feather = (pa.BufferOutputStream() for _ in range(4))
    pyarrow.csv.write_csv(normal_rows, text)
    pyarrow.parquet.write_table(normal_rows, parquet)
    with pyarrow.ipc.new_stream(stream, normal_rows.schema) as writer:
        writer.write_table(normal_rows)
    with pyarrow.ipc.new_file(feather, normal_rows.schema) as writer:
        writer.write_table(normal_rows)
    rows = normal_rows.to_pylist()
    lines = "\n".join(json.dumps(row) for row in rows).encode()
    uploads = [
        parse_csv(_bytes(text)),
        parse_parquet(_bytes(parquet)),
        parse_arrow(_bytes(stream)),
        parse_arrow(_bytes(feather)),
        parse_ndjson(io.BytesIO(lines)),
        rows,
        [list(row.values()) for row in rows],
        normal_rows,
    ]
    scores = [table_scorer.raw_scores(table_scorer.to_tensor(upload).only()) for upload in uploads]
    for found in scores[1:]:
        assert (found == scores[0]).all()


def test_an_array_scores_as_the_table_of_the_same_numbers(numeric_scorer: Scorer, normal_rows: pa.Table) -> None:
    table = normal_rows.select(["a", "b", "c"])
    array = np.stack([table[name].to_numpy() for name in table.column_names], 1)
    packed = io.BytesIO()
    np.save(packed, array)
    expected = numeric_scorer.raw_scores(numeric_scorer.to_tensor(table).only())
    for upload in (array, parse_npy(packed.getvalue()), np.asfortranarray(array)):
        assert (numeric_scorer.raw_scores(numeric_scorer.to_tensor(upload).only()) == expected).all()


def test_what_the_model_does_not_score_is_refused(table_scorer: Scorer, image_scorer: Scorer) -> None:
    with pytest.raises(SchemaError, match="scores images"):
        image_scorer.to_tensor([{"a": 1}])
    with pytest.raises(SchemaError, match="scores rows of a table"):
        table_scorer.images_to_tensor([b""])
    with pytest.raises(SchemaError, match=r"expected events of shape \('n', 5\), but got \(2, 4\)"):
        table_scorer.raw_scores(torch.zeros(2, 4))


def test_a_gap_is_marked_only_where_training_saw_gaps(table_scorer: Scorer) -> None:
    """In a column that never had one, a gap reads as the mean and its likelihood drops out."""
    schema = table_scorer.schema
    assert [column.nullable for column in schema.columns] == [False, True, False, False, True]  # type: ignore[union-attr]
    row = table_scorer.golden[:1].clone()
    row[0, 0] = torch.nan
    assert np.isfinite(table_scorer.raw_scores(row)).all()


def _bytes(stream: pa.BufferOutputStream) -> io.BytesIO:
    return io.BytesIO(stream.getvalue().to_pybytes())
