"""Tables from files and folders: the same rows are the same numbers in every format, and errors name the place."""

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elbound.data.cells import MISSING_WORDS
from elbound.data.items import TensorItems
from elbound.data.table import TablePreprocessor
from elbound.errors import DataError, DecodeError, SchemaError, UnsupportedMedia
from elbound.files.readers import parse_file, read_table, table_files, table_suffix
from elbound.schema import Column, TableSchema

Encoders = dict[str, Callable[[pa.Table], bytes]]
Write = Callable[[str, bytes | str], Path]
TABLE = pa.table({"a": [1.5, None, -3.0], "b": [True, False, None], "c": ["x", "y; z, w", None]})
SCHEMA = TableSchema(
    columns=(
        Column(name="number", kind="numeric"),
        Column(name="whole", kind="numeric"),
        Column(name="flag", kind="boolean"),
        Column(name="word", kind="categorical", levels=("red", "b", "1", "1.5")),
    )
)
row = st.fixed_dictionaries(
    {
        "number": st.none() | st.floats(allow_nan=False, allow_infinity=False),
        "whole": st.none() | st.integers(-(2**62), 2**62),
        "flag": st.none() | st.booleans(),
        "word": st.none() | st.sampled_from(["red", " b ", "1", "NA", "", "unseen"]) | st.text(max_size=5),
    }
)


def is_empty(cells: dict[str, object]) -> bool:
    return all(cell is None or str(cell).strip().lower() in MISSING_WORDS for cell in cells.values())


def table_of(rows: list[dict[str, object]]) -> pa.Table:
    kinds = {"number": pa.float64(), "whole": pa.int64(), "flag": pa.bool_(), "word": pa.string()}
    return pa.table({name: pa.array([row[name] for row in rows], kind) for name, kind in kinds.items()})


def same(found: TensorItems, expected: TensorItems) -> None:
    np.testing.assert_array_equal(found.x.numpy(), expected.x.numpy())
    np.testing.assert_array_equal(found.index, expected.index)
    assert found.n == expected.n
    assert found.unseen == expected.unseen
    assert {i: error.message for i, error in found.errors.items()} == {
        i: error.message for i, error in expected.errors.items()
    }


@settings(max_examples=60, deadline=None, derandomize=True)
@given(rows=st.lists(row.filter(lambda cells: not is_empty(cells)), min_size=1, max_size=5))
def test_the_same_rows_are_the_same_tensor_in_every_format(
    rows: list[dict[str, object]], encoders: Encoders, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "formats"
    folder.mkdir(exist_ok=True)
    preprocessor = TablePreprocessor(SCHEMA)
    table = table_of(rows)
    expected = preprocessor.rows_to_tensor(rows)
    assert expected.n == len(rows)
    assert {error.code for error in expected.errors.values()} <= {"row_empty"}
    same(preprocessor.rows_to_tensor([[row[name] for name in SCHEMA.names] for row in rows]), expected)
    same(preprocessor.to_tensor(table), expected)
    for suffix, encode in encoders.items():
        path = folder / f"rows{suffix}"
        path.write_bytes(encode(table))
        same(parse_file(path).to_tensor(preprocessor), expected)
        same(preprocessor.to_tensor(read_table(path).table), expected)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(cells=st.lists(st.none() | st.floats(-1e6, 1e6), min_size=1, max_size=5))
def test_one_column_with_gaps_is_the_same_tensor_in_every_format(
    cells: list[float | None], encoders: Encoders, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "one-column"
    folder.mkdir(exist_ok=True)
    preprocessor = TablePreprocessor(TableSchema(columns=(Column(name="a", kind="numeric"),)))
    expected = preprocessor.rows_to_tensor([{"a": cell} for cell in cells])
    for suffix, encode in encoders.items():
        path = folder / f"rows{suffix}"
        path.write_bytes(encode(pa.table({"a": pa.array(cells, pa.float64())})))
        same(parse_file(path).to_tensor(preprocessor), expected)


@pytest.mark.parametrize(
    "suffix", [".csv", ".csv.gz", ".parquet", ".arrow", ".ipc", ".feather", ".ndjson", ".jsonl.gz"]
)
def test_a_file_of_each_format_is_read(suffix: str, encoders: Encoders, write: Write) -> None:
    table = read_table(write(f"Rows{suffix.upper()}", encoders[suffix](TABLE))).table
    found = table.to_pydict()
    if "csv" in suffix:
        assert found == {"a": ["1.5", None, "-3"], "b": ["true", "false", None], "c": ["x", "y; z, w", None]}
    else:
        assert found == TABLE.to_pydict()


def test_suffixes_name_the_format() -> None:
    assert table_suffix(Path("a/b.CSV")) == ".csv"
    assert table_suffix(Path("b.tsv.gz")) == ".tsv"
    assert table_suffix(Path("b.csv.zip")) is None
    assert table_suffix(Path("csv")) is None


def test_a_folder_is_the_rows_of_its_tables_by_name(encoders: Encoders, write: Write, tmp_path: Path) -> None:
    write("d/b.csv", "a,c\n3,x\n")
    write("d/a/z.csv.gz", gzip.compress(b"c;a\nx;1\ny;2\n"))
    write("d/.hidden.csv", "q\n1\n")
    write("d/._b.csv", b"\x00\x05\x16\x07")
    write("d/readme.txt", "no table")
    assert [file.name for file in table_files(tmp_path / "d")] == ["z.csv.gz", "b.csv"]
    table = read_table(tmp_path / "d").table
    assert table.select(["a", "c"]).to_pydict() == {"a": ["1", "2", "3"], "c": ["x", "y", "x"]}


def test_a_folder_of_several_formats_is_one_table(encoders: Encoders, write: Write, tmp_path: Path) -> None:
    for place, suffix in enumerate([".csv", ".parquet", ".arrow", ".ndjson"]):
        write(f"d/{place}{suffix}", encoders[suffix](TABLE))
    schema = TableSchema(
        columns=(
            Column(name="a", kind="numeric"),
            Column(name="b", kind="boolean"),
            Column(name="c", kind="categorical", levels=("x", "y; z, w")),
        )
    )
    x = TablePreprocessor(schema).to_tensor(read_table(tmp_path / "d").table).only().numpy()
    one = [[1.5, 1, 0], [np.nan, 0, 1], [-3, np.nan, np.nan]]
    np.testing.assert_array_equal(x, np.array(one * 4))


def test_numbers_of_several_widths_are_promoted(encoders: Encoders, write: Write, tmp_path: Path) -> None:
    write("d/1.parquet", encoders[".parquet"](pa.table({"a": pa.array([1], pa.int8())})))
    write("d/2.parquet", encoders[".parquet"](pa.table({"a": pa.array([2.5], pa.float32())})))
    write("d/3.parquet", encoders[".parquet"](pa.table({"a": pa.nulls(1)})))
    found = read_table(tmp_path / "d")
    assert found.table.to_pydict() == {"a": [1.0, 2.5]}
    assert found.warnings == [f"{tmp_path}/d/3.parquet: row 0 (from 0) is empty in every cell, and is left out"]


def test_files_whose_columns_differ_are_named(write: Write, tmp_path: Path) -> None:
    write("d/1.csv", "a,b\n1,2\n")
    write("d/2.csv", "a,c\n1,2\n")
    with pytest.raises(SchemaError, match=r"1\.csv has no columns 'c', which \S+2\.csv has; all files") as caught:
        read_table(tmp_path / "d")
    assert caught.value.where == str(tmp_path / "d" / "1.csv")


def test_a_key_that_no_line_of_an_ndjson_file_has_is_missing(write: Write, tmp_path: Path) -> None:
    write("d/1.ndjson", '{"a": 1}\n')
    write("d/2.jsonl", '{"a": 2, "b": "x"}\n')
    write("d/3.ndjson", "")
    assert read_table(tmp_path / "d").table.to_pydict() == {"a": [1, 2], "b": [None, "x"]}


def test_files_whose_types_cannot_meet_are_a_schema_error(encoders: Encoders, write: Write, tmp_path: Path) -> None:
    write("d/1.parquet", encoders[".parquet"](pa.table({"a": [[1]]})))
    write("d/2.parquet", encoders[".parquet"](pa.table({"a": ["x"]})))
    with pytest.raises(SchemaError, match=r"the files of \S+ do not have the same columns: .*list"):
        read_table(tmp_path / "d")


@pytest.mark.parametrize(
    ("name", "content", "line", "message"),
    [
        ("a.csv", "a,b\n1,2\n3\n4,5\n", 3, "has 1 cells, the header has 2"),
        ("a.csv", '\n\na,b\n\n"1\n\n1",2\n\n3,4,5\n', 9, "has 3 cells, the header has 2"),
        ("a.csv", '\ufeff"a\n",b\r\n1,2\r\n"x\ny",2,3\r\n', 4, "has 3 cells, the header has 2"),
        ("a.csv", "\na\n1\n\n2,3\n", 5, "has 2 cells, the header has 1"),
        ("a.tsv", "a\tb\n1\t2\t3", 2, "has 3 cells, the header has 2"),
    ],
)
def test_a_ragged_row_to_train_on_is_named_by_file_and_line(
    write: Write, name: str, content: str, line: int, message: str
) -> None:
    for path in (write(name, content), write(f"{name}.gz", gzip.compress(content.encode()))):
        with pytest.raises(DecodeError) as caught:
            read_table(path)
        assert caught.value.message == f"{path}: line {line} {message}"
        assert caught.value.where == f"{path}:{line}"
        assert caught.value.code == "row_ragged"


def test_the_line_of_a_ragged_row_is_left_out_where_it_cannot_be_told(write: Write) -> None:
    path = write("a.csv", "a,b\n" + "x" * 200_000 + ",1\n2\n")
    with pytest.raises(DecodeError, match=r"a\.csv: has 1 cells, the header has 2") as caught:
        read_table(path)
    assert caught.value.where == "row 1"


def test_ragged_rows_to_score_are_items_with_an_error_among_the_others(write: Write) -> None:
    path = write("a.csv", "id,a\nr0,1\nr1\nr2,bad\n\nr3,4\nr4,5,6\nr5,\n")
    schema = TableSchema(columns=(Column(name="a", kind="numeric"),), id_column="id")
    items = parse_file(path).to_tensor(TablePreprocessor(schema))
    assert items.n == 6
    assert items.index.tolist() == [0, 3]
    np.testing.assert_array_equal(items.x.numpy(), [[1], [4]])
    assert {i: (error.code, error.where) for i, error in items.errors.items()} == {
        1: ("row_ragged", "row 1"), 2: ("cell_invalid", "a"), 4: ("row_ragged", "row 4"),
        5: ("row_empty", "row 5"),
    }  # fmt: skip
    assert items.names == ["r0", "1", "r2", "r3", "4", "r5"]


def test_a_broken_line_of_ndjson_is_named(write: Write) -> None:
    path = write("a.ndjson", '{"a": 1}\n\n{"a": \n')
    with pytest.raises(DecodeError, match=r"a\.ndjson: line 3 is not JSON") as caught:
        read_table(path)
    assert caught.value.where == "line 3"
    items = parse_file(path).to_tensor(TablePreprocessor(TableSchema(columns=(Column(name="a", kind="numeric"),))))
    assert items.index.tolist() == [0]
    assert list(items.errors) == [1]


@pytest.mark.parametrize(
    ("name", "content", "kind", "message"),
    [
        ("a.csv", "", DecodeError, "the CSV is empty"),
        ("a.csv", "a,b\n", DataError, "holds no rows"),
        ("a.csv", "a,a\n1,2\n", SchemaError, "columns appear twice in the header: 'a'"),
        ("a.csv", b"a,b\n\x00\x00\xff", DecodeError, "line 2 is not UTF-8"),
        ("a.csv", 'a,b\n1,"2\n', DecodeError, "never closed"),
        ("a.ndjson", "", DataError, "holds no rows"),
        ("a.ndjson", "[1, 2]\n", DecodeError, "needs objects with column names on every line"),
        ("a.ndjson", "[{}]\n", DecodeError, "needs objects with column names on every line"),
        ("a.parquet", b"not parquet", DecodeError, "not readable as Parquet"),
        ("a.parquet", b"", DecodeError, "not readable as Parquet"),
        ("a.arrow", b"ARROW1", DecodeError, "not readable as Arrow IPC"),
        ("a.feather", b"", DecodeError, "not readable as Arrow IPC"),
        ("a.csv.gz", b"a,b\n1,2\n", DecodeError, "cannot be read: Not a gzipped file"),
        ("a.csv.gz", gzip.compress(b"a,b\n" * 99)[:20], DecodeError, "the gzip is truncated or broken"),
        ("a.csv.gz", gzip.compress(b"a,b\n" * 99)[:12] + b"\xff" * 9, DecodeError, "cannot be read"),
        ("a.txt", "a,b\n1,2\n", UnsupportedMedia, r"is none of \.csv, \.tsv"),
    ],
)
def test_files_that_cannot_be_read_are_named(
    write: Write, name: str, content: bytes | str, kind: type[DataError], message: str
) -> None:
    path = write(name, content)
    with pytest.raises(kind, match=message) as caught:
        read_table(path)
    assert type(caught.value) is kind
    assert str(path) in caught.value.message


def test_paths_that_are_not_there_or_hold_nothing_are_named(tmp_path: Path, write: Write) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_table(tmp_path / "nowhere.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"holds no tables \(\.csv, "):
        read_table(tmp_path / "empty")
    with pytest.raises(DecodeError, match="cannot be read"):
        parse_file(tmp_path / "nowhere.csv")


def test_columns_that_appear_twice_in_parquet_are_named(write: Write, encoders: Encoders) -> None:
    doubled = pa.Table.from_arrays([pa.array([1]), pa.array([2]), pa.array([3])], ["a", "b", "a"])
    with pytest.raises(SchemaError, match=r"twice\.parquet: columns appear twice: 'a'"):
        read_table(write("twice.parquet", encoders[".parquet"](doubled)))
