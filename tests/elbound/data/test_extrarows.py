"""Rows that are no items: what training leaves out and says, and what it keeps."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from elbound.files.readers import parse_file, read_table

Write = Callable[[str, bytes | str], Path]
DRAW = np.random.default_rng(0).normal(20, 2, (40, 3)).round(3)
LINES = [",".join(map(str, row)) + f",{'north' if i % 2 else 'south'}" for i, row in enumerate(DRAW)]
HEADER = "width,height,temp,line"


def table(*lines: str, header: str = HEADER) -> str:
    return "\n".join((header, *lines)) + "\n"


@pytest.mark.parametrize(("text", "rows", "said"), [
    (table(*LINES), 40, None),
    (table(*LINES, ",,,"), 40, "line 42 is empty in every cell, and is left out"),
    (table(",,,", "", "NA, n/a,null,", *LINES), 40, "2 rows are empty in every cell, the first line 2"),
    (table(*LINES[:9], HEADER, *LINES[9:]), 40, "line 11 is the header once more, and is left out"),
    (table(*LINES, " width,height ,temp,line"), 40, "line 42 is the header once more, and is left out"),
    (table("mm,mm,°C,", *LINES), 40, r"line 2 is a row of units above the numbers (mm, mm, °C), and is left out"),
    (table("[mm],[1/min],[°C],[-]", *LINES), 40, "line 2 is a row of units above the numbers ([mm], [1/min], "),
    (table("mm,%,m/s2,-", *LINES), 40, "line 2 is a row of units above the numbers (mm, %, m/s2, -)"),
    (table(*LINES, "800,900,1000,Total"), 40, "line 42 is a total of the rows above (800, 900, 1000, Total)"),
    (table(*LINES, ",,,Summe:"), 40, "line 42 is a total of the rows above (Summe:)"),
    (table(*LINES, "Average,20,21,"), 40, "line 42 is a total of the rows above (Average, 20, 21)"),
])  # fmt: skip
def test_rows_that_are_no_items_are_left_out_with_their_line(write: Write, text: str, rows: int, said: str) -> None:
    path = write("t.csv", text)
    found = read_table(path)
    assert found.table.num_rows == rows
    assert found.doubts == []
    if said is None:
        assert found.warnings == []
    else:
        assert found.warnings[0].startswith(f"{path}: {said}")
    scored = parse_file(path)  # scoring takes every row
    assert scored.n == text.strip().count("\n") - text.count("\n\n")


@pytest.mark.parametrize("text", [
    table("-,-,-,north", *LINES),
    table("n.a.,n.a.,n.a.,", *LINES),
    table("abc,21.5,20.1,north", *LINES),
    table("mm,mm,°C,north", *LINES),
    table(*LINES, "1,2,3,total", "4,5,6,total"),
    table(*LINES[:9], "20,21,22,Total", *LINES[9:]),
    table(*LINES, "20,21,22,total loss"),
    table("mm", "kg", header="unit"),
    table("red,x", "blue,y", "green,z", header="colour,size"),
])  # fmt: skip
def test_rows_that_may_be_items_stay(write: Write, text: str) -> None:
    found = read_table(write("t.csv", text))
    assert (found.table.num_rows, found.warnings) == (text.count("\n") - 1, [])


def test_blank_lines_of_a_single_column_are_left_out(write: Write) -> None:
    path = write("t.csv", "a\n1\n\n  \n2\n\n")
    found = read_table(path)
    assert found.table.to_pydict() == {"a": ["1", "2"]}
    assert found.warnings == [f"{path}: 3 rows are empty in every cell, the first line 3, and are left out"]


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".ndjson"])
def test_rows_of_nulls_are_left_out_in_every_format(
    suffix: str, write: Write, encoders: dict[str, Callable[[pa.Table], bytes]]
) -> None:
    rows = pa.table({"a": [1.5, None, 2.5, None], "b": ["x", None, None, " na "], "c": [None, None, True, None]})
    path = write(f"t{suffix}", encoders[suffix](rows))
    found = read_table(path)
    assert found.table.num_rows == 2
    assert found.warnings == [f"{path}: 2 rows are empty in every cell, the first row 1 (from 0), and are left out"]
    nan = pa.table({"a": [1.0, float("nan")], "b": [2.0, None]})
    if suffix != ".ndjson":
        assert read_table(write(f"u{suffix}", encoders[suffix](nan))).table.num_rows == 1


def test_rows_of_each_file_are_looked_at(write: Write, tmp_path: Path) -> None:
    for i in range(3):
        write(f"d/{i}.csv", table("mm,mm,°C,", *LINES, ",,,"))
    found = read_table(tmp_path / "d")
    assert found.table.num_rows == 120
    assert len(found.warnings) == 6


def numbered(names: str, rows: np.ndarray) -> str:
    return table(*(",".join(map(str, row)) for row in rows), header=names)


def test_a_header_of_numbers_is_a_doubt_where_it_may_be_a_row(write: Write) -> None:
    found = read_table(write("t.csv", "\n".join(LINES)))
    assert len(found.doubts) == 1
    assert (
        f"the header is made of numbers ({LINES[0].replace(',', ', ')}): the first line seems to be a row"
        in found.doubts[0]
    )
    assert "Add a line of column names above it (c0,c1,c2,c3), in files to score too" in found.doubts[0]
    small = np.random.default_rng(1).random((30, 4)).round(3)
    for text in (
        numbered("0,1,2,3", small * 3),  # pandas without names
        numbered("1,2,3,4", small * 4),
        numbered("400,405,410,415", small),  # wavelengths
        numbered("2019,2020,2021,2022", small * 100),  # years
        numbered("a,b,c,4", small),
    ):
        assert read_table(write("u.csv", text)).doubts == []
    german = "\n".join(line.replace(",", ";").replace(".", ",") for line in LINES)
    assert "made of numbers" in read_table(write("v.csv", german)).doubts[0]
