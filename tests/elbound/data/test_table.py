"""Rows to tensors and back: names, levels and gaps, and one bad row that costs no other."""

import math
import time

import numpy as np
import orjson
import pyarrow as pa
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from elbound.data.raw import RawTable
from elbound.data.table import TablePreprocessor
from elbound.errors import ItemError, SchemaError
from elbound.schema import Column, IgnoredColumn, TableSchema

SCHEMA = TableSchema(
    columns=(
        Column(name="a", kind="numeric"),
        Column(name="b", kind="boolean", nullable=True),
        Column(name="c", kind="categorical", levels=("red", "green"), nullable=True),
    ),
    ignored=(IgnoredColumn(name="note", reason="free text"),),
    id_column="id",
)
PLAIN = SCHEMA.model_copy(update={"id_column": None})
NUMBERS = TableSchema(columns=(Column(name="a", kind="numeric"), Column(name="b", kind="numeric")))
NAN = math.nan


def rows(*found: object) -> list[dict[str, object]]:
    """Rows of any kind, as a caller without types would send them."""
    return list(found)  # type: ignore[arg-type]


def test_objects_and_arrays_are_the_same_rows() -> None:
    items = TablePreprocessor(PLAIN).rows_to_tensor(
        [{"c": "green", "a": 1.5, "b": True}, [2, False, "blue"], ("3", "no", None), {"a": 4, "note": "x"}]
    )
    assert items.x.dtype == torch.float64
    np.testing.assert_array_equal(items.x.numpy(), [[1.5, 1, 1], [2, 0, 2], [3, 0, NAN], [4, NAN, NAN]])
    assert items.index.tolist() == [0, 1, 2, 3]
    assert items.n == 4
    assert items.unseen == {"c": 1}
    assert items.names is None
    assert not items.errors


@pytest.mark.parametrize(
    ("row", "code", "where", "message"),
    [
        ({"a": "x", "b": True, "c": None}, "cell_invalid", "a", "column 'a' must be a number. Got 'x' instead"),
        ({"a": 1, "b": "maybe"}, "cell_invalid", "b", "column 'b' must be true or false. Got 'maybe' instead"),
        ({"a": math.inf}, "cell_invalid", "a", "column 'a' must be finite (write a missing cell as null). Got 'inf'"),
        ({"a": "1e999"}, "cell_invalid", "a", "Got '1e999' instead"),
        ({"a": 10**400}, "cell_invalid", "a", "column 'a' must be finite"),
        ({"a": [1, 2]}, "cell_invalid", "a", "column 'a' must be a number. Got a cell of type list instead"),
        ({"a": 1, "c": {"x": 1}}, "cell_invalid", "c", "column 'c' must be a single value. Got a cell of type dict"),
        ({"a": "\ud800"}, "cell_invalid", "a", r"Got '\\ud800' instead"),
        ({"b": True}, "schema_mismatch", "row 1", "columns are not those of the model; missing: 'a'"),
        ({"a": 1, "d": 2}, "schema_mismatch", "row 1", "columns are not those of the model; unknown: 'd'"),
        ({1: 2}, "schema_mismatch", "row 1", "missing: 'a'; unknown: '1'"),
        ([1, True], "schema_mismatch", "row 1", "has 2 cells, expected 3"),
        ([], "schema_mismatch", "row 1", "has 0 cells, expected 3"),
        ("a", "schema_mismatch", "row 1", "must be an object or an array. Got str instead"),
        (7, "schema_mismatch", "row 1", "must be an object or an array. Got int instead"),
        (None, "schema_mismatch", "row 1", "must be an object or an array. Got NoneType instead"),
    ],
)
def test_one_bad_row_is_its_own_error(row: object, code: str, where: str, message: str) -> None:
    items = TablePreprocessor(PLAIN).rows_to_tensor(rows({"a": 1}, row, [2, True, "red"]))
    assert items.n == 3
    assert items.index.tolist() == [0, 2]
    np.testing.assert_array_equal(items.x.numpy(), [[1, NAN, NAN], [2, 1, 0]])
    (place,) = items.errors
    error = items.errors[place]
    assert place == 1
    assert (error.code, error.where) == (code, where)
    assert message in error.message
    with pytest.raises(ItemError, match=r"^item 1: "):
        items.only()


def test_a_row_with_two_errors_tells_the_first() -> None:
    items = TablePreprocessor(PLAIN).rows_to_tensor([["x", "maybe", "red"]])
    assert items.errors[0].where == "a"
    assert items.x.shape == (0, 3)


def test_no_rows_are_no_items() -> None:
    preprocessor = TablePreprocessor(PLAIN)
    for items in (
        preprocessor.rows_to_tensor([]),
        preprocessor.to_tensor(
            pa.table({"a": pa.array([], pa.float64()), "b": pa.array([], pa.null()), "c": pa.array([], pa.string())})
        ),
        TablePreprocessor(NUMBERS).array_to_tensor(np.empty((0, 2))),
    ):
        assert items.n == 0
        assert items.x.shape[0] == 0


def test_names_come_from_the_identifier_or_the_place() -> None:
    preprocessor = TablePreprocessor(SCHEMA)
    items = preprocessor.rows_to_tensor(
        [{"a": 1, "id": "r-1"}, {"a": 2}, [3, None, None], {"a": 4, "id": None}, {"a": 5, "id": 17}]
    )
    assert items.names == ["r-1", "1", "2", "3", "17"]
    table = pa.table({"a": [1.0, 2.0], "b": [True, None], "c": ["red", "red"]})
    assert preprocessor.to_tensor(table).names is None
    assert preprocessor.to_tensor(table.append_column("id", [["x", None]])).names == ["x", "1"]


def test_a_table_with_other_columns_is_refused_as_a_whole() -> None:
    preprocessor = TablePreprocessor(PLAIN)
    good = {"a": [1.0], "b": [True], "c": ["red"]}
    assert preprocessor.to_tensor(pa.table({**dict(reversed(good.items())), "note": ["x"]})).x.tolist() == [[1, 1, 0]]
    with pytest.raises(SchemaError, match="columns are not those of the model; missing: 'b', 'c'; unknown: 'd', 'e'"):
        preprocessor.to_tensor(pa.table({"a": [1.0], "d": [1], "e": [1]}))
    doubled = pa.Table.from_arrays([pa.array([1])] * 4, ["a", "b", "c", "a"])
    with pytest.raises(SchemaError, match="given twice: 'a'"):
        preprocessor.to_tensor(doubled)
    with pytest.raises(SchemaError, match=r"column 'a' must be numeric\. Got cells of type list<item: int64> instead"):
        preprocessor.to_tensor(pa.table({**good, "a": [[1]]}))


def test_only_the_first_few_of_many_wrong_columns_are_named_and_soon() -> None:
    schema = TableSchema(columns=tuple(Column(name=f"c{i}", kind="numeric") for i in range(10_000)))
    preprocessor = TablePreprocessor(schema)
    started = time.perf_counter()
    with pytest.raises(SchemaError) as caught:
        preprocessor.to_tensor(pa.table({f"d{i}": [1.0] for i in range(10_000)}))
    assert time.perf_counter() - started < 5
    shown = ", ".join(f"'c{i}'" for i in range(8)) + " and 9,992 more"
    assert caught.value.message == (
        f"columns are not those of the model; missing: {shown}; unknown: {shown.replace('c', 'd')}"
    )
    items = preprocessor.rows_to_tensor([{f"d{i}": 1 for i in range(10_000)}, dict.fromkeys(schema.names, 2.0)])
    assert items.errors[0].message == caught.value.message
    assert items.x.sum() == 20_000
    with pytest.raises(SchemaError, match=r"'x{77}\.\.\.'"):
        preprocessor.to_tensor(pa.table({"x" * 500: [1]}))


def test_arrays_are_rows_of_numbers_in_the_order_of_the_schema() -> None:
    preprocessor = TablePreprocessor(NUMBERS)
    array = np.array([[1, 2], [3, np.nan], [np.inf, 5]])
    for kind in ("<f8", ">f8", "<f4"):
        items = preprocessor.array_to_tensor(np.asfortranarray(array.astype(kind)))
        np.testing.assert_array_equal(items.x.numpy(), [[1, 2], [3, NAN]])
        assert list(items.errors) == [2]
    assert preprocessor.array_to_tensor(np.array([[True, False]])).x.tolist() == [[1, 0]]
    assert list(preprocessor.array_to_tensor(np.array([[np.longdouble("1e4000"), 1]])).errors) == [0]
    read_only = np.array([[1.0, 2.0]])
    read_only.flags.writeable = False
    preprocessor.array_to_tensor(read_only).x[0, 0] = 7.0
    assert read_only[0, 0] == 1.0
    for shape in ((3,), (3, 3), (3, 2, 1), ()):
        with pytest.raises(SchemaError, match=r"expected an array of shape \(n, 2\), but got \("):
            preprocessor.array_to_tensor(np.ones(shape))
    for kind in ("<U3", "O", "c16", "M8[s]"):
        with pytest.raises(SchemaError, match="expected an array of numbers, but got dtype"):
            preprocessor.array_to_tensor(np.zeros((1, 2), kind))


def test_categories_of_an_array_are_looked_up_by_name() -> None:
    schema = TableSchema(
        columns=(Column(name="a", kind="categorical", levels=("2", "0")), Column(name="b", kind="boolean"))
    )
    items = TablePreprocessor(schema).array_to_tensor(np.array([[0, 1], [2, 0], [1, 1], [0, 2]]))
    np.testing.assert_array_equal(items.x.numpy(), [[1, 1], [0, 0], [2, 1]])
    assert list(items.errors) == [3]
    assert items.unseen == {"a": 1}


def test_fit_learns_levels_and_gaps_from_the_rows_it_is_given() -> None:
    table = pa.table({"a": [1.0, 2.0, 3.0], "b": ["yes", "", "no"], "c": ["x", "y", "y"]})
    schema = TableSchema(
        columns=(
            Column(name="a", kind="numeric", nullable=True),
            Column(name="b", kind="boolean"),
            Column(name="c", kind="categorical"),
        )
    )
    fitted = TablePreprocessor.fit(schema, table)
    assert fitted.schema.columns == (
        Column(name="a", kind="numeric", nullable=True),
        Column(name="b", kind="boolean", nullable=True),
        Column(name="c", kind="categorical", levels=("y", "x")),
    )
    given_levels = schema.model_copy(update={"columns": (Column(name="c", kind="categorical", levels=("x",)),)})
    with pytest.raises(SchemaError, match="unknown: 'a', 'b'"):
        TablePreprocessor.fit(given_levels, table)
    kept = TablePreprocessor.fit(given_levels, table.select(["c"]))
    assert kept.schema.columns[0].levels == ("x",)
    assert kept.to_tensor(table.select(["c"])).x.tolist() == [[0], [1], [1]]
    with pytest.raises(SchemaError, match="missing: 'c'"):
        TablePreprocessor.fit(schema, table.select(["a", "b"]))


def test_a_tensor_becomes_cells_again() -> None:
    x = torch.tensor([[1.5, 1, 1], [NAN, 1, NAN], [2, 0, 2]], dtype=torch.float64)
    columns = TablePreprocessor(PLAIN).from_tensor(x)
    assert columns == {"a": [1.5, None, 2.0], "b": [True, True, False], "c": ["green", None, "other"]}
    again = TablePreprocessor(PLAIN).rows_to_tensor(
        [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    )
    np.testing.assert_array_equal(again.x.numpy(), x.numpy())


def test_datetimes_are_seconds_and_come_back_as_seconds() -> None:
    preprocessor = TablePreprocessor(TableSchema(columns=(Column(name="t", kind="datetime"),)))
    x = preprocessor.rows_to_tensor([{"t": "1970-01-02"}, {"t": "1970-01-01T00:00:01.5Z"}]).only()
    assert x.tolist() == [[86_400.0], [1.5]]
    assert (
        preprocessor.to_tensor(pa.table({"t": [str(v) for v in preprocessor.from_tensor(x)["t"]]})).x.tolist()
        == x.tolist()
    )


def test_the_rows_of_a_raw_table_keep_their_place_among_the_bad_ones() -> None:
    bad = {0: ItemError("first"), 3: ItemError("last")}
    raw = RawTable(rows=[{"a": 1, "id": "x"}, {"a": "?", "id": "y"}, [3, True, "red"]], bad=bad)
    items = raw.to_tensor(TablePreprocessor(SCHEMA))
    assert items.n == raw.n == 5
    assert items.index.tolist() == [1, 4]
    assert {i: error.message for i, error in items.errors.items()} == {
        0: "first", 2: "column 'a' must be a number. Got '?' instead", 3: "last",
    }  # fmt: skip
    assert items.names == ["0", "x", "y", "3", "4"]


cell = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.lists(st.integers(), max_size=2)
)
any_row = st.one_of(
    st.dictionaries(st.sampled_from(["a", "b", "c", "d", "note", "id"]), cell, max_size=4),
    st.lists(cell, min_size=2, max_size=4),
    cell,
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(any_row, min_size=1, max_size=5))
@example([[1, "a", 2.5], [1, True, "red"], {"a": [1]}, None])
def test_a_row_reads_alone_as_it_reads_among_others(many: list[object]) -> None:
    preprocessor = TablePreprocessor(PLAIN)
    together = preprocessor.rows_to_tensor(rows(*many))
    assert sorted([*together.index.tolist(), *together.errors]) == list(range(len(many)))
    for place, row in enumerate(many):
        alone = preprocessor.rows_to_tensor(rows(row))
        assert (place in together.errors) == bool(alone.errors)
        if not alone.errors:
            np.testing.assert_array_equal(together.x[list(together.index).index(place)], alone.x[0])
        elif alone.errors[0].where != "row 0":
            assert together.errors[place].message == alone.errors[0].message


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.recursive(
        cell, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3)
    )
)
def test_any_json_is_an_item_or_an_error(value: object) -> None:
    items = TablePreprocessor(PLAIN).rows_to_tensor(rows(value, {"a": value}, [value, value, value], {"a": 1.0}))
    assert items.n == 4
    assert 3 in items.index
    assert bool(torch.isfinite(items.x[-1, 0]))
    orjson.dumps([error.message for error in items.errors.values()])


def test_many_rows_of_objects_with_an_identifier_are_aligned_soon() -> None:
    schema = TableSchema(
        columns=tuple(Column(name=f"c{i}", kind="numeric", nullable=True) for i in range(20)), id_column="id"
    )
    many = [{f"c{i}": 1.0 for i in range(19)} | {"id": n} for n in range(20_000)]
    started = time.perf_counter()
    items = TablePreprocessor(schema).rows_to_tensor(many)
    assert time.perf_counter() - started < 3
    assert items.x.shape == (20_000, 20)
    assert items.names is not None
    assert items.names[-1] == "19999"
