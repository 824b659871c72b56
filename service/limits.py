"""Reading a body within its limit, and opening gzip within its own."""

import zlib

from starlette.requests import Request

from elbound.errors import DecodeError, LimitExceeded, UnsupportedMedia


async def read_body(request: Request, *, max_body_bytes: int) -> bytes:
    """The whole body. What is known before its first byte is refused before: the caller is never asked for it.

    Raises UnsupportedMedia for the encoding, LimitExceeded as soon as the length passes the limit.
    """
    check_encoding(request.headers.get("content-encoding", "").strip().lower())
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > max_body_bytes:
        raise body_too_large(announced, max_body_bytes)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_body_bytes:
            raise body_too_large(f"more than {max_body_bytes:,}", max_body_bytes)
    return bytes(body)


def body_too_large(found: str, max_body_bytes: int) -> LimitExceeded:
    """The error of a body that is larger than it may be."""
    return LimitExceeded(
        f"the body has {found} bytes; at most {max_body_bytes:,} are taken", code="body_too_large", where="body"
    )


def check_encoding(encoding: str) -> None:
    """Raise UnsupportedMedia where a Content-Encoding is not read."""
    if encoding not in ("", "identity", "gzip"):
        raise UnsupportedMedia(
            f"Content-Encoding {encoding[:40]!r} is not read; gzip and identity are",
            code="unsupported_encoding",
            where="content-encoding",
        )


def expand(body: bytes, encoding: str, *, max_expanded_bytes: int) -> bytes:
    """The body behind its Content-Encoding. Raises UnsupportedMedia, DecodeError, LimitExceeded."""
    check_encoding(encoding)
    if encoding != "gzip":
        return body
    expanded = bytearray()
    while body:
        member = zlib.decompressobj(wbits=31)
        try:
            expanded += member.decompress(body, max_expanded_bytes + 1 - len(expanded))
        except zlib.error as error:
            raise DecodeError(f"the body is not readable as gzip: {error}", where="body") from error
        if len(expanded) > max_expanded_bytes:
            raise LimitExceeded(
                f"the body opens to more than {max_expanded_bytes:,} bytes",
                code="body_too_large",
                where="body",
            )
        if not member.eof:
            raise DecodeError("the gzip body is truncated", where="body")
        body = member.unused_data
    return bytes(expanded)
