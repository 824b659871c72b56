"""Headers that every answer has: scores are the caller's alone, and no browser may guess what an answer is."""

from collections.abc import Iterable

DEFAULTS = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))


def with_defaults(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers of an answer, names in lower case, with those of `DEFAULTS` that it does not set itself."""
    found = list(headers)
    names = [name for name, _ in found]
    found += [one for one in DEFAULTS if one[0] not in names]
    return found
