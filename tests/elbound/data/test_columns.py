"""What a column is against its looks: how numbers are written, times, row numbers, identifiers, labels, words."""

import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elbound.data.cells import PlainRows, read_column
from elbound.data.columns.rules import rules_table
from elbound.data.infer import Inferred, infer_schema
from elbound.data.table import TablePreprocessor
from elbound.errors import SchemaError
from elbound.schema import Column, TableSchema
from elbound.schema.number_format import NumberFormat, parse_numbers

N = 200
RNG = np.random.default_rng(5)
WIDTHS = RNG.normal(20, 1, N).round(3)


def infer(**columns: object) -> Inferred:
    """The schema of a table of these columns beside one that is surely kept."""
    return infer_schema(pa.table({"kept": WIDTHS.tolist(), **columns}))


def column_of(inferred: Inferred, name: str = "a") -> Column:
    return next(column for column in inferred.schema.columns if column.name == name)


def reason(inferred: Inferred, name: str = "a") -> str:
    return next(column.reason for column in inferred.schema.ignored if column.name == name)


def cells(pattern: str, low: int = 5, high: int = 90) -> list[str]:
    return [pattern.format(i) for i in RNG.integers(low, high, N)]


def test_the_documented_table_is_that_of_the_rules() -> None:
    documented = (Path(__file__).parents[3] / "docs/bundle.md").read_text(encoding="utf-8")
    assert rules_table() in documented, (
        "docs/bundle.md has another table; paste what this prints: "
        "python -c 'from elbound.data.columns.rules import rules_table; print(rules_table())'"
    )


@pytest.mark.parametrize(
    ("pattern", "form"),
    [
        ("{},5", {"decimal": ","}),
        ("1.{0}0,{0}", {"decimal": ",", "thousands": "."}),
        ("1,{}0.25", {"thousands": ","}),
        ("1'{}0.5", {"thousands": "'"}),
        ("1\u00a0{}0,5", {"decimal": ",", "thousands": " "}),
        ("{} %", {"suffix": "%"}),
        ("${}", {"prefix": "$"}),
        ("€ {}.5", {"prefix": "€"}),
        ("CHF {}.50", {"prefix": "CHF"}),
        ("{},5 EUR", {"decimal": ",", "suffix": "EUR"}),
        ("{}.5mm", {"suffix": "mm"}),
        ("{} °C", {"suffix": "°C"}),
        ("{} m2", {"suffix": "m2"}),
    ],
)
def test_numbers_are_read_as_they_are_written(pattern: str, form: dict[str, str]) -> None:
    texts = cells(pattern, 10, 99)
    found = infer(a=texts)
    column = column_of(found)
    assert column.kind == "numeric"
    assert column.number == NumberFormat.model_validate(form)
    assert any(warning.startswith("column 'a' is read as a number with ") for warning in found.warnings)
    values = TablePreprocessor(found.schema).to_tensor(found.table).only().numpy()[:, 1]
    assert np.isfinite(values).all()
    again = read_column(column, [*texts, None, values[0]])
    np.testing.assert_array_equal(again.values, [*values, np.nan, values[0]])
    assert not again.errors


def test_losses_in_parentheses_are_negative() -> None:
    found = infer(a=["(12.5)" if i % 3 else f"{i}.5" for i in range(N)])
    column = column_of(found)
    assert column.number == NumberFormat(accounting=True)
    assert list(read_column(column, ["(3.5)", "4", "4-"]).values) == [-3.5, 4, -4]


def test_a_cell_of_another_writing_is_an_error_that_says_how_the_column_is_written() -> None:
    column = column_of(infer(a=cells("{},5")))
    for given_cells in (["20.9"], pa.chunked_array([["20.9"]])):
        errors = read_column(column, given_cells).errors
        assert errors == {0: "column 'a' must be a number with a decimal comma, as in training. Got '20.9' instead"}


@pytest.mark.parametrize("placeholder", ["-", "--", "?", ".", "n.a.", "#DIV/0!", "#VALUE!"])
def test_placeholders_among_numbers_are_missing_cells(placeholder: str) -> None:
    texts = cells("{}.5")
    texts[3] = texts[7] = placeholder
    found = infer(a=texts)
    column = column_of(found)
    assert column.number == NumberFormat(gaps=(placeholder.lower(),))
    assert found.warnings == [
        f"column 'a' has 2 cells such as '{placeholder}' (2) among its numbers, which count as missing cells"
    ]
    read = read_column(column, ["1.5", placeholder, "oops"])
    assert np.isnan(read.values[1])
    assert list(read.errors) == [2]


@pytest.mark.parametrize(("wrong", "kind"), [(4, "numeric"), (5, "categorical")])
def test_one_cell_in_fifty_may_be_no_number_and_is_named(wrong: int, kind: str) -> None:
    texts = cells("{}.5")
    texts[:wrong] = ["broken"] * wrong
    found = infer(a=texts)
    assert column_of(found).kind == kind
    if kind == "numeric":
        (warning,) = found.warnings
        assert "4 cells such as 'broken' (4) that are not a number" in warning
        assert found.table.column("a").null_count == 4


def test_commas_before_three_digits_are_decided_by_the_file_and_said() -> None:
    round_ones = cells("1,{}0", 10, 99)
    assert column_of(infer(a=round_ones)).number == NumberFormat(thousands=",")
    beside_comma = infer(a=round_ones, b=cells("{},5"))
    assert column_of(beside_comma).number == NumberFormat(decimal=",")
    assert 'says so by "number": {"thousands":","}' in beside_comma.warnings[0]
    alone = pa.table({"a": round_ones, "b": cells("{}")})
    assert column_of(infer_schema(alone, delimiter=";")).number == NumberFormat(decimal=",")
    assert not infer_schema(alone).doubts
    doubtful = infer_schema(pa.table({"a": [f"20,{i}" for i in RNG.integers(100, 999, N)]}))
    assert "decimal comma" in doubtful.doubts[0]


def test_points_before_three_digits_beside_small_whole_numbers_stand_between_thousands() -> None:
    counts = [f"{i:,}".replace(",", ".") for i in RNG.integers(100, 9_000, N)]
    found = infer(a=counts)
    assert column_of(found).number == NumberFormat(decimal=",", thousands=".")
    assert "between thousands" in found.warnings[0]
    widths = [f"{value:.3f}" for value in RNG.normal(2, 0.2, N)]
    assert column_of(infer(a=widths)).number is None, "every cell has its point"


@pytest.mark.parametrize(("decimal", "text"), [(".", "$99,999.50"), (",", "$99.999,50")])
def test_both_separators_in_a_later_cell_leave_no_doubt(decimal: str, text: str) -> None:
    form = NumberFormat.model_validate({"decimal": decimal, "prefix": "$"})
    numbers, good = parse_numbers(pa.chunked_array([[text]]), form)
    assert good.to_pylist() == [True]
    assert numbers.to_pylist() == [99_999.5]


def test_the_null_of_a_database_dump_is_a_gap() -> None:
    found = infer(a=[*cells("{}.5")[:-10], *["\\N"] * 10])
    number = column_of(found).number
    assert number is not None
    assert number.gaps == (r"\n",)


def test_units_that_differ_are_not_dropped() -> None:
    found = infer(a=[*cells("{} kg", 1, 9)[:120], *cells("{}00 g", 1, 9)[120:]])
    assert column_of(found).kind == "categorical"
    assert "several units ('g', 'kg')" in found.warnings[0]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.floats(-1e9, 1e9, allow_nan=False).map(lambda value: round(value, 4)),
    st.sampled_from([".", ","]),
    st.sampled_from(["", ",", ".", "'", " "]),
    st.sampled_from(["", "$", "CHF"]),
    st.sampled_from(["", "%", "kg", "m2"]),
)
def test_a_number_written_in_a_format_reads_back(
    value: float, decimal: str, thousands: str, prefix: str, suffix: str
) -> None:
    if decimal == thousands:
        return
    form = NumberFormat.model_validate({"decimal": decimal, "thousands": thousands, "prefix": prefix, "suffix": suffix})
    text = f"{abs(value):,.4f}".translate(str.maketrans({",": thousands, ".": decimal}))
    text = f"{'-' if value < 0 else ''}{prefix}{text}{suffix}"
    numbers, good = parse_numbers(pa.chunked_array([[text]]), form)
    assert good.to_pylist() == [True]
    assert numbers.to_pylist() == [value]


DAY = datetime.datetime(2025, 10, 9, 8, 30)
FORMS = (
    "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%d-%b-%Y", "%b %d, %Y", "%Y/%m/%d", "%d %B %Y", "%A, %d %B %Y",
    "%a %b %d %H:%M:%S %Y",
    "%d.%m.%Y %H:%M", "%m/%d/%y %I:%M %p", "%Y-%m-%d %H:%M:%S", "%G-W%V",
    "%Y-%m", "%b-%y", "%H:%M:%S", "%Y%m%d", "%Y%m%dT%H%M%SZ",
)  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_dates_as_text_are_left_out(form: str) -> None:
    days = [(DAY + datetime.timedelta(hours=7 * i)).strftime(form) for i in range(N)]
    found = infer(a=days)
    why = "write it as a number, such as minutes" if form == "%H:%M:%S" else "every later row would look new"
    assert why in reason(found)
    try:
        infer_schema(pa.table({"kept": WIDTHS, "a": days}), include=("a",))
        works = True
    except SchemaError:
        works = False
    assert ("--include 'a' scores it" in found.warnings[0]) == works


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("a", 1_760_000_000 + 60 * np.arange(N)),
        ("a", 1_760_000_000_000 + 1000 * np.arange(N)),
        ("a", 1.76e9 + 0.25 * np.arange(N)),
        ("a", 1_760_000_000 + 60 * (np.arange(N) // 2)),
        ("created_at", 1_760_000_000 + RNG.permutation(N)),
        ("date", 46_000 + np.arange(N) / 96),
        ("a", 20_251_001 + np.arange(N) // 10),
        ("a", 20_251_001_080_000 + np.arange(N) // 10),
        ("elapsed", np.arange(N) * 0.1 + 0.05),
    ],
)
def test_numbers_that_count_time_are_left_out(name: str, values: np.ndarray) -> None:
    found = infer(**{name: values})
    assert reason(found, name).startswith(("a time", "an identifier"))


@pytest.mark.parametrize("pattern", ["Marker {}", "Setup-{}", "Decoder {}", "10.{}.1", "M{}", "{}-A", "1:{}"])
def test_codes_are_no_dates_and_no_numbers(pattern: str) -> None:
    assert column_of(infer(a=cells(pattern, 61, 99))).kind == "categorical"


def test_points_between_thousands_follow_the_decimal_comma_of_the_file() -> None:
    points = [f"{i}.{j}" for i, j in RNG.integers(100, 999, (N, 2))]
    assert column_of(infer_schema(pa.table({"a": points, "b": WIDTHS.astype(str)}))).number is None
    found = infer_schema(pa.table({"a": points, "b": cells("{},5")}))
    assert column_of(found).number == NumberFormat(decimal=",", thousands=".")
    assert "It could be a number as well" in found.warnings[0]


def test_honest_numbers_are_no_times() -> None:
    pay = RNG.normal(45_000, 3_000, N).round(2)
    years = RNG.integers(1990, 2026, N)
    found = infer(pay=pay, year=years, counts=RNG.integers(30_000, 50_000, N), bytes=RNG.integers(1e9, 3e9, N))
    assert not found.warnings


def test_a_number_that_wears_on_is_warned_about() -> None:
    found = infer(hours=np.cumsum(RNG.exponential(1.0, N)))
    assert column_of(found, "hours").kind == "numeric"
    assert found.warnings[0].startswith("column 'hours' rises or falls from row to row")


@pytest.mark.parametrize("name", ["", "Unnamed: 0", "Unnamed: 0.1", "__index_level_0__", "level_0", "index", "...1"])
def test_row_numbers_that_libraries_write_are_left_out(name: str) -> None:
    rows = np.sort(RNG.choice(5000, N, replace=False))
    for values in (rows, RNG.permutation(rows), rows.astype(str)):
        found = infer(**{name: values})
        assert reason(found, name) == "a row number"
        assert not found.doubts
    assert column_of(infer(**{name: RNG.normal(size=N)}), name).kind == "numeric"


@pytest.mark.parametrize("name", ["customerId", "customerID", "SensorID", "deviceid", "uid", "order_no", "#", "serial"])
def test_numbers_named_as_identifiers_are_left_out(name: str) -> None:
    assert reason(infer(**{name: RNG.permutation(9000)[:N] * 3}), name).startswith("an identifier")


def test_identifiers_by_their_shape() -> None:
    found = infer(a=[f"{i:08x}-0000-4000-8000-{i:012x}" for i in range(N)], b=np.cumsum(RNG.integers(2, 9, N)))
    assert reason(found, "a").startswith("an identifier")
    assert reason(found, "b").startswith("an identifier")
    assert not infer(humid=RNG.permutation(9000)[:N]).warnings
    assert "repeats" in infer(user_id=RNG.integers(0, 50, N)).warnings[0]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("label", [0, 1]), ("target", ["a", "b"]), ("isFraud", [False, True]), ("class", [0, 0]),
        ("ok_nok", ["x", "y"]),
        ("state", ["normal", "anomaly"]), ("quality", ["OK", "NOK"]), ("is_anomaly", ["yes", "no"]),
    ],
)  # fmt: skip
def test_labels_are_left_out(name: str, values: list[object]) -> None:
    table = {name: values * (N // 2)}
    assert reason(infer(**table), name).startswith("a label")
    included = infer_schema(pa.table({"kept": WIDTHS, **table}), include=(name,))
    assert column_of(included, name)
    assert not [warning for warning in included.warnings if "left out" in warning]


def test_features_with_a_part_of_a_label_in_their_names_stay() -> None:
    found = infer(class_size=[0, 1] * (N // 2), first_class=["yes", "no"] * (N // 2), target=RNG.normal(size=N))
    assert not found.warnings


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["T", "F", "Y"], "categorical"), (["F", "M"], "categorical"), (["yes", "f"], "categorical"),
        (["t", "f"], "boolean"), (["Y", "n"], "boolean"), (["yes", "no", "true"], "boolean"),
    ],
)  # fmt: skip
def test_words_are_boolean_as_pairs(values: list[str], kind: str) -> None:
    assert column_of(infer(a=[values[i % len(values)] for i in range(N)])).kind == kind


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        (["SE", "NO", "NA"], ("NA",)), (["EMEA", "APAC", "NA"], ("NA",)), (["Minor", "Severe", "None"], ("None",)),
        (["guarantor", "none"], ("none",)), (["red", "blue", "NA"], ()), (["M", "F", "NA"], ()),
        (["True", "False", "None"], ()),
    ],
)  # fmt: skip
def test_missing_words_are_values_among_their_like(values: list[str], kept: tuple[str, ...]) -> None:
    texts = [values[i % len(values)] for i in range(N)]
    found = infer(a=texts)
    column = column_of(found)
    assert column.kept_words == kept
    assert len(found.warnings) == bool(kept)
    fitted = TablePreprocessor.fit(found.schema, found.table).schema
    column = column_of(Inferred(fitted, found.table))
    missing = np.isnan(read_column(column, [values[-1]]).values[0])
    assert missing == (not kept)
    if kept:
        assert values[-1] in column.levels
        plain = PlainRows(TableSchema(columns=(column,))).read([{"a": values[-1]}])
        assert plain is not None
        assert plain[0, 0] == read_column(column, [values[-1]]).values[0]


def test_more_than_a_third_that_drops_out_is_in_doubt() -> None:
    texts = [f"note {i} of {N}" for i in range(N)]
    assert not infer(a=texts, b=WIDTHS[::-1]).doubts
    (doubt,) = infer(a=texts).doubts
    assert doubt.startswith("1 of 2 columns are left out: 'a'")
    assert not infer(time=["2026-11-21"] * N, id=RNG.permutation(N), label=[0] * N).doubts


def test_a_label_of_two_values_is_in_doubt() -> None:
    (doubt,) = infer(label=["normal"] * 150 + ["odd"] * 50).doubts
    assert "150 rows 'normal' and 50 rows 'odd'" in doubt
    assert not infer(label=["normal"] * N).doubts


def test_what_cannot_be_included_is_an_error() -> None:
    table = pa.table({"kept": WIDTHS, "a": [f"note {i} of {N}" for i in range(N)]})
    with pytest.raises(SchemaError, match="--include a: the column cannot be scored: free text"):
        infer_schema(table, include=("a",))
    with pytest.raises(SchemaError, match="choose one"):
        infer_schema(table, include=("a",), exclude=("a",))


def test_a_schema_is_written_as_before_where_nothing_is_special() -> None:
    assert Column(name="a", kind="numeric").model_dump() == {
        "name": "a", "kind": "numeric", "levels": (), "nullable": False,
    }  # fmt: skip
    column = Column(name="a", kind="numeric", number=NumberFormat(decimal=",", gaps=("-",)))
    assert Column.model_validate_json(column.model_dump_json()) == column


def test_the_minus_sign_of_typesetters_is_a_minus() -> None:
    found = infer(a=["\u22121.5", "2.25", "-3", "4"] * 50)
    column = column_of(found)
    assert column.number == NumberFormat(minus="\u2212")
    assert "'\u2212' (U+2212) for a minus" in found.warnings[0]
    read = TablePreprocessor(TableSchema(columns=(column,))).rows_to_tensor([{"a": "\u22121.5"}, {"a": "-2"}, {"a": 3}])
    assert read.only().tolist() == [[-1.5], [-2.0], [3.0]]


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["0XL", "1XL", "2XL"], "categorical"),
        (["12AB", "13AB", "14AB"], "categorical"),
        (["10MB", "20MB", "30MB"], "numeric"),
        (["1.5XL", "2.25XL", "3XL"], "numeric"),
        (["230V", "110V", "24V"], "numeric"),
    ],
)
def test_capitals_at_a_whole_number_are_a_size_or_a_code_unless_they_are_a_unit(cells: list[str], kind: str) -> None:
    assert column_of(infer(a=(cells * 67)[:200])).kind == kind


def test_numbers_that_begin_with_0_are_said() -> None:
    found = infer(a=["01067", "04109", "10115", "80331", "10117"] * 40)
    assert column_of(found).kind == "numeric"
    assert "cells such as '01067' begin with 0" in found.warnings[0]
    assert not infer(a=["0.5", "0", "10", "2"] * 50).warnings


def test_numbers_that_are_written_in_two_ways_are_said() -> None:
    numbers = [f"{number:.2f}" for number in WIDTHS]
    mixed = [cell.replace(".", ",") if i % 2 else cell for i, cell in enumerate(numbers)]
    (warning,) = infer(a=mixed).warnings
    assert "'a' is left out: free text" in warning
    assert "written in two ways, as" in warning
    coarse = [cell[:2] + ("," if i % 2 else ".") + cell[3] for i, cell in enumerate(["20.1", "20.2", "20.3"] * 67)][:N]
    assert "is categorical, but its cells look like numbers that are written in two ways" in infer(a=coarse).warnings[0]
    addresses = [f"10.0.{i % 9}.{i % 7}" for i in range(N)]
    assert not infer(a=addresses).warnings


@pytest.mark.parametrize(
    "zone", [" Europe/Berlin", "+01:00[Europe/Berlin]", " (CET)", " CET", "Z", " America/New_York"]
)
def test_times_with_the_name_of_a_zone_are_times(zone: str) -> None:
    cells = [f"2026-01-{1 + i % 28:02d}T10:00:00{zone}" for i in range(N)]
    assert reason(infer(a=cells)).startswith("a date or time")


def test_infinite_cells_do_not_rise() -> None:
    assert not infer(a=["inf", *map(str, WIDTHS[1:])]).warnings
