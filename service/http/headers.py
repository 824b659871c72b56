"""Headers that every answer has: scores are the caller's alone, and no browser may guess what an answer is."""

from collections.abc import Iterable

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
