"""Bodies that are read while they arrive, in process: every format, cut everywhere, broken in every way."""

import asyncio
import gzip
import io
import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet
import pytest
from PIL import Image

from elbound.data.items import TensorItems
from elbound.errors import DataError, DecodeError, LimitExceeded, SchemaError, UnsupportedMedia
from elbound.scorer import Scorer
from service.http.media_types import ARROW, CSV, NDJSON, NPY, PARQUET, ZIP
from service.memory.spool import Spool
from service.settings import Settings
from service.uploads.decode import Upload, decode_all, join
from service.uploads.decoding.tasks import TASKS
from service.uploads.feed import Feed, Unpacked
from service.uploads.pieces import Reader

Case = tuple[Scorer, bytes, str]
LOOP = asyncio.new_event_loop()
LOOP.close()


def decode_here(
    scorer: Scorer,
    settings: Settings,
    task: str,
    *args: object,
    files: tuple[int, ...] = (),
    on_piece: Callable[[memoryview], object] | None = None,
) -> object:
    """What a decoder process would do, in this one."""
    found = TASKS[task](scorer.preprocessor, settings, *args, *map(os.dup, files))
    if not isinstance(found, Iterator):
        return found
    assert on_piece is not None
    for piece in found:
        on_piece(memoryview(piece))
    return None


def read(
    scorer: Scorer,
    body: bytes,
    media_type: str,
    folder: Path,
    *,
    cuts: Sequence[int] = (),
    packed: bool = False,
    **settings: int,
) -> tuple[list[TensorItems], DataError | None]:
    """The pieces of `body`, which comes in parts that end at `cuts`, and what broke it off."""
    limits = Settings(**settings)  # type: ignore[arg-type]
    spool = Spool(str(folder), max_spool_bytes=limits.max_spool_bytes)
    reader = Reader(scorer.preprocessor, media_type, limits, spool)
    feed = Feed(LOOP, max_bytes=reader.max_body_bytes)
    put = [feed.put(body[a:b]) for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    for one in put:
        try:
            one.send(None)  # it never waits: the feed has room for all
        except StopIteration:
            continue
        raise AssertionError("the body is too large for this test")
    feed.end()
    found: list[TensorItems] = []
    error: DataError | None = None
    try:
        raw = Unpacked(feed, max_bytes=reader.max_opened_bytes) if packed else feed
        found.extend(reader.pieces(raw, partial(decode_here, scorer, limits)))
    except DataError as raised:
        error = raised
    assert spool.used_bytes == 0
    return found, error


def facts(items: TensorItems) -> tuple[object, ...]:
    errors = {i: (error.code, error.message, error.where) for i, error in items.errors.items()}
    return items.x.numpy().tobytes(), items.index.tolist(), items.n, errors, items.unseen


def rows(n: int) -> pa.Table:
    """Rows of the model `rows`, with text that must be quoted, a level that training never saw, and missing cells."""
    draw = np.random.default_rng(3)
    sites = ['a "quoted"\nlevel', "north", "south", None, "east, far"]
    return pa.table(
        {
            "a": draw.normal(size=n),
            "b": pa.array([None if i % 7 == 0 else i / 8 for i in range(n)], pa.float64()),
            "c": draw.gamma(2.0, size=n),
            "ok": [i % 2 == 0 for i in range(n)],
            "site": [sites[i % 5] for i in range(n)],
        }
    )


def csv_body(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pyarrow.csv.write_csv(table, sink)
    return sink.getvalue().to_pybytes()


def broken_csv(table: pa.Table) -> bytes:
    """A ragged row, one that is no number, a blank line, and line ends of both kinds."""
    lines = csv_body(table).split(b"\n")
    lines[12:12] = [b"1,2\r", b"x,1,2,true,north\r", b""]
    return b"\n".join(lines)


def arrow_body(table: pa.Table, *, file: bool = False) -> bytes:
    sink = pa.BufferOutputStream()
    with (pyarrow.ipc.new_file if file else pyarrow.ipc.new_stream)(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=9)
    return sink.getvalue().to_pybytes()


def parquet_body(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink, row_group_size=11)
    return sink.getvalue().to_pybytes()


def ndjson_body(table: pa.Table) -> bytes:
    lines = [orjson.dumps(row) for row in table.to_pylist()]
    lines[5:5] = [b"", b"{", b'{"a": 1}', b"7"]
    return b"\n".join(lines)


def npy_body(array: np.ndarray) -> bytes:
    packed = io.BytesIO()
    np.save(packed, array)
    return packed.getvalue()


def zip_body() -> bytes:
    draw = np.random.default_rng(0)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for i in range(9):
            picture = io.BytesIO()
            Image.fromarray(draw.integers(0, 255, (12, 12), dtype=np.uint8)).save(picture, "PNG")
            archive.writestr(f"{i}.png", b"nothing" if i == 4 else picture.getvalue())
        archive.writestr("readme.txt", b"passed over")
    return packed.getvalue()


NUMBERS = np.random.default_rng(1).normal(size=(40, 3))
CASES: dict[str, tuple[str, str, Callable[[], bytes]]] = {
    "csv": ("table_scorer", CSV, lambda: csv_body(rows(40))),
    "csv with bad rows": ("table_scorer", CSV, lambda: broken_csv(rows(40))),
    "ndjson": ("table_scorer", NDJSON, lambda: ndjson_body(rows(40))),
    "arrow stream": ("table_scorer", ARROW, lambda: arrow_body(rows(40))),
    "arrow file": ("table_scorer", ARROW, lambda: arrow_body(rows(40), file=True)),
    "parquet": ("table_scorer", PARQUET, lambda: parquet_body(rows(40))),
    "npy": ("numeric_scorer", NPY, lambda: npy_body(NUMBERS)),
    "npy, Fortran order": ("numeric_scorer", NPY, lambda: npy_body(np.asfortranarray(NUMBERS))),
    "npy, big-endian": ("numeric_scorer", NPY, lambda: npy_body(NUMBERS.astype(">f4"))),
    "npy of images": ("image_scorer", NPY, lambda: npy_body(np.arange(1440, dtype=np.uint8).reshape(10, 12, 12))),
    "npy of images, Fortran order": (
        "image_scorer",
        NPY,
        lambda: npy_body(np.asfortranarray(np.arange(1440, dtype=np.uint8).reshape(10, 12, 12))),
    ),
    "zip": ("image_scorer", ZIP, zip_body),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    scorer, media_type, body = CASES[request.param]
    return request.getfixturevalue(scorer), body(), media_type


def test_pieces_are_the_items_of_the_whole_upload(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In pieces of seven rows, and as gzip: the same tensors, errors and places as read at once."""
    monkeypatch.setattr("service.uploads.pieces.PIECE_ROWS", 7)
    monkeypatch.setattr("service.uploads.pieces.PIECE_IMAGES", 4)
    scorer, body, media_type = case
    expected = facts(decode_all([Upload(body, media_type)], scorer.preprocessor, Settings()))
    for packed in (False, True):
        sent = gzip.compress(body) if packed else body
        pieces, error = read(scorer, sent, media_type, tmp_path, packed=packed, cuts=[len(sent) // 3])
        assert error is None
        assert len(pieces) > 1
        assert facts(join(pieces)) == expected


def test_each_body_cut_at_every_byte_of_its_first_kilobyte(case: Case, tmp_path: Path) -> None:
    scorer, body, media_type = case
    expected, _ = read(scorer, body, media_type, tmp_path)
    step = 1 if media_type in (NDJSON, NPY) or b"1,2\r" in body else 4  # the others share these bytes' way
    for cut in range(1, min(1024, len(body)), step):
        pieces, error = read(scorer, body, media_type, tmp_path, cuts=[cut])
        assert error is None
        assert list(map(facts, pieces)) == list(map(facts, expected)), cut
    every = list(range(1, min(3000, len(body))))
    assert list(map(facts, read(scorer, body, media_type, tmp_path, cuts=every)[0])) == list(map(facts, expected))


@pytest.mark.parametrize("name", ["csv", "ndjson"])
def test_what_breaks_off_gives_the_rows_before(name: str, table_scorer: Scorer, tmp_path: Path) -> None:
    table = rows(3_000)
    body = csv_body(table) if name == "csv" else b"\n".join(orjson.dumps(row) for row in table.to_pylist())
    media_type = CSV if name == "csv" else NDJSON
    whole = join(read(table_scorer, body, media_type, tmp_path)[0])
    pieces, error = read(table_scorer, gzip.compress(body)[:-9_000], media_type, tmp_path, packed=True)
    items = join(pieces)
    assert isinstance(error, DecodeError)
    assert "line" in error.message
    assert 500 < items.n < 3_000
    assert (items.x.numpy() == whole.x[: len(items.x)].numpy()).sum() + np.isnan(
        items.x.numpy()
    ).sum() == items.x.numel()


def test_bytes_that_are_no_text_end_a_csv_at_their_line(table_scorer: Scorer, tmp_path: Path) -> None:
    body = csv_body(rows(100).drop_columns("site").append_column("site", pa.array(["north"] * 100)))
    lines = body.split(b"\n")
    lines[51] = b"\xff\xfe"
    pieces, error = read(table_scorer, b"\n".join(lines), CSV, tmp_path)
    assert join(pieces).n == 50
    assert error is not None
    assert "line 52 is not UTF-8 text" in error.message


@pytest.mark.parametrize("change", [
    lambda text: "sep=,\r\n" + text,
    lambda text: "Press 4\n# night\n" + text,
    lambda text: text.replace("a,b", " a ,\u00a0b", 1),
    lambda text: text.replace("\n", ",,\n"),
    lambda text: ("," + text.replace("\n", "\n7,")).removesuffix("7,"),
    lambda text: text.encode("utf-16"),
])  # fmt: skip
def test_a_csv_as_programs_write_it_is_read_as_a_plain_one(
    change: Callable[[str], str | bytes], table_scorer: Scorer, tmp_path: Path
) -> None:
    table = rows(40).drop_columns("site").append_column("site", pa.array(["north"] * 40))
    text = csv_body(table).decode().replace('"', "")
    changed = change(text)
    body = changed if isinstance(changed, bytes) else changed.encode()
    expected = facts(decode_all([Upload(text.encode(), CSV)], table_scorer.preprocessor, Settings()))
    assert facts(decode_all([Upload(body, CSV)], table_scorer.preprocessor, Settings())) == expected
    pieces, error = read(table_scorer, body, CSV, tmp_path)
    assert error is None
    assert facts(join(pieces)) == expected


@pytest.mark.parametrize("change", [b"", b"1", b"12345678" * 3])
def test_npy_that_is_longer_or_shorter_than_it_says(change: bytes, numeric_scorer: Scorer, tmp_path: Path) -> None:
    body = npy_body(NUMBERS)
    sent = body + change if change else body[:-20]
    pieces, error = read(numeric_scorer, sent, NPY, tmp_path)
    assert isinstance(error, DecodeError)
    assert ".npy announces 960 bytes of data and has" in error.message
    assert sum(piece.n for piece in pieces) == (40 if change else 39)
    assert read(numeric_scorer, npy_body(np.asfortranarray(NUMBERS))[:-20], NPY, tmp_path)[0] == []


def test_npy_headers_that_ask_for_too_much(numeric_scorer: Scorer, tmp_path: Path) -> None:
    head = b"{'descr': '<f8', 'fortran_order': %s, 'shape': (1000000000000, 3), }"
    for order in (b"True", b"False"):
        text = head % order
        body = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(240)
        error = read(numeric_scorer, body, NPY, tmp_path)[1]
        assert "announces 24,000,000,000,000 bytes" in str(error)
    long = b"\x93NUMPY\x02\x00" + (1 << 30).to_bytes(4, "little") + bytes(100)
    assert "longer than 65,536" in str(read(numeric_scorer, long, NPY, tmp_path)[1])


def test_a_parquet_whose_footer_lies(table_scorer: Scorer, tmp_path: Path) -> None:
    body = parquet_body(rows(40))
    for place in range(len(body) - 400, len(body) - 8, 7):
        sent = bytearray(body)
        sent[place] ^= 0x1F
        pieces, error = read(table_scorer, bytes(sent), PARQUET, tmp_path)
        assert error is not None or sum(piece.n for piece in pieces) <= 44
    assert isinstance(read(table_scorer, body[:-300], PARQUET, tmp_path)[1], DecodeError)


def test_text_that_stands_in_every_row_of_a_small_parquet_is_bounded(table_scorer: Scorer, tmp_path: Path) -> None:
    table = rows(2_000)
    text = pa.array(["x" * 20_000] * 2_000)
    table = table.set_column(4, "site", pa.DictionaryArray.from_arrays(pa.array([0] * 2_000, pa.int32()), text[:1]))
    sink = pa.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink)
    body = sink.getvalue().to_pybytes()
    assert len(body) < 200_000
    error = read(table_scorer, body, PARQUET, tmp_path, max_expanded_bytes=1_000_000)[1]
    assert isinstance(error, LimitExceeded | DecodeError)
    assert "at most 1,000,000" in str(error)
    opened = read(table_scorer, body, PARQUET, tmp_path, max_stream_bytes=1_000_000)[1]
    assert "opens to more than 1,000,000 bytes" in str(opened)


def test_long_rows_come_in_smaller_pieces(table_scorer: Scorer, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("service.uploads.pieces.PIECE_BYTES", 20_000)
    monkeypatch.setattr("elbound.files.csv_stream.BLOCK_BYTES", 5_000)
    body = b"a,b,c,ok,site\n" + b"".join(b"1,2,3,true,%b\n" % (b"x" * 2_000) for _ in range(100))
    pieces, error = read(table_scorer, body, CSV, tmp_path)
    assert error is None
    assert sum(piece.n for piece in pieces) == 100
    assert max(piece.n for piece in pieces) < 30
    lines = b"".join(orjson.dumps([1, 2, 3, True, "x" * 2_000]) + b"\n" for _ in range(100))
    assert max(piece.n for piece in read(table_scorer, lines, NDJSON, tmp_path)[0]) < 12


@pytest.mark.parametrize(
    ("scorer", "media_type", "body", "kind", "message"),
    [
        ("table_scorer", CSV, b"", DecodeError, "the body is empty"),
        ("table_scorer", CSV, b"a,b\n1,2\n", SchemaError, "missing: 'c'"),
        ("table_scorer", CSV, b"a,a\n1,2\n", SchemaError, "appear twice"),
        ("table_scorer", CSV, b",".join(b"c%d" % i for i in range(60)) + b"\n", LimitExceeded, "60 columns"),
        ("table_scorer", PARQUET, b"nothing", DecodeError, "not readable as Parquet"),
        ("table_scorer", ARROW, b"nothing of the kind", DecodeError, "not readable as Arrow"),
        ("table_scorer", CSV, b"PK\x03\x04 xl/workbook.xml", UnsupportedMedia, "this is an Excel or"),
        ("table_scorer", ZIP, zip_body(), SchemaError, "scores rows of a table"),
        ("image_scorer", CSV, b"a\n1\n", SchemaError, "scores images"),
        ("image_scorer", ZIP, b"PK nothing", DecodeError, "not readable as a zip"),
        ("numeric_scorer", NPY, b"nothing", DecodeError, "not readable as .npy"),
        ("numeric_scorer", NPY, npy_body(np.zeros((4, 5))), SchemaError, "expected an array of shape"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_at_all_says_why(request, tmp_path: Path, scorer, media_type, body, kind, message) -> None:
    pieces, error = read(request.getfixturevalue(scorer), body, media_type, tmp_path, max_columns=50)
    assert pieces == []
    assert isinstance(error, kind)
    assert message in error.message


def test_an_arrow_batch_that_announces_more_than_may_be_read_is_refused(table_scorer: Scorer, tmp_path: Path) -> None:
    body = arrow_body(pa.concat_tables([rows(40)] * 200).combine_chunks())
    sink = pa.BufferOutputStream()
    table = pa.concat_tables([rows(400)] * 20).combine_chunks()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    error = read(table_scorer, sink.getvalue().to_pybytes(), ARROW, tmp_path, max_expanded_bytes=100_000)[1]
    assert isinstance(error, LimitExceeded)
    assert "at most 100,000" in error.message
    assert read(table_scorer, body, ARROW, tmp_path, max_expanded_bytes=100_000)[1] is None
