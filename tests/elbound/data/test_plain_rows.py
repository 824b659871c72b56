"""The short way of plain JSON rows gives what the general way gives, or leaves it to that."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elbound.data.cells import PlainRows
from elbound.data.table import TablePreprocessor
from elbound.schema import Column, TableSchema

LEVELS = ("red", " padded ", "NA", "red", "3", "true", "", "grün", "x\x1c", "\u3000wide")
MIXED = TableSchema(
    columns=(
        Column(name="a", kind="numeric"),
        Column(name="b", kind="boolean", nullable=True),
        Column(name="c", kind="categorical", levels=LEVELS),
        Column(name="d", kind="datetime", nullable=True),
        Column(name="e", kind="numeric", nullable=True),
    )
)
NUMBERS = TableSchema(columns=tuple(Column(name=name, kind="numeric") for name in "abc"))
ONE = TableSchema(columns=(Column(name="a", kind="numeric"),))
NO_LEVELS = TableSchema(columns=(Column(name="a", kind="numeric"), Column(name="b", kind="categorical")))

NUMBER = st.one_of(
    st.floats(allow_nan=False),
    st.integers(-(2**63), 2**64),
    st.sampled_from([2**53 + 1, -(2**53) - 1, 10**400, 1e308, 5e-324, -0.0]),
)
CELL = st.one_of(
    NUMBER,
    st.booleans(),
    st.none(),
    st.sampled_from([*LEVELS, "1", " 2.5 ", "1e5", "nan", "yes", "2026-11-21T08:00:00Z", "\ud800", "other"]),
    st.lists(st.integers(), max_size=2),
)
USUAL = {
    "numeric": st.one_of(NUMBER, st.none()),
    "boolean": st.one_of(st.booleans(), st.none()),
    "categorical": st.one_of(st.sampled_from(LEVELS), st.none()),
    "datetime": st.one_of(NUMBER, st.none()),
}


@st.composite
def some_rows(draw: st.DrawFn, schema: TableSchema) -> list[object]:
    """Mostly plain rows as objects or arrays; some with odd cells, other keys or other lengths."""
    rows: list[object] = []
    for _ in range(draw(st.integers(1, 4))):
        odd = draw(st.integers(0, 5)) == 0
        cells = [draw(CELL if odd and draw(st.booleans()) else USUAL[column.kind]) for column in schema.columns]
        if draw(st.booleans()):
            names = draw(st.permutations(schema.names))
            row: object = {name: cells[schema.names.index(name)] for name in names}
            if odd and draw(st.booleans()):
                row = dict(list(row.items())[1:], **{draw(st.sampled_from(["zz", "a", "e"])): 1})  # type: ignore[attr-defined]
        else:
            row = cells[: draw(st.integers(0, len(cells)))] if odd and draw(st.booleans()) else cells
        rows.append(row)
    return rows


@pytest.mark.parametrize("schema", [MIXED, NUMBERS, ONE, NO_LEVELS], ids=["mixed", "numbers", "one", "no levels"])
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_plain_rows_are_read_exactly_as_in_general(schema: TableSchema, data: st.DataObject) -> None:
    rows = data.draw(some_rows(schema))
    short, general = TablePreprocessor(schema), TablePreprocessor(schema)
    general._plain.readable = False
    found, expected = short.rows_to_tensor(rows), general.rows_to_tensor(rows)  # type: ignore[arg-type]
    assert found.x.numpy().tobytes() == expected.x.numpy().tobytes()
    assert found.index.tolist() == expected.index.tolist()
    assert (found.n, found.errors.keys(), found.names, found.groups) == (
        expected.n, expected.errors.keys(), expected.names, expected.groups,
    )  # fmt: skip
    assert {i: error.message for i, error in found.errors.items()} == {
        i: error.message for i, error in expected.errors.items()
    }
    assert found.unseen == expected.unseen


def test_the_usual_rows_go_the_short_way() -> None:
    """Otherwise the test above compares the general way with itself."""
    rows = json.loads('[{"a": 1, "b": true, "c": "red", "d": 1e9, "e": null}, [0.5, null, "3", null, 2]]')
    found = PlainRows(MIXED).read(rows)
    assert found is not None
    np.testing.assert_array_equal(found, [[1, 1, 0, 1e9, np.nan], [0.5, np.nan, 4, np.nan, 2]])
    assert PlainRows(NUMBERS).read([{"c": 3, "a": 1, "b": True}]) is not None
    assert PlainRows(ONE).read([{"a": None}]) is not None


def test_an_identifier_or_a_group_is_left_to_the_general_way() -> None:
    for extra in ({"id_column": "id"}, {"group_by": "site"}):
        schema = NUMBERS.model_copy(update=extra)
        assert PlainRows(schema).read([[1, 2, 3]]) is None
