"""What a compressed body opens to, in one go and while it arrives."""

import asyncio
import gc
import gzip
import io
import zlib
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import httpx
import numpy as np
import pytest

from elbound.errors import DecodeError, LimitExceeded
from service.app import create_app
from service.http.body import MAX_MEMBERS, expand
from service.settings import Settings
from service.uploads.feed import BrokenGzip, Unpacked

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


@pytest.mark.parametrize("body", BODIES, ids=len)
def test_a_stream_opens_up_to_its_limit(body: bytes) -> None:
    def opened(packed: bytes, max_bytes: int) -> bytes:
        return io.BufferedReader(Unpacked(io.BytesIO(packed), max_bytes=max_bytes)).read()  # type: ignore[arg-type]

    packed = gzip.compress(body)
    assert opened(packed * 3 + gzip.compress(b""), 3 * len(body)) == body * 3
    with pytest.raises(LimitExceeded):
        opened(packed, len(body) - 1)
    with pytest.raises(BrokenGzip, match="truncated"):
        opened(packed[:-3], len(body))
    with pytest.raises(BrokenGzip, match="not readable"):
        opened(packed + b"junk", len(body))


@pytest.mark.parametrize("accept", ["application/json", "application/x-ndjson"])
def test_a_refused_body_is_let_go_of_at_once(table_bundle: Path, accept: str) -> None:
    """The error kept its frames, they the body of 500 MB, and all led back to each other: until the collector came."""
    headers = {"content-type": "application/json", "accept": accept}

    async def send() -> int:
        app = create_app(Settings(device="cpu"), [table_bundle])
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                gc.collect()
                gc.disable()
                answer = await client.post("/score", content=b"[" + b" " * 50_000, headers=headers)
                assert (answer.status_code, answer.json()["error"]["code"]) == (400, "json_invalid")
                return sum(
                    frame.f_code.co_name in ("_json_rows", "load_json")
                    for frame in gc.get_objects()
                    if isinstance(frame, FrameType)
                )

    try:
        assert asyncio.run(send()) == 0
    finally:
        gc.enable()
