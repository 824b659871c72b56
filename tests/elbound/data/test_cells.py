"""One column at a time: what each kind of cell becomes, and that no cell looks at its neighbours."""

import datetime
import decimal
import math
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from elbound.data.cells import NUMBER_PATTERN, ColumnValues, read_column
from elbound.errors import SchemaError
from elbound.schema import Column, ColumnKind

NUMBER = Column(name="a", kind="numeric")
FLAG = Column(name="a", kind="boolean")
CATEGORY = Column(name="a", kind="categorical", levels=("red", "green", "1", "true"))
MOMENT = Column(name="a", kind="datetime")
KINDS = (NUMBER, FLAG, CATEGORY, MOMENT)
SECONDS = 1_795_248_000.0
"""2026-11-21T08:00:00Z."""


def arrow(cells: Sequence[object], kind: pa.DataType | None = None) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(cells, kind)])


def same(found: ColumnValues, expected: Sequence[float | None]) -> None:
    wanted = np.array([math.nan if value is None else value for value in expected])
    np.testing.assert_array_equal(found.values, wanted)
    assert found.values.dtype == np.float64


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1.0), ("-1.5", -1.5), ("+5", 5.0), (" 7 ", 7.0), ("1.", 1.0), (".5", 0.5), ("1e3", 1000.0),
        ("1E-3", 0.001), ("007", 7.0), ("1e-999", 0.0), ("0.1", 0.1), ("9007199254740993", 2.0**53),
    ],
)  # fmt: skip
def test_numbers_are_read_from_text(text: str, value: float) -> None:
    for cells in (arrow([text]), [text]):
        found = read_column(NUMBER, cells)
        same(found, [value])
        assert not found.errors


@pytest.mark.parametrize("text", ["1_000", "1,5", "0x10", "nan(1)", "1e", "--1", "12 kg", "١", ".", "true"])
def test_text_that_is_no_number_is_the_error_of_its_row(text: str) -> None:
    for cells in (arrow(["3", text, "4"]), ["3", text, "4"], [text], [3, text]):
        found = read_column(NUMBER, cells)
        row = list(cells).index(text) if isinstance(cells, list) else 1
        assert found.errors == {row: f"column 'a' must be a number. Got {text!r} instead"}
        assert math.isnan(found.values[row])


@pytest.mark.parametrize("word", ["", "  ", "NA", "n/a", "#N/A", "NaN", "NULL", "None", "<NA>", "-nan"])
@pytest.mark.parametrize("column", KINDS, ids=lambda column: column.kind)
def test_missing_words_are_missing_in_every_kind(column: Column, word: str) -> None:
    for cells in (arrow([word]), [word], arrow([word]).dictionary_encode()):
        found = read_column(column, cells)
        same(found, [None])
        assert not found.errors
        assert found.unseen == 0


@pytest.mark.parametrize(
    "cell",
    ["inf", "-Infinity", "1e999", "1" * 400, math.inf, 10**400, -(10**400), pytest.param(10**5000, id="huge")],
)
def test_infinite_numbers_are_errors(cell: object) -> None:
    found = read_column(NUMBER, [2.0, cell, None])
    same(found, [2.0, None, None])
    assert list(found.errors) == [1]
    assert "must be finite (write a missing cell as null). Got " in found.errors[1]


def test_infinite_text_is_shown_as_it_was_written() -> None:
    found = read_column(NUMBER, arrow(["1", "1e999"]))
    assert found.errors == {1: "column 'a' must be finite (write a missing cell as null). Got '1e999' instead"}
    assert read_column(NUMBER, arrow([1.0, -math.inf])).errors[1].endswith("Got '-inf' instead")


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (arrow([1, None, -3], pa.int8()), [1, None, -3]),
        (arrow([2**64 - 1], pa.uint64()), [2.0**64]),
        (arrow([1.5, math.nan], pa.float32()), [1.5, None]),
        (arrow([np.float16(1.5)], pa.float16()), [1.5]),
        (arrow([decimal.Decimal("12.25"), None], pa.decimal128(6, 2)), [12.25, None]),
        (arrow([decimal.Decimal("12.25")], pa.decimal256(60, 2)), [12.25]),
        (arrow([True, False, None]), [1, 0, None]),
        (arrow([None, None], pa.null()), [None, None]),
        (arrow(["1", "2"], pa.large_string()), [1, 2]),
        (arrow(["1", "2"], pa.string_view()), [1, 2]),
        (arrow(["5", None, "5"]).dictionary_encode(), [5, None, 5]),
        (arrow([5, None, 6]).dictionary_encode(), [5, None, 6]),
        (pa.chunked_array([], pa.string()), []),
    ],
)
def test_numbers_of_every_arrow_type(cells: pa.ChunkedArray, expected: list[float | None]) -> None:
    found = read_column(NUMBER, cells)
    same(found, expected)
    assert not found.errors


def test_numbers_of_json_lists_of_mixed_types() -> None:
    found = read_column(NUMBER, [1, "a", 2.5, None, True, "4", [1], {"b": 1}])
    same(found, [1, None, 2.5, None, 1, 4, None, None])
    assert found.errors == {
        1: "column 'a' must be a number. Got 'a' instead",
        6: "column 'a' must be a number. Got a cell of type list instead",
        7: "column 'a' must be a number. Got a cell of type dict instead",
    }


@pytest.mark.parametrize("column", KINDS, ids=lambda column: column.kind)
def test_nested_cells_are_errors_of_their_rows_alone(column: Column) -> None:
    nested: list[object] = [[1], [[]], {"b": 2}, object(), (1, 2), b"x"]
    found = read_column(column, [*nested, None])
    assert sorted(found.errors) == list(range(len(nested)))
    same(found, [None] * (len(nested) + 1))


@pytest.mark.parametrize("column", KINDS, ids=lambda column: column.kind)
@pytest.mark.parametrize(
    "kind", [pa.list_(pa.int64()), pa.struct([("b", pa.int64())]), pa.binary(), pa.time64("us"), pa.duration("s")]
)
def test_an_arrow_type_that_can_never_fit_fails_as_a_whole(column: Column, kind: pa.DataType) -> None:
    with pytest.raises(SchemaError, match=r"column 'a' must be \w+\. Got cells of type") as caught:
        read_column(column, pa.chunked_array([pa.nulls(3, kind)]))
    assert caught.value.where == "a"


def test_dates_are_no_numbers_and_an_unknown_time_zone_is_a_schema_error() -> None:
    with pytest.raises(SchemaError, match=r"must be numeric\. Got cells of type date32"):
        read_column(NUMBER, arrow([datetime.date(2020, 1, 1)]))
    with pytest.raises(SchemaError, match="Nowhere/Land"):
        read_column(CATEGORY, arrow([1], pa.timestamp("us", "Nowhere/Land")))
    nested = pa.DictionaryArray.from_arrays(pa.array([0, 0]), pa.array([[1, 2]]))
    with pytest.raises(SchemaError, match="cast from dictionary"):
        read_column(NUMBER, pa.chunked_array([nested]))


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["true", "FALSE", " yes ", "No", "t", "f", "Y", "n", "1", "0", "1.0", "0.0"], [1, 0] * 6),
        ([True, False, None, 1, 0, 1.0, "true"], [1, 0, None, 1, 0, 1, 1]),
    ],
)
def test_booleans_are_read_from_words_and_numbers(cells: list[object], expected: list[float | None]) -> None:
    same(read_column(FLAG, cells), expected)
    assert not read_column(FLAG, cells).errors


def test_booleans_of_arrow_types() -> None:
    same(read_column(FLAG, arrow([True, None, False])), [1, None, 0])
    same(read_column(FLAG, arrow([1, 0], pa.int64())), [1, 0])
    same(read_column(FLAG, arrow([1.0, 0.0, math.nan])), [1, 0, None])
    same(read_column(FLAG, arrow(["yes", "no"]).dictionary_encode()), [1, 0])


@pytest.mark.parametrize("cell", ["maybe", "2", 2, 0.5, "tru", "2020-01-01"])
def test_bad_booleans_are_errors_of_their_rows(cell: object) -> None:
    found = read_column(FLAG, [True, cell])
    same(found, [1, None])
    assert found.errors == {1: f"column 'a' must be true or false. Got {str(cell)!r} instead"}


def test_categories_are_numbered_and_unseen_ones_counted() -> None:
    found = read_column(CATEGORY, ["green", " red", "blue", None, "1", 1, 1.0, True, "black"])
    same(found, [1, 0, 4, None, 2, 2, 2, 3, 4])
    assert found.unseen == 2
    assert not found.errors
    same(read_column(Column(name="a", kind="categorical"), ["x", None]), [0, None])


@pytest.mark.parametrize(
    ("cells", "level"),
    [
        (arrow([3], pa.int32()), "3"), (arrow([3.0]), "3"), (arrow([-0.0]), "0"), (arrow([1e10]), "10000000000"),
        (arrow([1.5]), "1.5"), (arrow([0.1], pa.float32()), "0.1"), (arrow([1e-5]), "0.00001"),
        (arrow([1e300]), "1e+300"),
        (arrow([True]), "true"), (arrow([datetime.date(2020, 1, 2)]), "2020-01-02"), (arrow(["3"]), "3"),
        ([3], "3"), ([3.0], "3"), ([-0.0], "0"), ([1e10], "10000000000"), ([1.5], "1.5"), ([1e-5], "0.00001"),
        ([1e300], "1e+300"), ([True], "true"), ([10**20], "100000000000000000000"), ([np.float64(3)], "3"),
        ([np.int64(3)], "3"), ([datetime.date(2020, 1, 2)], "2020-01-02"), (["\ud800"], "\\ud800"),
        ([math.nan, "x"], "x"),
    ],
)  # fmt: skip
def test_a_category_has_one_name_whatever_type_it_comes_as(cells: object, level: str) -> None:
    column = Column(name="a", kind="categorical", levels=("other level", level))
    assert isinstance(cells, list | pa.ChunkedArray)
    assert read_column(column, cells).values[-1] == 1.0


def test_surrogates_are_no_question_mark() -> None:
    column = Column(name="a", kind="categorical", levels=("?",))
    assert read_column(column, ["?", "\ud800", "x\udfff"]).unseen == 2
    assert list(read_column(NUMBER, ["1", "\ud800"]).errors) == [1]


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-21T08:00:00Z", "2026-11-21 08:00", "2026-11-21T08", "2026-11-21T09:00:00+01:00",
        "2026-11-21T03:30:00-0430", "2026-11-21T10:00+02", "2026-11-21T08:00:00.000000",
        "2026-11-21T08:00:00.000000000",
        "1795248000", "1.795248e9",
    ],
)  # fmt: skip
def test_datetimes_are_seconds(text: str) -> None:
    for cells in (arrow([text]), [text], ["junk", text], ["2020-01-01", "2020-01-01T00:00:00Z", text]):
        assert read_column(MOMENT, cells).values[-1] == SECONDS


@pytest.mark.parametrize(
    "text", ["2026-13-01", "2026-02-30T08:00", "yesterday", "2026-11-21T25:00", "true", "20261121"]
)
def test_bad_datetimes_are_errors_of_their_rows(text: str) -> None:
    found = read_column(MOMENT, ["2026-11-21T08:00:00Z", text, "2026-11-21", None, "2026-11-21T08:00"])
    if text == "20261121":
        assert found.values[1] == 20261121  # a number of seconds
        return
    same(found, [SECONDS, None, SECONDS - 8 * 3600, None, SECONDS])
    assert found.errors == {1: f"column 'a' must be a date and time as in 2026-11-21T08:00:00Z. Got {text!r} instead"}


@pytest.mark.parametrize(
    ("kind", "ticks", "seconds"),
    [
        (pa.timestamp("s"), 10, 10.0), (pa.timestamp("ms"), 1500, 1.5), (pa.timestamp("us"), 1, 1e-6),
        (pa.timestamp("ns"), 1_500_000_000, 1.5), (pa.timestamp("ns", "Europe/Berlin"), 1_500_000_000, 1.5),
        (pa.date32(), 2, 172_800.0), (pa.date64(), 86_400_000, 86_400.0), (pa.timestamp("s"), 2**62, 2.0**62),
        (pa.date32(), 2**31 - 1, (2**31 - 1) * 86_400.0),
    ],
)  # fmt: skip
def test_datetimes_of_every_arrow_type(kind: pa.DataType, ticks: int, seconds: float) -> None:
    width = pa.int32() if kind == pa.date32() else pa.int64()
    cells = pa.array([ticks, None], width).cast(kind)
    same(read_column(MOMENT, pa.chunked_array([cells])), [seconds, None])


def test_the_end_of_time_is_a_datetime() -> None:
    never = 253_402_214_400.0
    for cells in (arrow(["9999-12-31"]), ["9999-12-31"], arrow([datetime.datetime(9999, 12, 31)])):
        same(read_column(MOMENT, cells), [never])


def test_datetimes_of_python_and_numbers() -> None:
    zone = datetime.timezone(datetime.timedelta(hours=1))
    cells = [datetime.datetime(2026, 11, 21, 9, tzinfo=zone), datetime.date(2026, 11, 21), 12.5, np.datetime64(0, "ns")]
    same(read_column(MOMENT, cells), [SECONDS, SECONDS - 8 * 3600, 12.5, 0])
    assert list(read_column(MOMENT, [1.0, math.inf]).errors) == [1]
    assert list(read_column(MOMENT, [1.0, True]).errors) == [1]


def test_many_bad_datetimes_cost_little() -> None:
    cells = ["2026-11-21"] * 20_000
    cells[777] = "2026-11-31"
    found = read_column(MOMENT, cells)
    assert list(found.errors) == [777]
    assert np.isnan(found.values).sum() == 1


cell = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.sampled_from(["1", "1_000", "NA", "true", "No", "red", "1e999", "nan(1)", "2020-01-01", "2020-01-01T00:00:00Z"]),
    st.text(max_size=4),
    st.just([1]),
    st.just({"b": 1}),
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.sampled_from(KINDS), st.lists(cell, min_size=1, max_size=6))
@example(NUMBER, [1, "a", 2.5, None, True])
@example(NUMBER, [2**53 + 1, 0.5])
@example(CATEGORY, [1, True, 2.5, "red"])
@example(MOMENT, [1_700_000_000, "2020-01-01", "2020-01-01T00:00:00+01:00"])
def test_a_cell_of_a_list_reads_alone_as_it_reads_among_others(column: Column, cells: list[object]) -> None:
    together = read_column(column, cells)
    alone = [read_column(column, [one]) for one in cells]
    same(together, [one.values[0] for one in alone])
    assert together.errors == {row: one.errors[0] for row, one in enumerate(alone) if one.errors}
    assert together.unseen == sum(one.unseen for one in alone)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.sampled_from(KINDS),
    st.lists(st.one_of(st.none(), st.text(alphabet="01.e+-naiftr: TZ2", max_size=8)), min_size=1),
)
@example(MOMENT, ["2020-01-01", "2020-01-01T00:00:00Z", "2020-13-01", "5"])
def test_text_of_an_array_reads_alone_as_it_reads_among_others(column: Column, cells: list[str | None]) -> None:
    together = read_column(column, arrow(cells, pa.string()))
    alone = [read_column(column, arrow([one], pa.string())) for one in cells]
    same(together, [one.values[0] for one in alone])
    assert together.errors == {row: one.errors[0] for row, one in enumerate(alone) if one.errors}
    same(read_column(column, cells), list(together.values))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.text(alphabet="019.eE+-infatyINF(x_", max_size=7))
def test_the_pattern_of_numbers_is_what_arrow_reads(text: str) -> None:
    matches = pc.match_substring_regex(pa.scalar(text), NUMBER_PATTERN, ignore_case=True).as_py()
    try:
        value = pc.cast(pa.scalar(text), pa.float64()).as_py()
    except pa.ArrowInvalid:
        value = math.nan
    assert matches == (not math.isnan(value))


@pytest.mark.parametrize("kind", ["numeric", "boolean", "categorical", "datetime"])
def test_no_cells_are_no_values(kind: ColumnKind) -> None:
    for cells in ([], (), pa.chunked_array([], pa.string())):
        found = read_column(Column(name="a", kind=kind, levels=("x",)), cells)
        assert found.values.shape == (0,)
        assert not found.errors


def test_long_cells_are_cut_in_messages() -> None:
    message = read_column(NUMBER, ["x" * 10_000]).errors[0]
    assert len(message) < 120
    assert message.endswith("xxx...' instead")
