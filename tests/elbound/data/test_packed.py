"""Packed files and workbooks: read where a library does it, and named for what they are where not."""

import bz2
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from elbound.errors import DataError, DecodeError, UnsupportedMedia
from elbound.files.readers import parse_file, read_table, table_files, table_suffix
from elbound.files.streams import table_pieces

Write = Callable[[str, bytes | str], Path]
TABLE = pa.table({"a": [1.5, None, -3.0], "c": ["x", "y; z, w", None]})
PACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: pa.compress(data, codec="zstd", asbytes=True),
}
CELL = {str: '<c t="inlineStr"><is><t>{}</t></is></c>', bool: '<c t="b"><v>{:d}</v></c>'}


def sheet(rows: list[list[object]]) -> str:
    cells = [
        "".join("<c/>" if cell is None else CELL.get(type(cell), "<c><v>{}</v></c>").format(cell) for cell in row)
        for row in rows
    ]
    body = "".join(f'<row r="{i}">{row}</row>' for i, row in enumerate(cells, start=1) if row)
    return f'<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>{body}</sheetData></worksheet>'


def workbook(sheets: dict[str, list[list[object]]]) -> bytes:
    """An .xlsx with `sheets`."""
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006/relationships"
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    kinds = "http://schemas.openxmlformats.org/package/2006/content-types"
    type_of = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    names = "".join(f'<sheet name="{name}" sheetId="{i}" r:id="r{i}"/>' for i, name in enumerate(sheets, 1))
    links = "".join(
        f'<Relationship Id="r{i}" Type="{office}/worksheet" Target="worksheets/sheet{i}.xml"/>'
        for i in range(1, len(sheets) + 1)
    )
    parts = "".join(
        f'<Override PartName="/xl/worksheets/sheet{i}.xml" ContentType="{type_of}.worksheet+xml"/>'
        for i in range(1, len(sheets) + 1)
    )
    files = {
        "[Content_Types].xml": f'<Types xmlns="{kinds}"><Default Extension="rels" ContentType="application/vnd.'
        f'openxmlformats-package.relationships+xml"/><Override PartName="/xl/workbook.xml" ContentType="{type_of}.'
        f'sheet.main+xml"/>{parts}</Types>',
        "_rels/.rels": f'<Relationships xmlns="{package}"><Relationship Id="r1" Type="{office}/officeDocument" '
        'Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{office}"><sheets>{names}</sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{package}">{links}</Relationships>',
        **{f"xl/worksheets/sheet{i}.xml": sheet(rows) for i, rows in enumerate(sheets.values(), 1)},
    }
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return packed.getvalue()


def by_pieces(path: Path) -> list[dict[str, object]]:
    found = table_pieces(path, rows=2, wanted=lambda _: True, check=lambda _: None)
    return [
        row
        for piece in found
        if piece.raw is not None
        for row in (piece.raw.rows if piece.raw.table is None else piece.raw.table.to_pylist())
    ]  # type: ignore[misc]


@pytest.mark.parametrize("packed", PACK)
@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".arrow", ".ipc", ".ndjson"])
def test_a_packed_file_is_read_as_the_file(
    packed: str, suffix: str, write: Write, encoders: dict[str, Callable[[pa.Table], bytes]]
) -> None:
    data = encoders[suffix](TABLE)
    path = write(f"t{suffix}{packed}", PACK[packed](data))
    plain = write(f"u{suffix}", data)
    assert read_table(path).table.to_pylist() == read_table(plain).table.to_pylist()
    assert by_pieces(path) == by_pieces(plain)


@pytest.mark.parametrize("packed", PACK)
def test_a_packed_file_that_is_cut_says_so(packed: str, write: Write) -> None:
    whole = PACK[packed](b"a,b\n" + b"".join(b"%d,%d\n" % (i, i * i) for i in range(50_000)))
    path = write(f"t.csv{packed}", whole[: len(whole) // 2])
    with pytest.raises(DecodeError, match=r"cannot be read|truncated or broken") as found:
        read_table(path)
    assert str(path) in found.value.message
    with pytest.raises(DataError):
        by_pieces(path)
    with pytest.raises(DecodeError):
        read_table(write(f"u.csv{packed}", b"a,b\n1,2\n"))


def test_the_suffix_below_the_packing_is_the_format() -> None:
    assert [table_suffix(Path(name)) for name in ("a.CSV.XZ", "a.parquet.zst", "a.xlsx", "a.xlsx.gz", "a.gz")] == [
        ".csv", ".parquet", ".xlsx", None, None,
    ]  # fmt: skip


ROWS: list[list[object]] = [["width ", "ok", "line"], [20, True, "a;b"], [20.5, False, None]]
CELLS = {"width": ["20", "20.5"], "ok": ["true", "false"], "line": ["a;b", None]}


def test_a_workbook_is_read_by_the_rules_of_csv(write: Write) -> None:
    path = write("t.xlsx", workbook({"empty": [], "Press 4": ROWS, "notes": [["x"]]}))
    found = read_table(path)
    assert found.table.to_pydict() == CELLS
    assert found.warnings == [
        f"{path}: the sheet 'Press 4' is read; 1 more with rows, as 'notes', passed over",
    ]
    assert by_pieces(path) == pa.table(CELLS).to_pylist()
    above: list[list[object]] = [["Report"], [], ["a", "b"], ["mm", "[note]"], [1, "x"], [3, "two\nlines"], []]
    path = write("u.xlsx", workbook({"one": [*above, *([i, "y"] for i in range(20)), ["Total", 9]]}))
    found = read_table(path)
    assert found.table.to_pydict() == {
        "a": ["1", "3", *map(str, range(20))],
        "b": ["x", "two lines", *["y"] * 20],
    }
    assert [warning.removeprefix(f"{path}: ").split(" ", 2)[1] for warning in found.warnings] == ["1", "7", "4", "28"]


def test_workbooks_of_a_folder_count_where_it_has_no_other_tables(write: Write, tmp_path: Path) -> None:
    write("d/1.xlsx", workbook({"one": ROWS}))
    write("d/2.xlsx", workbook({"one": ROWS}))
    assert read_table(tmp_path / "d").table.num_rows == 4
    write("d/t.csv", "a\n1\n")
    assert [file.name for file in table_files(tmp_path / "d")] == ["t.csv"]


@pytest.mark.parametrize(("name", "data", "kind", "message"), [
    ("t.xlsx", b"nothing", DecodeError, "cannot be read as a workbook"),
    ("t.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), DecodeError, "cannot be read as a workbook"),
    ("t.xlsx", workbook({"one": []}), DecodeError, "no sheet of the workbook has rows"),
    ("t.csv", workbook({"one": ROWS}), UnsupportedMedia, r"this is an Excel or OpenDocument workbook .*name it \.xlsx"),
    ("t.parquet", b"ARROW1\x00\x00", UnsupportedMedia, "this is an Arrow file, not Parquet"),
    ("t.feather", b"PAR1", UnsupportedMedia, "this is Parquet, not Arrow"),
    ("t.ndjson", gzip.compress(b"{}"), UnsupportedMedia, "this is a gzip, not NDJSON"),
    ("t.ndjson", b'[\n{"a": 1},\n{"a": 2}\n]\n', DecodeError, r"line 1 is not JSON.*a JSON list becomes NDJSON by jq"),
    ("t.json", b"[]", UnsupportedMedia, r"a JSON list becomes NDJSON by jq -c '\.\[\]'"),
    ("t.zip", b"PK", UnsupportedMedia, "unpack the zip first"),
])  # fmt: skip
def test_files_of_another_kind_are_named(
    name: str, data: bytes, kind: type[DataError], message: str, write: Write
) -> None:
    path = write(name, data)
    with pytest.raises(kind, match=message) as found:
        read_table(path)
    assert type(found.value) is kind
    assert found.value.message.count(str(path)) == 1


def test_a_workbook_without_its_reader_says_what_to_install(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "python_calamine", None)
    with pytest.raises(UnsupportedMedia, match=r"needs the extra `train` .*or save it as CSV"):
        parse_file(write("t.xlsx", workbook({"one": ROWS})))
