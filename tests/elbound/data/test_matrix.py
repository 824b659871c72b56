"""What is read as an array of numbers says the same as it does read as objects."""

import json

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elbound.data.table import TablePreprocessor
from elbound.files.json import json_matrix
from elbound.schema import Column, TableSchema

NUMBER = st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(-(2**63), 2**64 - 1))
CELL = st.one_of(
    NUMBER, NUMBER, st.booleans(), st.none(), st.text(max_size=2), st.lists(NUMBER, max_size=2), st.just({})
)
ROW = st.one_of(st.lists(CELL, max_size=4), st.lists(NUMBER, max_size=4), NUMBER)
MATRIX = st.integers(1, 4).flatmap(lambda d: st.lists(st.lists(NUMBER, min_size=d, max_size=d), min_size=1, max_size=5))
TWO = TableSchema(columns=tuple(Column(name=name, kind="numeric") for name in "ab"))


@given(MATRIX, st.booleans(), st.sampled_from([None, 1]))
def test_rows_of_numbers_are_read_to_the_last_bit(rows: list[list[float]], named: bool, indent: int | None) -> None:
    found = json_matrix(json.dumps({"rows": rows} if named else rows, indent=indent).encode())
    assert found is not None
    assert found.tobytes() == np.array([[float(cell) for cell in row] for row in rows]).tobytes()


@given(st.one_of(st.lists(ROW, max_size=4), MATRIX, ROW))
def test_anything_else_is_left_to_the_general_way(document: object) -> None:
    found = json_matrix(orjson.dumps(document))
    is_matrix = (
        isinstance(document, list)
        and all(isinstance(row, list) and row and {type(cell) for cell in row} <= {int, float} for row in document)
        and len({len(row) for row in document}) == 1
    )
    assert (found is not None) == is_matrix
    if found is not None:
        assert found.tolist() == np.array(document, dtype=np.float64).tolist()


@pytest.mark.parametrize("body", [
    b"", b"[]", b"{}", b"[[]]", b"[[1],[]]", b"[[1,2],3]", b"[[1,[2]]]", b"[[[],[1,2]]]", b"[[1,NaN]]", b"[[1,1e400]]",
    b"[[1,99999999999999999999]]", b"[[1,2]] x", b"\xef\xbb\xbf[[1,2]]", b'{"rows":[[1,2]],"rows":[[3,4]]}',
    b'{"rows":[[1,2]],"more":1}', b'{"row":[[1,2]]}', b'{"[":[[1]]}', b"[" * 5000 + b"]" * 5000, b"[[01,2]]", b"[[1,2]",
])  # fmt: skip
def test_what_is_no_matrix(body: bytes) -> None:
    assert json_matrix(body) is None


def test_a_matrix_stands_for_rows_only_where_they_are_numbers_alone_and_as_wide_as_the_table() -> None:
    def takes(schema: TableSchema, width: int = 2) -> bool:
        return TablePreprocessor(schema).takes_matrix(np.zeros((3, width)))

    assert takes(TWO)
    assert not takes(TWO, 3)
    assert not takes(TWO.model_copy(update={"id_column": "name"}))
    assert not takes(TWO.model_copy(update={"group_by": "plant"}))
    assert not takes(TableSchema(columns=(*TWO.columns[:1], Column(name="b", kind="boolean"))))
