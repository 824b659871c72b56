"""How deep a JSON document is nested, and what it takes once it is parsed: found before it is parsed."""

from collections.abc import Iterator

import numpy as np

from elbound.data.memory import announce
from elbound.errors import LimitExceeded

MAX_PARSED_DEPTH = 1024
"""What the parsers themselves refuse beyond."""
MOST_BYTES = 1 << 36
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
