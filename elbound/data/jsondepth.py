"""How deep a JSON document is nested, found before it is parsed."""

import numpy as np

from elbound.errors import LimitExceeded

MAX_PARSED_DEPTH = 1024
"""What the parsers themselves refuse beyond."""
NOT_STRUCTURE = bytes(set(range(256)) - set(b'[]{}"'))
QUOTE = ord('"')
STEPS = np.zeros(256, np.int8)
STEPS[list(b"[{")] = 1
STEPS[list(b"]}")] = -1
CHUNK = 1 << 20


def check_depth(data: bytes, max_json_depth: int) -> None:
    """Raise LimitExceeded where lists and objects stand in each other more than `max_json_depth` deep."""
    if data.count(b"[") + data.count(b"{") > max_json_depth and json_depth(data) > max_json_depth:
        raise LimitExceeded(
            f"JSON nested more than {max_json_depth:,} deep, which is all that max_json_depth allows", where="body"
        )


def json_depth(data: bytes) -> int:
    """The deepest nesting in a document: 0 for a number, 1 for `[]`. Of what is no JSON it is any number."""
    if b"\\" in data:
        data = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    structure = np.frombuffer(data.translate(None, NOT_STRUCTURE), np.uint8)
    level = deepest = quotes = 0
    for start in range(0, len(structure), CHUNK):
        part = structure[start : start + CHUNK]
        seen = quotes + np.cumsum(part == QUOTE, dtype=np.int64)
        levels = level + np.cumsum(np.where(seen % 2, 0, STEPS[part]), dtype=np.int64)
        deepest = max(deepest, int(levels.max()))
        level, quotes = int(levels[-1]), int(seen[-1])
    return deepest
