"""Reading a body within its limit, and opening gzip within its own."""

import io
import zlib
from collections.abc import Callable, Collection

from starlette.requests import Request

from elbound.errors import DecodeError, LimitExceeded, UnsupportedMedia

WINDOW_BITS = {"gzip": 31, "deflate": 15}
"""The `wbits` of zlib for each Content-Encoding."""
MAX_MEMBERS = 100_000
"""Parts of one gzip: tools that write several make them of 64 kB and more."""
WINDOW_BYTES = 1 << 12
"""Bytes that are given to the decompressor at once: they open to 4 MB at most."""
UPLOADED = ("gzip",)
"""The encodings of uploads."""


def hold_nothing(_: int) -> None:
    """For callers that do not count the bytes, since these are few."""


async def read_body(
    request: Request,
    *,
    max_body_bytes: int,
    encodings: Collection[str] = UPLOADED,
    hold: Callable[[int], None] = hold_nothing,
) -> bytes:
    """The whole body. What is known before its first byte is refused before: the caller is never asked for it.

    `hold` is given the bytes of each part that has come. Raises UnsupportedMedia for the encoding, LimitExceeded as
    soon as the length passes the limit, and what `hold` raises.
    """
    check_encoding(content_encoding(request), encodings)
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > max_body_bytes:
        raise body_too_large(announced, max_body_bytes)
    body = io.BytesIO()  # grows in place, and gives away what it holds without a copy
    async for chunk in request.stream():
        hold(len(chunk))
        body.write(chunk)
        if body.tell() > max_body_bytes:
            raise body_too_large(f"more than {max_body_bytes:,}", max_body_bytes)
    return body.getvalue()


def body_too_large(found: str, max_body_bytes: int) -> LimitExceeded:
    """The error of a body that is larger than it may be."""
    return LimitExceeded(
        f"the body has {found} bytes; at most {max_body_bytes:,} are taken", code="body_too_large", where="body"
    )


def content_encoding(request: Request) -> str:
    """The Content-Encoding as it was sent, in lower case; empty where there is none."""
    return request.headers.get("content-encoding", "").strip().lower()


def check_encoding(encoding: str, encodings: Collection[str] = UPLOADED) -> None:
    """Raise UnsupportedMedia where a Content-Encoding is not read."""
    if encoding not in ("", "identity", *encodings):
        raise UnsupportedMedia(
            f"Content-Encoding {encoding[:40]!r} is not read; {', '.join(encodings)} and identity are",
            code="unsupported_encoding",
            where="content-encoding",
        )


def expand(body: bytes, encoding: str, *, max_expanded_bytes: int, hold: Callable[[int], None] = hold_nothing) -> bytes:
    """The body behind a Content-Encoding that was checked; `hold` is given the bytes that it opens to.

    Raises DecodeError, LimitExceeded, and what `hold` raises.
    """
    if encoding not in WINDOW_BITS:
        return body
    opened = io.BytesIO()  # gives away what it holds without a copy
    position = size = members = 0
    packed = memoryview(body)
    while position < len(body):
        members += 1
        if members > MAX_MEMBERS:
            raise LimitExceeded(f"the body has more than {MAX_MEMBERS:,} members of {encoding}", where="body")
        member = zlib.decompressobj(WINDOW_BITS[encoding])
        while not member.eof:
            piece = packed[position : position + WINDOW_BYTES]
            if not piece:
                raise DecodeError(f"the {encoding} body is truncated", where="body")
            try:
                data = member.decompress(piece, max_expanded_bytes + 1 - size)
            except zlib.error as error:
                raise DecodeError(f"the body is not readable as {encoding}: {error}", where="body") from error
            hold(len(data))
            size += opened.write(data)
            if size > max_expanded_bytes:
                raise LimitExceeded(
                    f"the body opens to more than {max_expanded_bytes:,} bytes", code="body_too_large", where="body"
                )
            position += len(piece)
        position -= len(member.unused_data)
    return opened.getvalue()
