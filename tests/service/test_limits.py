"""What a compressed body opens to, in one go."""

import gzip
import zlib
from collections.abc import Callable

import numpy as np
import pytest

from elbound.errors import DecodeError, LimitExceeded
from service.limits import MAX_MEMBERS, expand

BODIES = [np.random.default_rng(0).bytes(n // 2) + b"a" * (n - n // 2) for n in (1, 4_096, 300_000)]
PACKERS = pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])


@PACKERS
@pytest.mark.parametrize("body", BODIES, ids=len)
def test_a_body_opens_up_to_its_limit(body: bytes, encoding: str, pack: Callable[[bytes], bytes]) -> None:
    packed = pack(body)
    assert expand(packed, encoding, max_expanded_bytes=len(body)) == body
    with pytest.raises(LimitExceeded):
        expand(packed * 2, encoding, max_expanded_bytes=2 * len(body) - 1)
    with pytest.raises(DecodeError, match="truncated"):
        expand(packed[:-3], encoding, max_expanded_bytes=len(body))


def test_many_parts_are_one_body_and_too_many_are_refused() -> None:
    """Each left a copy of all that followed it: 64 MB of empty ones took hours."""
    empty = gzip.compress(b"")
    whole = b"".join(map(gzip.compress, BODIES)) + empty
    assert expand(whole, "gzip", max_expanded_bytes=1 << 20) == b"".join(BODIES)
    with pytest.raises(LimitExceeded, match="more than 100,000 members of gzip"):
        expand(empty * (MAX_MEMBERS + 1), "gzip", max_expanded_bytes=1 << 20)
    with pytest.raises(DecodeError, match="not readable as gzip"):
        expand(empty + b"junk", "gzip", max_expanded_bytes=1 << 20)
