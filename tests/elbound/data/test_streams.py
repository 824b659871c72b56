"""Tables in pieces: the same rows as in one, and what is kept of a file that breaks off."""

import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet
import pytest

from elbound.data.raw import RawTable
from elbound.errors import DataError, DecodeError, LimitExceeded
from elbound.files.csv_stream import WholeLines, csv_pieces
from elbound.files.limits import TableLimits
from elbound.files.pieces import TablePiece
from elbound.files.readers import parse_file
from elbound.files.streams import table_pieces
from tests.conftest import mixed_table

ROWS = 7


def read(path: Path, rows: int = ROWS) -> tuple[list[TablePiece], DataError | None]:
    """All pieces of a file, and the error that ends it."""
    found: list[TablePiece] = []
    try:
        found.extend(table_pieces(path, rows=rows, wanted=lambda _: True, check=lambda _: None))
    except DataError as error:
        return found, error
    return found, None


def cells(raw: RawTable) -> list[object]:
    """The rows of a table in order, the message in place of a bad one."""
    good = iter(raw.rows if raw.table is None else raw.table.to_pylist())
    return [raw.bad[i].message if i in raw.bad else next(good) for i in range(raw.n)]


def all_cells(pieces: list[TablePiece]) -> Iterator[object]:
    for piece in pieces:
        assert piece.raw is not None
        assert piece.raw.n == piece.n
        assert piece.raw.start == piece.start
        yield from cells(piece.raw)


def write(table: pa.Table, path: Path) -> Path:
    plain = path.with_suffix("") if path.suffix == ".gz" else path
    match plain.suffix:
        case ".csv":
            pyarrow.csv.write_csv(table, plain)
        case ".parquet":
            pyarrow.parquet.write_table(table, plain, row_group_size=11)
        case ".arrow":
            with pyarrow.ipc.new_file(plain, table.schema) as file:
                file.write_table(table, max_chunksize=5)
        case ".ipc":
            with pyarrow.ipc.new_stream(plain, table.schema) as stream:
                stream.write_table(table, max_chunksize=30)
        case ".ndjson":
            plain.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    if path != plain:
        path.write_bytes(gzip.compress(plain.read_bytes()))
    return path


SUFFIXES = ("csv", "csv.gz", "parquet", "parquet.gz", "arrow", "ipc", "ipc.gz", "ndjson", "ndjson.gz")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("n", [0, 1, 7, 14, 40])
def test_pieces_together_are_the_whole(tmp_path: Path, suffix: str, n: int) -> None:
    path = write(mixed_table(40).slice(0, n), tmp_path / f"t.{suffix}")
    pieces, error = read(path)
    assert error is None
    assert [piece.n for piece in pieces] == ([ROWS] * (n // ROWS) + [n % ROWS] * (n % ROWS > 0) or [0])
    assert list(all_cells(pieces)) == cells(parse_file(path))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_piece_is_the_same_whichever_are_wanted(tmp_path: Path, suffix: str) -> None:
    path = write(mixed_table(40), tmp_path / f"t.{suffix}")
    whole, _ = read(path)
    for number, piece in enumerate(whole):
        one = list(table_pieces(path, rows=ROWS, wanted=number.__eq__, check=lambda _: None))
        assert [(other.start, other.n) for other in one] == [(other.start, other.n) for other in whole]
        assert [i for i, other in enumerate(one) if other.raw is not None] == [number]
        assert list(all_cells([one[number]])) == list(all_cells([piece]))


@pytest.mark.parametrize(("text", "name"), [
    ("a,b\n1,2\n3\n4,5,6\n7,8\n" * 9, "ragged"),
    ("a,b\n" + '"x\ny",2\n5" pipe,3\n"a ""b""\r\nc",4\n\n' * 9, "quotes"),
    ("\ufeff\r\na;b\r\n" + "1;2\r\n" * 30, "bom"),
    ("\ufeff\ufeffa;b\r\n" + "1;2\r\n" * 30, "two boms"),
    ("a\n1\n\n2\n\n" * 5, "one column"),
    ("a,b\n" + "1\n" * 25, "all ragged"),
    ("a,b\r" + "1,2\r" * 25, "old line ends"),
])  # fmt: skip
def test_csv_in_pieces_is_read_as_in_one(tmp_path: Path, text: str, name: str) -> None:
    path = tmp_path / f"{name}.csv"
    path.write_bytes(text.encode())
    for block in (64, 1 << 20):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("elbound.files.csv_stream.BLOCK_BYTES", block)
            pieces, error = read(path)
        assert error is None
        assert list(all_cells(pieces)) == cells(parse_file(path))


def broken(path: Path, at: int, line: bytes, *, lines: int = 100) -> Path:
    rows = [b"a,b", *(b"%d,x" % i for i in range(lines))]
    rows[at] = line
    path.write_bytes(b"\n".join(rows) + b"\n")
    return path


@pytest.mark.parametrize(("line", "message"), [
    (b"1,\xff", "line 51 is not UTF-8 text"),
    (b'"open,2', "a quote is opened on line 51 and never closed"),
    (b'1,"open', "a quote is opened on line 51 and never closed"),
])  # fmt: skip
def test_rows_before_a_break_of_a_csv_are_kept(tmp_path: Path, line: bytes, message: str) -> None:
    pieces, error = read(broken(tmp_path / "t.csv", 50, line))
    assert isinstance(error, DecodeError)
    assert message in error.message
    assert [row["a"] for row in all_cells(pieces)] == [str(i) for i in range(49)]  # type: ignore[index]
    pieces, error = read(broken(tmp_path / "t.csv", 0, line))
    assert isinstance(error, DecodeError)


def test_a_quote_that_is_never_closed_is_not_read_to_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("elbound.files.csv_stream.BLOCK_BYTES", 1_000)
    path = broken(tmp_path / "t.csv", 5_000, b'"open,2', lines=1_000_000)
    given: list[bytes] = []
    plain = WholeLines.read

    def counted(self: WholeLines, size: int) -> bytes:
        given.append(plain(self, size))
        return given[-1]

    monkeypatch.setattr(WholeLines, "read", counted)
    pieces, error = read(path, 1_000)
    assert error is not None
    assert "line 5,001: a row is longer than 1,000 bytes, or a quote is opened and never closed" in error.message
    assert sum(piece.n for piece in pieces) == 4_999
    assert sum(map(len, given)) < 4_000_000
    monkeypatch.setattr("elbound.files.csv_stream.MAX_LINE_BYTES", 200_000)
    (tmp_path / "long.csv").write_bytes(b"a,b\n" + b"x" * 900_000)
    assert "line 2 is longer than 200,000 bytes" in str(read(tmp_path / "long.csv")[1])


def test_a_file_of_ragged_rows_alone_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("elbound.files.csv_stream.MAX_RAGGED_ROWS", 5_000)
    monkeypatch.setattr("elbound.files.csv_stream.BLOCK_BYTES", 1_000)
    (tmp_path / "t.csv").write_bytes(b"a,b\n" + b"1,2,\n" * 1_000_000)
    pieces, error = read(tmp_path / "t.csv", 1_000)
    assert "5,000 rows one after the other do not have the header's 2 cells, as row 4,999, which has 3" in str(error)
    assert sum(piece.n for piece in pieces) == 5_000
    (tmp_path / "t.csv").write_bytes(b"a,b\n" + b"1,2,\n" * 4_000 + b"1,2\n" * 4_000 + b"1\n" * 4_000)
    pieces, error = read(tmp_path / "t.csv", 1_000)
    assert (error, sum(piece.n for piece in pieces)) == (None, 12_000)


@pytest.mark.parametrize("suffix", ["csv", "ndjson"])
def test_rows_before_the_end_of_a_cut_gzip_are_kept(tmp_path: Path, suffix: str) -> None:
    path = write(mixed_table(4_000), tmp_path / f"t.{suffix}.gz")
    whole = list(all_cells(read(path, 500)[0]))
    path.write_bytes(path.read_bytes()[:-20_000])
    pieces, error = read(path, 500)
    found = list(all_cells(pieces))
    assert isinstance(error, DecodeError)
    assert "line " in error.message
    assert 100 < len(found) < 4_000
    assert found == whole[: len(found)]


def test_a_broken_row_group_costs_its_pieces_alone(tmp_path: Path) -> None:
    table = pa.table({"a": [float(i) for i in range(100)]})
    path = tmp_path / "t.parquet"
    pyarrow.parquet.write_table(table, path, row_group_size=20, compression="none", use_dictionary=False)
    data = bytearray(path.read_bytes())
    place = data.index(table["a"].to_numpy()[40:60].tobytes())
    data[place - 30 : place] = b"\xff" * 30
    path.write_bytes(data)
    pieces, error = read(path, 10)
    assert error is None
    assert [piece.start for piece in pieces if piece.error is not None] == [40, 50]
    assert "rows 40 to 49: row group 2 ends after 0 rows" in str(pieces[4].error)
    for number in (3, 4, 5, 6):
        one = list(table_pieces(path, rows=10, wanted=number.__eq__, check=lambda _: None))
        assert str(one[number].error) == str(pieces[number].error)


def test_what_is_no_table_says_so(tmp_path: Path) -> None:
    for name in ("t.parquet", "t.arrow", "t.ipc", "t.csv.gz", "t.csv", "t.ndjson.gz"):
        (tmp_path / name).write_bytes(b"" if name == "t.csv" else b"nothing of the kind")
        pieces, error = read(tmp_path / name)
        assert (pieces, isinstance(error, DecodeError)) == ([], True), name
    whole = write(mixed_table(1_000), tmp_path / "cut.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    assert "not readable as Parquet" in str(read(tmp_path / "cut.parquet")[1])
    whole = write(mixed_table(1_000), tmp_path / "cut.ipc").read_bytes()
    (tmp_path / "cut.ipc").write_bytes(whole[: len(whole) // 2])
    pieces, error = read(tmp_path / "cut.ipc")
    assert "rows: not readable as Arrow IPC" in str(error)
    assert 400 < sum(piece.n for piece in pieces) < 600


def test_columns_beyond_a_limit_are_refused_before_a_table_of_them_is_made() -> None:
    """A million of them took 1.2 GB."""

    def no_table(head: pa.Table) -> None:
        pytest.fail("a table was made")

    def refusal(columns: int) -> str:
        source = io.BufferedReader(io.BytesIO(b",".join(b"c%d" % i for i in range(columns)) + b"\n"))
        limits = TableLimits(max_columns=10)
        with pytest.raises(LimitExceeded) as found:
            next(csv_pieces(source, rows=ROWS, wanted=lambda _: True, check=no_table, limits=limits))
        return found.value.message

    assert refusal(11) == "11 columns; at most 10 are read"
    assert refusal(300_000) == "the CSV's header is longer than 1,048,576 bytes"
