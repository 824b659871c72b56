"""Tables from bytes: what is read, what is set aside, and that nothing but DataError comes out of bad bytes."""

import io
import math
import warnings
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elbound.data.raw import RawTable
from elbound.errors import DataError, DecodeError, LimitExceeded, SchemaError
from elbound.files.arrow import parse_arrow
from elbound.files.csv import parse_csv
from elbound.files.json import parse_ndjson
from elbound.files.limits import TableLimits, decoding
from elbound.files.npy import parse_npy
from elbound.files.parquet import parse_parquet

FUZZ = settings(max_examples=150, deadline=None, derandomize=True)
PARSERS: dict[str, Callable[[bytes], object]] = {
    ".csv": lambda data: parse_csv(io.BytesIO(data)),
    ".parquet": lambda data: parse_parquet(io.BytesIO(data)),
    ".arrow": lambda data: parse_arrow(io.BytesIO(data)),
    ".ipc": lambda data: parse_arrow(io.BytesIO(data)),
    ".feather": lambda data: parse_arrow(io.BytesIO(data)),
    ".ndjson": lambda data: parse_ndjson(io.BytesIO(data)),
    ".npy": parse_npy,
}
SMALL = pa.table(
    {
        "a": [1.5, None, -3.0],
        "b": [True, False, None],
        "c": pa.array(["x", "y z", None]).dictionary_encode(),
        "d": pa.array([[1], None, []], pa.list_(pa.int32())),
        "e": ["long " * 9, "", "\N{SNOWMAN}"],
    }
)


def csv(text: str | bytes, **limits: int) -> RawTable:
    data = text.encode() if isinstance(text, str) else text
    return parse_csv(io.BytesIO(data), limits=TableLimits(**limits))


def ndjson(text: str | bytes, **limits: int) -> RawTable:
    data = text.encode() if isinstance(text, str) else text
    return parse_ndjson(io.BytesIO(data), limits=TableLimits(**limits))


def cells(raw: RawTable) -> dict[str, list[object]]:
    assert raw.table is not None
    found: dict[str, list[object]] = raw.table.to_pydict()
    return found


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", [True, False])
def test_csv_of_every_dialect(delimiter: str, newline: str, mark: str, end: bool) -> None:
    lines = [["a", "b", "c"], ["1", "", "x"], ["2", "yes", "y"]]
    text = mark + newline.join(delimiter.join(line) for line in lines) + (newline if end else "")
    assert cells(csv(text)) == {"a": ["1", "2"], "b": [None, "yes"], "c": ["x", "y"]}


def test_csv_with_quotes_newlines_and_blank_lines() -> None:
    raw = csv('\n\n"a, b",c\n\n"1,5","x\ny"\n\n2,"say ""hi"""\n"",z\n\n')
    assert cells(raw) == {"a, b": ["1,5", "2", None], "c": ["x\ny", 'say "hi"', "z"]}
    assert raw.n == 3


def test_the_delimiter_is_not_found_inside_quotes() -> None:
    assert cells(csv('"a, b";c\n1;2\n')) == {"a, b": ["1"], "c": ["2"]}
    assert cells(csv('"a\n1;2;3";b\n1;2\n')) == {"a\n1;2;3": ["1"], "b": ["2"]}


def test_csv_of_one_column_keeps_its_blank_lines_as_missing_cells() -> None:
    assert cells(csv("\n\na\n1\n\n2\n")) == {"a": ["1", None, "2"]}
    assert cells(csv('\ufeff\r\na\r\n1\r\n""\r\n2')) == {"a": ["1", None, "2"]}


def test_csv_of_a_header_only_has_no_rows() -> None:
    for text in ("a,b", "a,b\n", "\ufeffa,b\r\n\r\n"):
        raw = csv(text)
        assert raw.n == 0
        assert cells(raw) == {"a": [], "b": []}
    assert csv("a").n == 0


@pytest.mark.parametrize("data", [b"", b"\n \n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\r\n", b" "])
def test_an_empty_csv_is_an_error(data: bytes) -> None:
    with pytest.raises(DecodeError, match="the CSV is empty; a header row with the column names comes first"):
        csv(data)


@pytest.mark.parametrize(
    ("text", "bad", "good"),
    [
        ("a,b\n1,2\n3\n4,5\n", {1: 1}, ["1", "4"]),
        ("a,b\n1,2,3\n4,5\n", {0: 3}, ["4"]),
        ("a,b\n\n\n1,2\n\n3\n\n4,5,6\n7,8", {1: 1, 2: 3}, ["1", "7"]),
        ('\n\na,b\n"1\n\n1",2\n3\n4,5\n', {1: 1}, ["1\n\n1", "4"]),
        ("a,b\n1,2\n,,\n", {1: 3}, ["1"]),
        ("a,b\n,,", {0: 3}, []),
        ("a\n1\n\n2,3\n4\n", {2: 2}, ["1", None, "4"]),
    ],
)
def test_ragged_rows_are_set_aside_at_their_place(text: str, bad: dict[int, int], good: list[str | None]) -> None:
    raw = csv(text)
    assert {place: error.message.split()[1] for place, error in raw.bad.items()} == {
        place: str(found) for place, found in bad.items()
    }
    for place, error in raw.bad.items():
        assert error.code == "row_ragged"
        assert error.where == f"row {place}"
        assert error.message.endswith(f"cells, the header has {2 if ',b' in text else 1}")
    assert cells(raw)["a"] == good
    assert raw.n == len(good) + len(bad)


def test_places_of_ragged_rows_hold_beyond_one_block() -> None:
    raw = csv(b"a,b\n" + b"1,2\n\n" * 1_100_000 + b"3\n" + b"1,2\n" * 10 + b"4,5,6\n")
    assert sorted(raw.bad) == [1_100_000, 1_100_011]
    assert raw.n == 1_100_012


@pytest.mark.parametrize(
    ("text", "row"),
    [('a,b\n1,"2\n3,4\n', 0), ('a,b\n1,2\n3,"4', 1), ('a\n"1\n', 0), ('a,b\n,,\n1,"2\n', 1), ('a,b\n1,2,"3\n', 0)],
)
def test_a_quote_that_is_never_closed_is_an_error(text: str, row: int) -> None:
    with pytest.raises(DecodeError, match=f"a quote is opened in row {row} and never closed"):
        csv(text)


@pytest.mark.parametrize(
    "data",
    [
        b"a,b\n1,\xff\n", b"\xff\xfea\x00,\x00\x00", b"a,b\n1,\xff,3\n", b"a,b\n" + b"1,2\n" * 300_000 + b"\xff,2\n",
        b"a,b\n" + b"1,2\n" * 300_000 + b"\xff,2,3\n", b"a,b\n" + b"1,2\n" * 300_000 + b"1,\xc3",
    ],
    ids=["cell", "utf16", "ragged", "late", "late-ragged", "late-end"],
)  # fmt: skip
def test_csv_that_is_not_utf8_is_an_error(data: bytes) -> None:
    with pytest.raises(DecodeError, match=r"not UTF-8|not UTF-16"):
        csv(data)


def test_csv_with_nul_bytes_is_text() -> None:
    assert cells(csv(b"a,b\n1,\x002\n")) == {"a": ["1"], "b": ["\x002"]}
    assert cells(csv(b"\x00")) == {"\x00": []}


def test_csv_columns_that_appear_twice_are_named() -> None:
    with pytest.raises(SchemaError, match="columns appear twice in the header: 'b', 'a'") as caught:
        csv("b,a,c,b,a\n1,2,3,4,5\n")
    assert caught.value.where == "b"


def test_csv_limits() -> None:
    header = ",".join(f"c{i}" for i in range(10_000))
    assert csv(header + "\n" + "1," * 9_999 + "1\n").n == 1
    with pytest.raises(LimitExceeded, match="10,001 columns; at most 10,000 are read"):
        csv(header + ",more\n")
    with pytest.raises(LimitExceeded, match="the CSV's header is longer than 1,048,576 bytes"):
        csv(",".join(f"c{i:0200}" for i in range(9_000)))
    assert csv("a\n1\n2\n", max_rows=2).n == 2
    with pytest.raises(LimitExceeded, match="3 rows; at most 2 are read"):
        csv("a,b\n1,2\n2\n3,4\n", max_rows=2)
    with pytest.raises(LimitExceeded, match="bytes when decoded"):
        csv("a\n" + "x" * 1000, max_bytes=1000)
    with pytest.raises(DecodeError, match="header cannot be read: field larger than field limit"):
        csv('"' + "x" * 200_000 + '",b\n1,2\n')
    with pytest.raises(DecodeError, match="not readable as CSV"):
        csv("a,b\n" + '"' + "x\n" * 6_000_000 + '",2\n')


def test_ndjson_of_objects_arrays_and_broken_lines() -> None:
    raw = ndjson(
        b'\xef\xbb\xbf{"a": 1, "b": "x"}\r\n\n  \n[2, "y"]\n{"a": \n"text"\n7\n{"b": null}\n\xff\n{"a": 1e999}'
    )
    assert raw.rows == [{"a": 1, "b": "x"}, [2, "y"], {"b": None}, {"a": float("inf")}]
    assert raw.n == 8
    assert {place: error.where for place, error in raw.bad.items()} == {
        2: "line 5", 3: "line 6", 4: "line 7", 6: "line 9",
    }  # fmt: skip
    assert raw.bad[2].message.startswith("line 5 is not JSON: ")
    assert raw.bad[3].message == "line 6 must be an object or an array"
    assert {error.code for error in raw.bad.values()} == {"json_invalid"}


def test_ndjson_to_train_on_is_the_union_of_its_keys() -> None:
    raw = ndjson('{"a": 1, "b": "x"}\n{"c": [1], "a": 2.5}\n{"a": null}\n')
    table = raw.to_table()
    assert table.to_pydict() == {"a": [1.0, 2.5, None], "b": ["x", None, None], "c": [None, [1], None]}
    mixed = ndjson(
        '{"a": 1}\n{"a": "x"}\n{"a": true}\n{"a": 1.5}\n{"a": 2.0}\n{"a": [1]}\n{"a": 18446744073709551616}\n'
    )
    assert mixed.to_table().column("a").to_pylist() == [
        "1",
        "x",
        "true",
        "1.5",
        "2",
        "<list>",
        "1.8446744073709552e+19",
    ]


def test_ndjson_to_train_on_needs_objects() -> None:
    with pytest.raises(DecodeError, match="a table to train on needs objects with column names on every line"):
        ndjson('{"a": 1}\n[1]\n').to_table()
    with pytest.raises(DataError, match="line 2 is not JSON"):
        ndjson('{"a": 1}\n{"a"\n').to_table()
    with pytest.raises(DataError, match="line 2 is not JSON: write null for NaN"):
        ndjson('{"a": 1}\n{"a": NaN}\n').to_table()


def test_ndjson_limits() -> None:
    assert ndjson('{"a":1}\n[1]\n', max_rows=2, max_columns=1).n == 2
    with pytest.raises(LimitExceeded, match="3 rows; at most 2"):
        ndjson('{"a":1}\n{}\n[]\n', max_rows=2)
    with pytest.raises(LimitExceeded, match="2 columns; at most 1"):
        ndjson("[1, 2]", max_columns=1)
    deep = "[" * 5_000 + "]" * 5_000
    assert list(ndjson(deep).bad) == [0]


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".ipc", ".feather"])
def test_arrow_and_parquet_come_back_as_they_were(
    suffix: str, encoders: dict[str, Callable[[pa.Table], bytes]]
) -> None:
    raw = PARSERS[suffix](encoders[suffix](SMALL))
    assert isinstance(raw, RawTable)
    assert cells(raw) == SMALL.to_pydict()
    assert raw.n == 3
    assert raw.table is not None
    assert raw.table.schema.field("c").type == pa.string()
    nothing = PARSERS[suffix](encoders[suffix](SMALL.slice(0, 0)))
    assert isinstance(nothing, RawTable)
    assert nothing.n == 0
    assert cells(nothing) == SMALL.slice(0, 0).to_pydict()


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".ipc", ".feather"])
def test_limits_of_arrow_and_parquet(suffix: str, encoders: dict[str, Callable[[pa.Table], bytes]]) -> None:
    data = encoders[suffix](pa.table({"a": range(1000), "b": ["x" * 100] * 1000}))
    parse = parse_parquet if suffix == ".parquet" else parse_arrow
    assert parse(io.BytesIO(data), limits=TableLimits(2, 1000, 1 << 18)).n == 1000
    for limits, name in (
        (TableLimits(1), "columns"),
        (TableLimits(2, 999), "rows"),
        (TableLimits(2, 1000, 1 << 16), "bytes"),
    ):
        with pytest.raises(LimitExceeded, match=name):
            parse(io.BytesIO(data), limits=limits)


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".ipc"])
def test_one_long_text_in_every_row_is_refused_before_it_is_written_out(
    suffix: str, encoders: dict[str, Callable[[pa.Table], bytes]]
) -> None:
    same = pa.DictionaryArray.from_arrays(pa.array(np.zeros(50_000, np.int32)), pa.array(["x" * 1_000_000]))
    data = encoders[suffix](pa.table({"a": same}))
    parse = parse_parquet if suffix == ".parquet" else parse_arrow
    with pytest.raises(LimitExceeded, match=r"50,00\d,\d{3},\d{3} bytes when decoded"):
        parse(io.BytesIO(data), limits=TableLimits(max_bytes=1 << 28))


def test_compact_columns_of_every_kind_are_written_out(encoders: dict[str, Callable[[pa.Table], bytes]]) -> None:
    numbers = pa.array([5, None, 5], pa.int32())
    plain = {
        "text": numbers.cast(pa.string()),
        "large": numbers.cast(pa.string()).cast(pa.large_string()),
        "binary": numbers.cast(pa.string()).cast(pa.binary()),
        "int": numbers.cast(pa.int16()),
        "float": numbers.cast(pa.float64()),
        "date": numbers.cast(pa.date32()),
        "decimal": numbers.cast(pa.decimal128(12, 2)),
        "null": pa.nulls(3),
    }
    table = pa.table({name: array.dictionary_encode() for name, array in plain.items()})
    views = pa.array(["5", None, "long enough to lie beside the view"], pa.string_view())
    table = table.append_column("view", views)
    found = parse_arrow(io.BytesIO(encoders[".arrow"](table))).table
    assert found is not None
    assert found.to_pydict() == {
        **{name: array.to_pylist() for name, array in plain.items()},
        "view": views.to_pylist(),
    }
    assert not any(pa.types.is_dictionary(kind) or pa.types.is_string_view(kind) for kind in found.schema.types)
    nothing = parse_arrow(io.BytesIO(encoders[".arrow"](table.slice(1, 0)))).table
    assert nothing is not None
    assert nothing.num_rows == 0
    part = parse_arrow(io.BytesIO(encoders[".arrow"](table.slice(1, 2)))).table
    assert part is not None
    assert part.to_pydict() == {name: column[1:] for name, column in found.to_pydict().items()}


def test_one_long_text_by_reference_is_refused_before_it_is_written_out() -> None:
    view = np.array([[1_000_000, int.from_bytes(b"xxxx", "little"), 0, 0]], np.int32)
    buffers = [None, pa.py_buffer(np.repeat(view, 50_000, axis=0).tobytes()), pa.py_buffer(b"x" * 1_000_000)]
    table = pa.table({"a": pa.Array.from_buffers(pa.string_view(), 50_000, buffers)})
    sink = pa.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(LimitExceeded, match=r"50,00\d,\d{3},\d{3} bytes when decoded"):
        parse_arrow(io.BytesIO(sink.getvalue()), limits=TableLimits(max_bytes=1 << 28))


def test_a_missing_text_by_reference_is_never_followed() -> None:
    views = np.array([[1, 97, 0, 0], [2**31 - 1, 0, 7, 2**31 - 1]], np.int32)
    buffers = [pa.py_buffer(b"\x01"), pa.py_buffer(views.tobytes())]
    table = pa.table({"a": pa.Array.from_buffers(pa.string_view(), 2, buffers, null_count=1)})
    sink = pa.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    assert cells(parse_arrow(io.BytesIO(sink.getvalue()))) == {"a": ["a", None]}


def npy(header: str, data: bytes = b"", version: tuple[int, int] = (1, 0)) -> bytes:
    text = header.encode() + b"\n"
    size = len(text).to_bytes(2 if version == (1, 0) else 4, "little")
    return b"\x93NUMPY" + bytes(version) + size + text + data


def header(descr: str = "'<f8'", shape: str = "(2,)", fortran: str = "False") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}}}"


@pytest.mark.parametrize("kind", ["<f8", ">f8", "<f4", "<f2", ">i2", "<u8", "|u1", "|i1", "|b1", "<f16"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_of_every_kind_and_order(kind: str, order: str) -> None:
    array = np.asarray(np.arange(24).reshape(2, 3, 4) % 2, dtype=kind, order=order)  # type: ignore[call-overload]
    packed = io.BytesIO()
    np.save(packed, array)
    found = parse_npy(packed.getvalue())
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


def test_npy_without_items_and_of_version_two() -> None:
    assert parse_npy(npy(header(shape="(0, 5)"))).shape == (0, 5)
    assert parse_npy(npy(header(shape="(5, 0)"))).shape == (5, 0)
    np.testing.assert_array_equal(parse_npy(npy(header(), np.array([1.0, 2.0]).tobytes(), (2, 0))), [1, 2])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not readable as .npy"),
        (b"PK\x03\x04 an npz", "not readable as .npy"),
        (npy(header(), bytes(16), (3, 0)), r"version \(3, 0\) is not read"),
        (npy("{'descr': '<f8'}"), "not readable as .npy"),
        (npy("(" * 5000), "not readable as .npy"),
        (npy(header(), bytes(15)), "announces 16 bytes of data and has 15"),
        (npy(header(), bytes(17)), "announces 16 bytes of data and has 17"),
        (npy(header(shape="(1000000000000,)")), "1,000,000,000,000 rows; at most 50,000,000 are read"),
        (npy(header(shape="(2, 1000000000000)")), "announces 16,000,000,000,000 bytes"),
        (npy(header(shape="(5, 1000000000000000000000, 0)")), "not readable as .npy"),
        (npy(header(shape=str((1,) * 70)), bytes(8)), "not readable as .npy"),
        (npy(header(shape="(True,)"), bytes(8)), "not readable as .npy"),
        (npy(header(shape="(-1,)")), r"must hold an array of items\. Got shape \(-1,\)"),
        (npy(header(shape="()"), bytes(8)), r"must hold an array of items\. Got shape \(\)"),
        (npy(header("'|O'"), bytes(16)), r"must hold numbers\. Got dtype object"),
        (npy(header("'<U4'"), bytes(32)), r"must hold numbers\. Got dtype <U4"),
        (npy(header("'<M8[s]'"), bytes(16)), "must hold numbers"),
        (npy(header("'<c16'"), bytes(32)), "must hold numbers"),
        (npy(header("[('a', '<f8'), ('b', '<f8')]"), bytes(32)), "must hold numbers"),
        (npy(header("('<f8', (2,))"), bytes(32)), "must hold numbers|not readable"),
    ],
)
def test_npy_that_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_npy(data)


def test_an_object_array_is_never_unpickled() -> None:
    packed = io.BytesIO()
    np.save(packed, np.array([{"a": 1}, None], dtype=object), allow_pickle=True)
    with pytest.raises(DecodeError, match="Got dtype object"):
        parse_npy(packed.getvalue())


def test_an_array_is_read_where_its_floats_are_too_wide() -> None:
    packed = io.BytesIO()
    np.save(packed, np.array([[np.longdouble("1e400")]]))
    assert not math.isfinite(float(parse_npy(packed.getvalue())[0, 0]))


@pytest.fixture(scope="module")
def valid(encoders: dict[str, Callable[[pa.Table], bytes]]) -> dict[str, bytes]:
    packed = io.BytesIO()
    np.save(packed, np.arange(12.0).reshape(3, 4))
    samples = {suffix: encoders[suffix](SMALL) for suffix in PARSERS if suffix in encoders and suffix != ".csv"}
    return samples | {".csv": encoders[".csv"](SMALL.drop_columns(["d"])), ".npy": packed.getvalue()}


def survives(suffix: str, data: bytes) -> None:
    """A parser succeeds, or raises nothing but a DataError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy warns of headers written by Python 2
        with suppress(DataError):
            raw = PARSERS[suffix](data)
            if isinstance(raw, RawTable):
                raw.to_table()


@pytest.mark.parametrize("suffix", list(PARSERS))
def test_a_file_cut_anywhere_raises_data_errors_only(suffix: str, valid: dict[str, bytes]) -> None:
    data = valid[suffix]
    for end in range(min(len(data), 1024)):
        survives(suffix, data[:end])


@pytest.mark.parametrize("suffix", list(PARSERS))
def test_a_file_with_a_flipped_byte_raises_data_errors_only(suffix: str, valid: dict[str, bytes]) -> None:
    data = valid[suffix]
    draw = np.random.default_rng(0)
    for place in range(min(len(data), 1024)):
        flipped = bytearray(data)
        flipped[place] ^= int(draw.integers(1, 256))
        survives(suffix, bytes(flipped))


@pytest.mark.parametrize("suffix", list(PARSERS))
def test_random_bytes_raise_data_errors_only(suffix: str) -> None:
    magic = {
        ".parquet": b"PAR1",
        ".arrow": b"\xff\xff\xff\xff",
        ".ipc": b"ARROW1\x00\x00",
        ".npy": b"\x93NUMPY\x01\x00",
    }

    @FUZZ
    @given(st.binary(max_size=200), st.booleans())
    def check(data: bytes, start: bool) -> None:
        survives(suffix, (magic.get(suffix, b"") if start else b"") + data)

    check()


@FUZZ
@given(st.text(alphabet='ab,;\t|"\n\r \x00\N{SNOWMAN}1', max_size=60))
def test_csv_like_text_raises_data_errors_only(text: str) -> None:
    survives(".csv", text.encode())


def test_a_size_that_no_memory_has_is_told_as_a_bad_file() -> None:
    with pytest.raises(DecodeError, match="not readable as Arrow IPC: malloc"), decoding("Arrow IPC"):
        raise MemoryError("malloc of size 9223372036854775807 failed")


def test_an_error_of_a_line_holds_nothing_but_what_it_says() -> None:
    """With its traceback and causes 100,000 of them held 2 GB, and the collector stopped everything to look at them."""
    bad = parse_ndjson(io.BytesIO(b"x\n[1]\ny\n"), limits=TableLimits()).bad
    assert sorted(bad) == [0, 2]
    assert all(error.__traceback__ is error.__cause__ is error.__context__ is None for error in bad.values())
