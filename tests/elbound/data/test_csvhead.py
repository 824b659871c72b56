"""Where the rows of a CSV begin, the same for every reader: names, delimiter, what stands above, and line numbers."""

import io
from pathlib import Path

import pytest

from elbound.data.cells import trimmed
from elbound.data.raw import RawTable
from elbound.data.table import TablePreprocessor
from elbound.errors import DataError, DecodeError, LimitExceeded, SchemaError, UnsupportedMedia
from elbound.files.csv import parse_csv
from elbound.files.csv_head import MAX_HEADER_BYTES, csv_head
from elbound.files.csv_stream import csv_pieces
from elbound.files.pieces import TablePiece
from elbound.files.readers import csv_lines, read_table
from elbound.schema import Column, IgnoredColumn, TableSchema

ROWS = {"a": ["1", "3"], "b": ["2", "4"]}


def pieces(data: bytes) -> list[TablePiece]:
    source = io.BufferedReader(io.BytesIO(data))
    return list(csv_pieces(source, rows=2, wanted=lambda _: True, check=lambda _: None))


def read_by_both(data: bytes) -> dict[str, list[str]]:
    """The cells of `data`, which are the same read whole and in pieces."""
    whole = parse_csv(io.BytesIO(data)).table
    found = [piece.raw.table for piece in pieces(data) if piece.raw is not None]
    assert whole is not None
    assert [row for table in found for row in table.to_pylist()] == whole.to_pylist()
    assert found[0].column_names == whole.column_names
    cells: dict[str, list[str]] = whole.to_pydict()
    return cells


@pytest.mark.parametrize("text", [
    "a,b\n1,2\n3,4\n",
    " a ,\tb\u00a0\n1,2\n3,4\n",
    "\ufeff\u200ba,\ufeffb\r\n1,2\r\n3,4",
    '" a","b "\n1,2\n3,4\n',
    "sep=;\na;b\n1;2\n3;4\n",
    "\ufeffSEP=,\r\na,b\r\n1,2\r\n3,4\r\n",
    '"sep=;"\na;b\n1;2\n3;4\n',
    "sep=\t\na\tb\n1\t2\n3\t4\n",
    "sep=^\na^b\n1^2\n3^4\n",
    "sep=;;\n\na;b\n1;2\n3;4\n",
    "# exported by press 4\n# 2026-11-21\na,b\n1,2\n3,4\n",
    "# made by x, 2026\na,b\n1,2\n3,4\n",
    "#\n\na,b\n1,2\n3,4\n",
    "Measurements of press 4\na,b\n1,2\n3,4\n",
    "Measurements\nof press 4\n\nin May\na,b\n1,2\n3,4\n",
    "Measurements, press 4\n\na;b\n1;2\n3;4\n",
    "Measurements of press 4,\na,b\n1,2\n3,4\n",
    ",\na,b\n1,2\n3,4\n",
    "a,b,\n1,2,\n3,4,\n",
    "a,b,,,\n1,2,,,\n3,4,,,\n",
    "a,,b,\n1,,2,x\n3,,4,\n",
])  # fmt: skip
def test_a_header_is_found_below_what_stands_above_it(text: str) -> None:
    assert read_by_both(text.encode()) == ROWS


@pytest.mark.parametrize(("text", "names"), [
    ("a\n1\n2\n", ["a"]),
    ("# note\nwidth\n1\n2\n", ["width"]),
    ("# width\n1\n2\n", ["# width"]),
    ("#id,name\nx,y\nz,w\n", ["#id", "name"]),
    ("#id,name\nx,1\ny,2\n", ["#id", "name"]),
    (",a,b\n0,1,2\n1,3,4\n", ["", "a", "b"]),
    (",a\nr1,x\nr2,5\n", ["", "a"]),
    ("a,b\nred,blue\n", ["a", "b"]),
    ("a,b\nred,blue,green\n1,2\n", ["a", "b"]),
    ("20.9,41.4\n1,2\n3,4\n", ["20.9", "41.4"]),
    ("sep=;", ["sep="]),
    ("Report;;\nDate;2026-11-21;\nLine;4;\nwidth;height;line\n1;2;x\n3;4;y\n", ["width", "height", "line"]),
])  # fmt: skip
def test_the_header_stays_the_first_line_where_no_other_is_sure(text: str, names: list[str]) -> None:
    head = csv_head(text.encode())
    assert head.names == names or text == "sep=;"


def test_what_is_passed_over_of_a_csv_is_said_in_training(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("Press 4;;;;\n# night\na;b;;;\n1;2;;x;\n3;4;;;\n")
    found = read_table(path)
    assert found.table.to_pydict() == ROWS
    assert found.warnings == [
        f"{path}: line 1 ('Press 4') stands above the header and is passed over",
        f"{path}: line 2 ('# night') stands above the header and is passed over",
        f"{path}: column 4 has no name and is left out, with its 1 values; name it to train on it",
        f"{path}: 2 columns without a name and without values left out",
    ]


@pytest.mark.parametrize("above", [
    "", "sep=,\n", "\n\n", "# one\n\n# two\n", "A title of\tthis\n", '"a title\non two lines"\n', "sep=,\n\n# one\n",
])  # fmt: skip
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_are_counted_from_the_first_of_the_file(tmp_path: Path, above: str, end: str) -> None:
    text = f'{above}a,b\n1,2\n\n"3\n4",5\n6\n7,8\n'.replace("\n", end)
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode())
    header = above.count("\n") + 1
    assert csv_lines(path, {0, 1, 2, 3}) == {0: header + 1, 1: header + 3, 2: header + 5, 3: header + 6}
    with pytest.raises(DecodeError, match=f"t.csv: line {header + 5} has 1 cells, the header has 2"):
        read_table(path)
    path.write_bytes(text.replace("7,8", "7,\xff").encode("latin-1"))
    with pytest.raises(DecodeError, match=f"line {header + 6} is not UTF-8 text; it is probably Windows-1252"):
        read_table(path)
    with pytest.raises(DecodeError, match=f"line {header + 6} is not UTF-8 text; it is probably Windows-1252"):
        pieces(path.read_bytes())


def test_names_that_appear_twice_are_an_error_for_every_reader() -> None:
    for data, message in ((b"a, a\n1,2\n", "header: 'a'$"), (b"1,1\n2,3\n", "the first line seems to be a row")):
        for read in (pieces, lambda data: parse_csv(io.BytesIO(data))):
            with pytest.raises(SchemaError, match=message):
                read(data)


def test_a_header_below_other_lines_is_as_long_as_any() -> None:
    row = b";".join(b"c%d" % i for i in range(100_000))
    assert len(csv_head(b"sep=;\n" + row + b"\n").cells) == 100_000
    with pytest.raises(LimitExceeded, match="header is longer than 1,048,576 bytes"):
        csv_head((b"sep=;\n" + row + row)[:MAX_HEADER_BYTES])
    with pytest.raises(DecodeError, match="a quote is opened on line 2, in the header, and never closed"):
        csv_head(b'sep=;\na;"b\n1;2\n')


SCHEMA = TableSchema(columns=(Column(name=" height", kind="numeric"),), ignored=(IgnoredColumn(name="w", reason=""),))


def test_a_megabyte_of_spaces_within_a_name_is_passed_in_one_step() -> None:
    """A pattern that ends in white space and `$` would take hours."""
    name = "a" + " " * 1_000_000 + "b"
    assert trimmed(f"\ufeff {name}\u200b\u00a0\u3000") == name


@pytest.mark.parametrize("text", [" height\n2\n", "height\n2\n", "height ,w\n2,1\n", ",height\n0,2\n"])
def test_a_model_whose_names_have_spaces_scores_as_before(text: str) -> None:
    raw = parse_csv(io.BytesIO(text.encode()))
    assert raw.to_tensor(TablePreprocessor(SCHEMA)).only().tolist() == [[2]]


def test_a_row_number_of_pandas_stays_where_the_model_knows_it() -> None:
    schema = TableSchema(columns=(Column(name="", kind="numeric"), Column(name="a", kind="numeric")))
    raw = RawTable(table=parse_csv(io.BytesIO(b",a\n0,2\n")).table)
    assert raw.to_tensor(TablePreprocessor(schema)).only().tolist() == [[0, 2]]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_text_with_a_byte_order_mark_is_read(encoding: str, tmp_path: Path) -> None:
    assert read_by_both("a,b\r\n1,2\r\n3,4".encode(encoding)) == ROWS
    text = "a,b\n" + "".join(f"{i},\N{SNOWMAN}\U0001f600{i}\n" for i in range(5_000))
    data = text.encode(encoding)
    found = read_by_both(data)
    assert found["b"][4_999] == "\N{SNOWMAN}\U0001f6004999"
    path = tmp_path / "t.csv"
    path.write_bytes((text + "1\n").encode(encoding))
    with pytest.raises(DecodeError, match=r"t\.csv: line 5002 has 1 cells"):
        read_table(path)


@pytest.mark.parametrize(("data", "message"), [
    ("a,b\n1,2\n".encode("utf-16-le"), "this is UTF-16LE text without a byte order mark, not CSV: save it as UTF-8"),
    ("a,b\n1,2\n".encode("utf-16-be"), "this is UTF-16BE text without"),
    (b"PK\x03\x04" + bytes(26) + b"xl/workbook.xml", "this is an Excel or OpenDocument workbook"),
    (b"PK\x03\x04" + bytes(26) + b"data.csv", "this is a zip, not CSV: unpack it first"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(99), r"this is an Excel workbook \(\.xls\), not CSV"),
    (b"\x1f\x8b\x08\x00", "this is a gzip, not CSV: .*Content-Encoding: gzip"),
    (b"\x28\xb5\x2f\xfd\x04", r"packed with zstd, not CSV: .*data\.csv\.zst"),
    (b"PAR1\x15\x04", r"this is Parquet, not CSV: name it \.parquet"),
    (b"ARROW1\x00\x00", "this is an Arrow file, not CSV"),
    (b'[{"a": 1}, {"a": 2}]', r"this is JSON, not CSV: .*jq -c '\.\[\]'"),
    (b'{"a": 1}\n{"a": 2}\n', r"this is JSON, not CSV: a file with one object a line is named \.ndjson"),
    (b"<!DOCTYPE html><html>", "this is HTML or XML .*, not CSV"),
    (b"\x89PNG\r\n\x1a\n\x00", "this is a PNG image, not CSV"),
])  # fmt: skip
def test_what_is_no_csv_is_named_by_every_reader(data: bytes, message: str) -> None:
    for read in (pieces, lambda data: parse_csv(io.BytesIO(data))):
        with pytest.raises(UnsupportedMedia, match=message):
            read(data)


def test_a_mark_that_is_not_kept_is_an_error() -> None:
    for data in (b"\xff\xfea\x00,\x00b\x00\n\x00\x00", "\ufeffa,b\n1,\n".encode("utf-16-le") + b"\x00\xd8"):
        for read in (pieces, lambda data: parse_csv(io.BytesIO(data))):
            with pytest.raises(DataError, match="is not UTF-16 text, as its mark says"):
                read(data)
