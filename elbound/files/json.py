"""JSON and NDJSON: bounds on what they take once parsed, rows, and rows of numbers as one array."""

import codecs
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import orjson
import simdjson

from elbound.data.items import keep_error
from elbound.data.memory import announce
from elbound.data.raw import RawTable
from elbound.errors import DecodeError, ItemError, LimitExceeded
from elbound.files.limits import MAX_PARSED_DEPTH, MOST_BYTES, NO_LIMITS, TableLimits
from elbound.files.long_cells import long_cell

CHUNK = 1 << 20
SMALL_BYTES = 1 << 18
"""What such a document takes is not worth counting, unless `max_bytes` is small too."""
HELD_STEP_BYTES = 16 << 20
COPIES = 2
"""The parsed document, and its cells column by column."""
QUOTE = ord('"')
STEPS = np.zeros(256, np.int8)
STEPS[list(b"[{")] = 1
STEPS[list(b"]}")] = -1
VALUE_BYTES, LIST_BYTES, OBJECT_BYTES = 32, 64, 256
"""What Python keeps for a number and its place, an empty list, an object of one name."""
COSTS = np.zeros(256, np.int64)
COSTS[list(b",[{")] = (VALUE_BYTES, LIST_BYTES, OBJECT_BYTES)
MOST_GROWTH = 96
"""What no document grows beyond: `{},` is three bytes."""


def check_depth(data: bytes, max_json_depth: int) -> None:
    """Raise LimitExceeded where lists and objects stand in each other more than `max_json_depth` deep."""
    if data.count(b"[") + data.count(b"{") > max_json_depth and any(depth > max_json_depth for depth in _depths(data)):
        raise LimitExceeded(
            f"JSON nested more than {max_json_depth:,} deep, which is all that max_json_depth allows", where="body"
        )


def check_size(data: bytes, max_bytes: int) -> None:
    """Raise LimitExceeded where a document would take more than `max_bytes` beside its own text."""
    if len(data) < SMALL_BYTES and len(data) * MOST_GROWTH <= max_bytes:
        return
    most = _most_bytes(data)
    if most > max_bytes and any(size > max_bytes for size in _sizes(data)):
        raise LimitExceeded(
            f"JSON of so many cells, lists and objects that they take more than {max_bytes:,} bytes", where="body"
        )
    announce(COPIES * most)


def _most_bytes(data: bytes) -> int:
    """What a document takes, signs within its texts included."""
    return data.count(b",") * VALUE_BYTES + data.count(b"[") * LIST_BYTES + data.count(b"{") * OBJECT_BYTES


class HeldRows:
    """What rows take that are parsed one by one and kept."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.read_bytes = self.held_bytes = self.most_bytes = self.announced_bytes = 0

    def add(self, line: bytes, row: object) -> None:
        """Count a `row`, which was read from `line`. Raises LimitExceeded."""
        self.read_bytes += len(line)
        self.most_bytes += _most_bytes(line)
        while self.most_bytes > self.announced_bytes:
            self.announced_bytes += HELD_STEP_BYTES
            announce(COPIES * HELD_STEP_BYTES)
        if self.read_bytes * MOST_GROWTH <= self.max_bytes:
            return
        self.held_bytes += _held_bytes(row)
        if self.held_bytes > self.max_bytes:
            raise LimitExceeded(f"the cells of all lines take more than {self.max_bytes:,} bytes", where="body")


def _held_bytes(found: object) -> int:
    if not isinstance(found, list | dict):
        return VALUE_BYTES
    cells = found.values() if isinstance(found, dict) else found
    return (OBJECT_BYTES if isinstance(found, dict) else LIST_BYTES) + sum(map(_held_bytes, cells))


def json_depth(data: bytes) -> int:
    """The deepest nesting in a document: 0 for a number, 1 for `[]`. Of what is no JSON it is any number."""
    return max(_depths(data), default=0)


def json_bytes(data: bytes) -> int:
    """About what the cells, lists and objects of a document take once they are parsed."""
    return max(_sizes(data), default=0)


def _depths(data: bytes) -> Iterator[int]:
    """The deepest nesting of one chunk after the other."""
    level = 0
    for signs in _outside_texts(data, b"[]{}"):
        levels = level + np.cumsum(STEPS[signs], dtype=np.int64)
        level = int(levels[-1])
        yield int(levels.max())


def _sizes(data: bytes) -> Iterator[int]:
    """What all chunks so far take, one after the other."""
    size = 0
    for signs in _outside_texts(data, b",[{"):
        size += int(COSTS[signs].sum())
        yield size


def _outside_texts(data: bytes, wanted: bytes) -> Iterator[np.ndarray]:
    """The `wanted` signs of a document in their order, without those within its texts; no empty array."""
    passed_over = bytes(set(range(256)) - {*wanted, QUOTE})
    quotes = escaped = 0
    for start in range(0, len(data), CHUNK):
        part = data[start + escaped : start + CHUNK]
        escaped = 0
        if b"\\" in part:
            part = part.replace(b"\\\\", b"").replace(b'\\"', b"")
            escaped = int(part.endswith(b"\\"))  # of the next chunk's first sign
        signs = np.frombuffer(part.translate(None, passed_over), np.uint8)
        is_quote = signs == QUOTE
        seen = quotes + np.cumsum(is_quote, dtype=np.int64)
        found = signs[(seen % 2 == 0) & ~is_quote]
        quotes = int(seen[-1]) if len(seen) else quotes
        if len(found):
            yield found


def json_matrix(data: bytes, *, max_bytes: int = MOST_BYTES) -> np.ndarray | None:
    """Rows `(n, d)` float64 of `[[1, 2], ...]` or `{"rows": [[1, 2], ...]}`; None for any other document.

    Who gets None reads it as objects, and finds out what is the matter if anything is. Costs a third of that.
    Raises LimitExceeded for more cells than `max_bytes` hold.
    """
    check_size(data, max_bytes)
    if data[:1] not in (b"[", b"{"):  # simdjson passes over a byte order mark
        return None
    try:
        document = simdjson.Parser().parse(data)
        rows = document["rows"] if isinstance(document, simdjson.Object) and len(document) == 1 else document
        if not isinstance(rows, simdjson.Array):
            return None
        widths = {len(row) for row in rows}  # type: ignore[arg-type]  # what has no length raises TypeError
        cells = np.frombuffer(rows.as_buffer(of_type="d"), dtype=np.float64)
    except (KeyError, RuntimeError, TypeError, ValueError):
        return None
    n = len(rows)
    # Cells are numbers, so there is no text, and every bracket is one of a row.
    if len(widths) != 1 or widths == {0} or data.count(b"[") != n + 1 or len(cells) != n * min(widths):
        return None
    return cells.reshape(n, -1)


def parse_ndjson(source: BinaryIO, *, limits: TableLimits = NO_LIMITS) -> RawTable:
    """One JSON object or array a line; blank lines are passed over, a broken line is one bad row."""
    rows: list[dict[str, object] | list[object]] = []
    bad: dict[int, ItemError] = {}
    held = HeldRows(limits.max_bytes)
    for number, line in enumerate(source, start=1):
        line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        if not line.strip():
            continue
        place = len(rows) + len(bad)
        limits.check(rows=place + 1)
        try:
            row = json_row(line, number, limits)
        except ItemError as error:
            keep_error(bad, place, error)
            continue
        limits.check(columns=len(row))
        held.add(line, row)
        rows.append(row)
    return RawTable(rows=rows, bad=bad)


def json_row(line: bytes, number: int, limits: TableLimits) -> dict[str, object] | list[object]:
    """The row on a line of NDJSON, `number` counted from 1. Raises ItemError."""
    try:
        row = load_json(line, max_json_depth=limits.max_json_depth, max_bytes=limits.max_bytes)
    except (DecodeError, LimitExceeded) as error:
        verb = "has" if error.message.startswith("row ") else "is"
        raise ItemError(f"line {number} {verb} {error.message}", code=error.code, where=f"line {number}") from error
    if not isinstance(row, dict | list):
        raise ItemError(f"line {number} must be an object or an array", code="json_invalid", where=f"line {number}")
    too_long = long_cell(row, limits.max_cell_bytes) if len(line) > limits.max_cell_bytes else None
    if too_long is not None:
        raise too_long
    return row


def load_json(data: bytes, *, max_json_depth: int = MAX_PARSED_DEPTH, max_bytes: int = MOST_BYTES) -> object:
    """The document in `data`. Numbers beyond float64 (1e400) are infinite, which is their cell's error.

    `max_bytes` is what its cells may take once they are parsed. Raises DecodeError, for a bare NaN or Infinity too
    (which Python's json.dumps writes), and LimitExceeded.
    """
    check_size(data, max_bytes)
    check_depth(data, max_json_depth)
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        reason = error.msg  # the error itself holds all of the text
    constants: list[NotJson] = []

    def constant(name: str) -> NotJson:
        constants.append(NotJson(name))
        return constants[-1]

    try:
        document = json.loads(data, parse_constant=constant)
    except (ValueError, RecursionError):
        raise DecodeError(f"not JSON: {reason}", code="json_invalid") from None
    if constants:
        raise _refused_constant(document, constants[0].name)
    return document


@dataclass(frozen=True)
class NotJson:
    """A bare NaN, Infinity or -Infinity in a document."""

    name: str


def _refused_constant(document: object, name: str) -> DecodeError:
    """The error of a document with the constant `name`, which names the first of its rows that has one."""
    rows = next(iter(document.values())) if isinstance(document, dict) and len(document) == 1 else document
    for i, row in enumerate(rows if isinstance(rows, list) else []):
        if isinstance(row, dict | list) and _has_constant(row):
            return DecodeError(f"row {i}: {name} is not JSON, write null", code="json_invalid", where=f"row {i}")
    return DecodeError(f"not JSON: write null for {name}", code="json_invalid")


def _has_constant(value: object) -> bool:
    if isinstance(value, dict | list):
        return any(map(_has_constant, value.values() if isinstance(value, dict) else value))
    return isinstance(value, NotJson)
