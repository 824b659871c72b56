"""Texts of a cell and nesting of JSON, at their bounds."""

import io

import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elbound.data.raw import RawTable
from elbound.errors import DecodeError, ItemError, LimitExceeded
from elbound.files.json import COSTS, json_bytes, json_depth, load_json, parse_ndjson
from elbound.files.limits import TableLimits
from elbound.files.long_cells import long_cell, set_long_cells_aside

documents = st.recursive(
    st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.text(st.sampled_from('[]{}"\\ a\n')),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.sampled_from('[]{}"\\a')), inner, max_size=3)
    ),
)


def depth_of(document: object) -> int:
    if isinstance(document, dict):
        return 1 + max(map(depth_of, document.values()), default=0)
    return 1 + max(map(depth_of, document), default=0) if isinstance(document, list) else 0


@given(documents)
def test_the_depth_of_a_document_is_found_whatever_its_texts_hold(document: object) -> None:
    assert json_depth(orjson.dumps(document)) == depth_of(document)


def bytes_of(document: object) -> int:
    if isinstance(document, dict):
        own = COSTS[ord("{")] + max(0, len(document) - 1) * COSTS[ord(",")]
        return int(own) + sum(map(bytes_of, document.values()))
    if isinstance(document, list):
        return int(COSTS[ord("[")] + max(0, len(document) - 1) * COSTS[ord(",")]) + sum(map(bytes_of, document))
    return 0


@given(documents, st.integers(1, 9))
def test_what_a_document_takes_is_found_whatever_its_texts_hold_and_wherever_chunks_end(
    document: object, chunk: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("elbound.files.json.CHUNK", chunk)
        assert json_bytes(orjson.dumps(document)) == bytes_of(document)
        assert json_depth(orjson.dumps(document)) == depth_of(document)


@pytest.mark.parametrize("part", [b"[],", b"{},", b"1.5,", b'{"a":1},'])
def test_json_that_grows_beyond_what_may_be_held_is_refused_before_it_is_parsed(part: bytes) -> None:
    """A gzip of half a megabyte opened to 170 million empty lists, which took 10 GB."""
    data = b"[" + part * 1_000 + b"1]"
    needed = json_bytes(data)
    assert len(load_json(data, max_bytes=needed)) == 1_001  # type: ignore[arg-type]
    with pytest.raises(LimitExceeded, match="more than"):
        load_json(data, max_bytes=needed - 1)
    line = parse_ndjson(io.BytesIO(data + b"\n[1]\n"), limits=TableLimits(max_bytes=needed - 1))
    assert (line.rows, line.bad[0].code) == ([[1]], "limit_exceeded")


def test_lines_that_grow_together_are_refused() -> None:
    lines = b'[[1,2],{"a":3}]\n' * 100
    assert parse_ndjson(io.BytesIO(lines), limits=TableLimits(max_bytes=100 * 600)).n == 100
    with pytest.raises(LimitExceeded, match="all lines take more than"):
        parse_ndjson(io.BytesIO(lines), limits=TableLimits(max_bytes=100 * 200))


def test_signs_within_texts_take_nothing() -> None:
    data = orjson.dumps(['[{,"\\' * 1_000])
    assert load_json(data, max_bytes=100) == ['[{,"\\' * 1_000]


def test_depth_is_counted_over_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    data = b'{"a]\\"}":' + b"[" * 700 + b'"[[[["' + b"]" * 700 + b"}"
    monkeypatch.setattr("elbound.files.json.CHUNK", 7)
    assert json_depth(data) == 701


@pytest.mark.parametrize("data", [b"[" * 33 + b"]" * 33, b'{"a":' * 33 + b"1" + b"}" * 33, b"[" * 1_000_000])
def test_json_that_is_nested_too_deep_is_refused_with_the_limit(data: bytes) -> None:
    with pytest.raises(LimitExceeded, match=r"more than 32 deep, .* max_json_depth"):
        load_json(data, max_json_depth=32)


def test_json_as_deep_as_it_may_be_is_read() -> None:
    assert depth_of(load_json(b"[" * 32 + b"]" * 32, max_json_depth=32)) == 32
    assert len(load_json(b"[" + b",".join([b"[{}]"] * 500) + b"]", max_json_depth=3)) == 500  # type: ignore[arg-type]


@pytest.mark.parametrize("data", [b"[" * 2_000 + b"]" * 2_000, b'{"a":' * 100_000])
def test_without_a_limit_the_parsers_refuse_it(data: bytes) -> None:
    with pytest.raises((LimitExceeded, DecodeError)):
        load_json(data)


@pytest.mark.parametrize("text", ["a" * 9, "ä" * 5, "\ud800" * 3])
def test_a_text_is_measured_in_bytes(text: str) -> None:
    error = long_cell({"a": 1, "site": text}, 8)
    assert error is not None
    assert (error.code, error.where) == ("limit_exceeded", "site")
    assert "'site' has a cell of" in error.message
    assert "at most 8 are read (max_cell_bytes)" in error.message
    assert long_cell([1, text], 8) is not None
    assert long_cell({"site": text}, 10) is None
    assert long_cell({"site": ["a" * 99], "b": None, "c": 10**20}, 8) is None  # not texts: errors of another kind


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_a_long_cell_of_a_table_costs_its_row_alone(kind: pa.DataType) -> None:
    site = pa.chunked_array([pa.array(["a", None], kind), pa.array(["ä" * 5, "b" * 8], kind)])
    raw = RawTable(pa.table({"n": [0, 1, 2, 3], "site": site}), bad={1: ItemError("ragged")})
    found = set_long_cells_aside(raw, 8)
    assert found.table["n"].to_pylist() == [0, 1, 3]  # type: ignore[index]
    assert found.n == raw.n == 5
    assert found.bad.keys() == {1, 3}
    assert "10 bytes" in found.bad[3].message
    assert set_long_cells_aside(raw, 10) is raw


def test_long_cells_of_rows_and_of_lines() -> None:
    rows = [{"site": "a"}, {"site": "b" * 9}, ["c"], 7]
    found = set_long_cells_aside(RawTable(rows=rows), 8)  # type: ignore[arg-type]
    assert found.rows == [{"site": "a"}, ["c"], 7]
    assert found.bad.keys() == {1}
    lines = b'{"site":"a"}\n{"site":"bbbbbbbbb"}\n[[[[1]]]]\n[1]\n'
    read = parse_ndjson(io.BytesIO(lines), limits=TableLimits(max_cell_bytes=8, max_json_depth=3))
    assert read.rows == [{"site": "a"}, [1]]
    assert {place: error.code for place, error in read.bad.items()} == {1: "limit_exceeded", 2: "limit_exceeded"}
    assert read.bad[2].message.startswith("line 3 is JSON nested more than 3 deep")
