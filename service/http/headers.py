"""Headers that every answer has: the id of its request, and what browsers must not do with it."""

import itertools
import re
import secrets
from collections.abc import Iterable

REQUEST_ID = "elbound.request_id"
"""Where the scope of a request has its id."""
REQUEST_ID_HEADER = b"x-request-id"
SANE_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
_process = secrets.token_hex(8).encode()
_numbers = itertools.count(1)


def new_request_id() -> bytes:
    """One that no other request has, here or elsewhere: it tells what belongs together and keeps no secret."""
    return b"%b-%x" % (_process, next(_numbers))


def request_id_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The caller's `X-Request-ID` where it is sane, else a new one."""
    for name, value in headers:
        if name == REQUEST_ID_HEADER:
            return value if SANE_ID.fullmatch(value) else new_request_id()
    return new_request_id()


NO_SNIFF = (b"x-content-type-options", b"nosniff")
NO_STORE = (b"cache-control", b"no-store")


def with_defaults(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers of an answer, names in lower case, with `NO_SNIFF`, and `NO_STORE` where it has no other rule."""
    found = [*headers, NO_SNIFF]
    for name, _ in found:
        if name == b"cache-control":
            return found
    found.append(NO_STORE)
    return found
