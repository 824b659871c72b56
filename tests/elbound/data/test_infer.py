"""What the columns of a table are: one test a rule."""

import datetime
import decimal
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest

from elbound.data.infer import LEVEL_CAP, Inferred, frequent_levels, infer_schema
from elbound.errors import SchemaError
from elbound.schema import Column

KEPT = [0.5, 1.5, 1.5]


def infer(cells: Sequence[object] | pa.Array, kind: pa.DataType | None = None, *, name: str = "a") -> Inferred:
    """The schema of a table of the column `name` beside one that is surely kept."""
    array = cells if isinstance(cells, pa.Array | pa.ChunkedArray) else pa.array(cells, kind)
    kept = pa.array([KEPT[i % 3] for i in range(len(array))])
    return infer_schema(pa.table({name: array, "kept": kept}))


def kind_of(inferred: Inferred, *, name: str = "a") -> str:
    """The column's kind, or the reason why it is left out."""
    for column in inferred.schema.columns:
        if column.name == name:
            assert not inferred.warnings
            return column.kind
    (ignored,) = inferred.schema.ignored
    assert ignored.name == name
    (warning,) = inferred.warnings
    assert warning.removesuffix(f" (--include {name!r} scores it)") == f"column {name!r} is left out: {ignored.reason}"
    return ignored.reason


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        ([3, 1, 1], pa.int64()),
        ([3, 1, 1], pa.uint8()),
        ([0.5, None, 2.0], pa.float32()),
        ([decimal.Decimal("1.50"), None, decimal.Decimal(2)], pa.decimal128(5, 2)),
        (["3", " 1.5 ", "NA"], pa.string()),
        (["3", "1e5", ""], pa.large_string()),
        (["3", "1e5", ""], pa.string_view()),
        (["1", "0", "1"], pa.string()),
        ([1e300, float("inf"), 0.5], pa.float64()),
    ],
)
def test_numbers_are_numeric(cells: list[object], kind: pa.DataType) -> None:
    assert kind_of(infer(cells, kind)) == "numeric"


@pytest.mark.parametrize(
    "words",
    [["true", "False"], ["yes", "NO"], ["y", "n"], ["T", "f", None], ["TRUE", "true", " False "]],
)
def test_words_for_true_and_false_are_boolean(words: list[str | None]) -> None:
    assert kind_of(infer(words)) == "boolean"


def test_arrow_booleans_are_boolean() -> None:
    assert kind_of(infer([True, None, False])) == "boolean"


def test_few_different_texts_are_categorical() -> None:
    assert kind_of(infer(["red", "green", None, "red"])) == "categorical"
    assert kind_of(infer(["yes", "no", "maybe"])) == "categorical"
    assert kind_of(infer(["1", "2", "two"])) == "categorical"
    assert kind_of(infer(["2020-01-01", "never"])) == "categorical"


@pytest.mark.parametrize(
    ("cells", "kind"), [(["a", "b", "a"], "categorical"), (["1", "2", "1"], "numeric"), ([1, 2, 1], "numeric")]
)
def test_categories_that_were_made_are_categories_also_where_they_look_like_numbers(
    cells: list[object], kind: str
) -> None:
    """A dictionary reaches the rules from a frame alone, where it was asked for; files are written out before."""
    assert kind_of(infer(pa.array(cells))) == kind
    assert kind_of(infer(pa.array(cells).dictionary_encode())) == "categorical"


@pytest.mark.parametrize(
    "cells",
    [
        ["2020-01-01", "2021-06-30", None],
        ["2020-01-01T10:00:00Z", "2020-01-01 10:00:00+01:00"],
        ["2020-01-01T10:00:00Z", "2020-01-01"],
        ["2020-01-01 10:00:00.123456789", "9999-12-31"],
        [datetime.date(2020, 1, 1), None],
        [datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)],
    ],
)
def test_datetimes_are_left_out_with_a_hint(cells: list[object]) -> None:
    reason = kind_of(infer(cells))
    assert reason.startswith("a date or time: every later row would look new")
    assert "in --schema with kind 'datetime'" in reason


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("a", list(range(100, 120))),
        ("a", [str(i) for i in range(20)]),
        ("a", [float(i) for i in np.random.default_rng(0).permutation(50)]),
        ("id", [17, 3, 99]),
        ("customer_id", ["17", "3", "99"]),
        ("Row.Index", [5, 9]),
        ("user id", [2**62, 2**62 + 1, 2**62 + 2]),
        ("uuid", ["12345678901234567890", "12345678901234567891"]),
    ],
)
def test_integer_identifiers_are_left_out(name: str, cells: list[object]) -> None:
    assert kind_of(infer(cells, name=name), name=name).startswith("an identifier (whole numbers")


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("a", [0, 2, 1, *range(3, 19)]),
        ("a", [0, 2, 1, *range(3, 19), 25]),
        ("a", [0, None, *range(19, 1, -1), 5, 40, 7, 90]),
        ("a", [5, 3, *range(30, 5, -5), 29, 1, 2, 29, 7, 0, 12, 3]),
        ("id", [1.5, 2.5, 4.0]),
        ("id", [1, 1, 2]),
        ("humid", [3, 8, 1]),
        ("idle", [3, 8, 1]),
        ("id", [7]),
    ],
)
def test_numbers_that_repeat_skip_or_are_no_whole_ones_are_no_identifiers(name: str, cells: list[object]) -> None:
    assert kind_of(infer(cells, name=name), name=name) == "numeric"


def test_free_text_is_left_out() -> None:
    reason = kind_of(infer([f"note {i}" for i in range(200)]))
    assert reason == "free text (200 different values; the 63 most frequent cover 32% of the cells, 90% are needed)"


def test_sixty_four_levels_are_all_kept() -> None:
    cells = [f"v{i:02}" for i in range(LEVEL_CAP)] * 2
    assert kind_of(infer(cells)) == "categorical"
    assert frequent_levels(pa.chunked_array([cells])) == tuple(sorted(set(cells)))


@pytest.mark.parametrize(("common", "kind"), [(90, "categorical"), (89, "free text")])
def test_many_levels_are_kept_where_sixty_three_cover_nine_tenths(common: int, kind: str) -> None:
    cells = [f"v{i % 63:02}" for i in range(63 * common)] + [f"rare {i}" for i in range(63 * (100 - common))]
    assert kind_of(infer(cells)).startswith(kind)
    levels = frequent_levels(pa.chunked_array([cells]))
    assert levels == tuple(f"v{i:02}" for i in range(63))


def test_levels_are_the_most_frequent_first_and_ties_go_by_name() -> None:
    cells = pa.chunked_array([["b", "a", "NA", " c "], ["c", "b", None, "c"]])
    assert frequent_levels(cells) == ("c", "b", "a")
    assert frequent_levels(pa.chunked_array([cells.combine_chunks().dictionary_encode()])) == ("c", "b", "a")


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        ([None, None], pa.null()), ([None, None], pa.float64()), ([float("nan"), None], pa.float64()),
        (["", "NA"], pa.string()), ([None], pa.bool_()), ([None], pa.timestamp("us")), (["nan", "NaN"], pa.string()),
    ],
)  # fmt: skip
def test_a_column_of_missing_cells_is_left_out(cells: list[object], kind: pa.DataType) -> None:
    assert kind_of(infer(cells, kind)) == "every cell is missing"


@pytest.mark.parametrize("cell", [4, "4", "x", "yes", "F", False])
def test_a_constant_column_is_left_out_unless_it_is_named(cell: object) -> None:
    shown = str(cell).lower() if isinstance(cell, bool) else cell
    assert kind_of(infer([cell] * 30)) == f"constant (every cell is {shown})"
    table = pa.table({"a": [cell] * 30, "b": [float(i % 7) / 3 for i in range(30)]})
    kinds = {4: "numeric", "4": "numeric", False: "boolean"}
    assert infer_schema(table, include=("a",)).schema.columns[0].kind == kinds.get(cell, "categorical")


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (pa.array([[1], [2]]), "list<item: int64>"),
        (pa.array([{"b": 1}, None]), "struct<b: int64>"),
        (pa.array([b"x", b"y"]), "binary"),
        (pa.array([1, 2], pa.time64("us")), "time64[us]"),
        (pa.array([1, 2], pa.duration("s")), "duration[s]"),
        (
            pa.DictionaryArray.from_arrays(pa.array([0, 0]), pa.array([[1, 2]])),
            "dictionary<values=list<item: int64>, indices=int64, ordered=0>",
        ),
    ],
)
def test_types_that_are_not_read_are_left_out_by_name(array: pa.Array, kind: str) -> None:
    assert kind_of(infer(array)) == f"cells of type {kind} are not read"


def test_excluded_and_identifier_columns_are_no_features() -> None:
    table = pa.table({"a": [1.5, 2.5], "b": ["x", "y"], "name": ["p", "q"]})
    inferred = infer_schema(table, exclude=("b",), id_column="name")
    assert inferred.schema.columns == (Column(name="a", kind="numeric"),)
    assert [(column.name, column.reason) for column in inferred.schema.ignored] == [("b", "excluded by hand")]
    assert inferred.schema.id_column == "name"
    assert not inferred.warnings


def test_a_named_column_that_is_not_there_is_an_error_with_the_names_that_are() -> None:
    table = pa.table({"a": [1.5], "b": ["x"]})
    with pytest.raises(SchemaError, match=r"no such columns: 'c', 'd'; the data have 'a', 'b'") as caught:
        infer_schema(table, exclude=("c",), id_column="d")
    assert caught.value.where == "c"


def test_a_table_of_which_nothing_is_left_is_an_error_with_the_reasons() -> None:
    with pytest.raises(SchemaError, match=r"no column is left to score; column 'a' is left out: every cell is missing"):
        infer_schema(pa.table({"a": [None, None]}))
