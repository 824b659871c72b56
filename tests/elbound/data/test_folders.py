"""Folders of tables: what is passed over, columns in the names of folders, and tables of other systems."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from elbound.data.raw import RawTable
from elbound.errors import DataError, SchemaError, UnsupportedMedia
from elbound.files.folders import is_hidden, passed_over, visible_files
from elbound.files.partitions import partitions_of, with_partitions
from elbound.files.readers import read_table, table_files
from elbound.files.streams import table_pieces

Write = Callable[[str, bytes | str], Path]
Encoders = dict[str, Callable[[pa.Table], bytes]]


def test_hidden_and_temporary_files_are_passed_over_at_any_depth(write: Write, tmp_path: Path) -> None:
    for name in ("b.csv", "a/c.csv"):
        write(f"d/{name}", "a\n1\n")
    for name in (
        ".ipynb_checkpoints/b.csv",
        "_temporary/0/x.csv",
        "a/__MACOSX/c.csv",
        "a/.c.csv",
        "_SUCCESS",
        "a/_c.csv",
    ):
        write(f"d/{name}", "z\n9\n")
    write("d/notes.txt", "")
    write("d/a/book.xlsx", "")
    write("d/a/Thumbs.db", "")
    folder = tmp_path / "d"
    assert [file.relative_to(folder).as_posix() for file in table_files(folder)] == ["a/c.csv", "b.csv"]
    found = read_table(folder)
    assert found.table.num_rows == 2
    assert found.warnings == [
        f"2 files were passed over: 1 .txt, 1 .xlsx ({folder})",
        f"5 tables in hidden or temporary places were passed over, as .ipynb_checkpoints/b.csv ({folder})",
    ]


def test_a_folder_without_tables_says_what_it_has(write: Write, tmp_path: Path) -> None:
    write("d/a.json", "[]")
    write("d/_b.csv", "a\n1\n")
    with pytest.raises(
        DataError, match=r"holds no tables .*1 file was passed over: 1 \.json.*1 table in a hidden"
    ) as found:
        read_table(tmp_path / "d")
    assert found.value.where == str(tmp_path / "d")


def test_files_are_counted_by_kind() -> None:
    assert passed_over([]) is None
    files = [Path(name) for name in ("a.XLSX", "b.xlsx", "c.txt", "d")]
    assert passed_over(files) == "4 files were passed over: 2 .xlsx, 1 .txt, 1 without a suffix"
    many = [Path(f"a.{kind}") for kind in "abcdefgh"]
    assert passed_over(many) == "8 files were passed over: 1 .a, 1 .b, 1 .c, 1 .d, 1 .e, 1 .f, 2 other kinds"
    assert [is_hidden(name) for name in ("a", ".a", "_a", "Thumbs.db")] == [False, True, True, True]


def test_visible_files_are_sorted(write: Write, tmp_path: Path) -> None:
    for name in ("z/1", "a/2", "b"):
        write(name, "")
    assert [file.relative_to(tmp_path).as_posix() for file in visible_files(tmp_path)] == ["a/2", "b", "z/1"]


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".arrow", ".ndjson"])
def test_folders_named_as_columns_are_columns(suffix: str, write: Write, encoders: Encoders, tmp_path: Path) -> None:
    for place in ("year=2025/line=A", "year=2026/line=A%20B", "year=2026/line=__HIVE_DEFAULT_PARTITION__"):
        write(f"d/{place}/part{suffix}", encoders[suffix](pa.table({"a": [1.5, 2.5]})))
    write("d/_SUCCESS", "")
    found = read_table(tmp_path / "d")
    assert found.table["year"].to_pylist() == ["2025", "2025", "2026", "2026", "2026", "2026"]
    assert found.table["line"].to_pylist() == ["A", "A", "A B", "A B", None, None]
    assert found.warnings == []
    heads: list[pa.Table] = []
    for file in table_files(tmp_path / "d")[:1]:
        known = partitions_of(file, {"line", None})
        assert known == {"line": "A"}
        pieces = list(table_pieces(file, rows=1, wanted=lambda _: True, check=heads.append, partitions=known))
        assert [piece.n for piece in pieces] == [1, 1]
        for piece in pieces:
            assert piece.raw is not None
            rows = piece.raw.rows if piece.raw.table is None else piece.raw.table.to_pylist()
            assert [row["line"] for row in rows] == ["A"]  # type: ignore[index, call-overload]
    assert all(head.column_names == ["a", "line"] for head in heads)


def test_only_the_folders_right_above_a_file_are_columns() -> None:
    assert partitions_of(Path("/data/x=1/raw/line=A/part.csv")) == {"line": "A"}
    assert partitions_of(Path("=a/b=/c.csv")) == {"b": ""}
    assert partitions_of(Path("a.csv")) == {}


def test_a_column_that_is_in_the_file_too_must_agree(write: Write, encoders: Encoders, tmp_path: Path) -> None:
    agree = pa.table({"a": [1.5, 2.5], "month": pa.array([1, 1], pa.int8()), "line": ["A", "A"]})
    write("d/month=01/line=A/p.parquet", encoders[".parquet"](agree))
    assert read_table(tmp_path / "d").table.to_pydict() == agree.to_pydict()
    write("d/month=01/line=A/p.csv", "a,month,line\n1,1,A\n1,1,B\n")
    with pytest.raises(
        SchemaError, match=r"p\.csv: column 'line' has 'B' in the file and 'A' in the name of its folder"
    ):
        read_table(tmp_path / "d")
    file = tmp_path / "d/month=01/line=A/p.csv"
    found = list(table_pieces(file, rows=1, wanted=lambda _: True, check=lambda _: None, partitions={"line": "A"}))
    assert [piece.error is None for piece in found] == [True, False]
    rows = RawTable(rows=[{"a": 1, "line": "B"}, [2]])
    with pytest.raises(SchemaError, match="column 'line' has 'B'"):
        with_partitions(rows, {"line": "A"})
    assert with_partitions(rows, {"x": "1"}).rows == [{"x": "1", "a": 1, "line": "B"}, [2]]
    with pytest.raises(SchemaError, match="cannot be compared"):
        with_partitions(RawTable(table=pa.table({"line": [[1]]})), {"line": "A"})


@pytest.mark.parametrize(("sign", "name"), [
    ("_delta_log/00000000000000000000.json", "a Delta table"),
    ("metadata/v1.metadata.json", "an Iceberg table"),
    (".hoodie/hoodie.properties", "a Hudi table"),
])  # fmt: skip
@pytest.mark.parametrize("depth", ["", "tables/one/"])
def test_tables_whose_log_says_which_rows_hold_are_refused(
    sign: str, name: str, depth: str, write: Write, encoders: Encoders, tmp_path: Path
) -> None:
    write(f"d/{depth}part-0.parquet", encoders[".parquet"](pa.table({"a": [1.5]})))
    write(f"d/{depth}{sign}", json.dumps({}))
    with pytest.raises(UnsupportedMedia, match=f"{name}: its files hold removed rows too. Export .* Parquet"):
        read_table(tmp_path / "d")
