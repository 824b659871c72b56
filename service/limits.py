"""Reading a body within its limit, and opening gzip within its own."""

import zlib

from starlette.requests import Request

from elbound.errors import DecodeError, LimitExceeded, UnsupportedMedia

DRAIN_FACTOR = 2
"""A refused body is read on to twice its limit, so that the client sees the answer instead of a reset."""


async def read_body(request: Request, *, max_body_bytes: int) -> bytes:
    """The whole body. Raises LimitExceeded as soon as the length is known to pass the limit."""
    announced = request.headers.get("content-length", "")
    too_large = announced.isdigit() and int(announced) > max_body_bytes
    body = bytearray()
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        too_large = too_large or received > max_body_bytes
        if not too_large:
            body += chunk
        elif received > DRAIN_FACTOR * max_body_bytes:
            break
    if too_large:
        raise LimitExceeded(
            f"the body has {announced or f'more than {max_body_bytes}'} bytes; at most {max_body_bytes:,} are taken",
            code="body_too_large",
            where="body",
        )
    return bytes(body)


def expand(body: bytes, encoding: str, *, max_expanded_bytes: int) -> bytes:
    """The body behind its Content-Encoding. Raises UnsupportedMedia, DecodeError, LimitExceeded."""
    if encoding in ("", "identity"):
        return body
    if encoding != "gzip":
        raise UnsupportedMedia(
            f"Content-Encoding {encoding[:40]!r} is not read; gzip and identity are",
            code="unsupported_encoding",
            where="content-encoding",
        )
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
