"""Answers compressed as `Accept-Encoding` asks."""

import gzip
import re
import zlib

LEAST_BYTES = 1_024
"""Shorter answers are sent as they are: the headers are longer than what would be won."""
LEVEL = 1
"""Digits of scores compress little, and hardly better at more expense."""
NOT_WANTED = re.compile(r"q=0(\.0*)?")


def answer_encoding(accept_encoding: str | None) -> str | None:
    """`gzip` or `deflate` where the caller takes it, gzip first; None for the answer as it is."""
    taken = set()
    for part in (accept_encoding or "").lower().split(","):
        name, _, weight = (piece.strip() for piece in part.partition(";"))
        if not NOT_WANTED.fullmatch(weight.replace(" ", "")):
            taken.add(name)
    return next((name for name in ("gzip", "deflate") if name in taken), None)


def compress(body: bytes, encoding: str) -> bytes:
    """The `body` in that Content-Encoding."""
    return gzip.compress(body, LEVEL, mtime=0) if encoding == "gzip" else zlib.compress(body, LEVEL)
