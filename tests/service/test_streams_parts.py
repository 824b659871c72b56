"""What streams are made of: the form of an answer, a body as a file, room on disk, scores that wait."""

import asyncio
import errno
import gzip
import io
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from elbound.data.items import TensorItems
from elbound.errors import ConfigError, ItemError, LimitExceeded
from elbound.scorer import Scorer
from service.answers.held import HeldResults, pack, unpack
from service.errors import CallerLeft, NotAcceptable, SpoolFull
from service.http.accept import answer_form
from service.http.media_types import ARROW, CSV, JSON, NDJSON
from service.memory.spool import Spool
from service.uploads.feed import FEED_BYTES, BrokenGzip, Feed, Unpacked


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (None, JSON),
        ("", JSON),
        ("*/*", JSON),
        ("application/*", JSON),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", JSON),
        ("text/csv", CSV),
        ("Text/CSV; charset=utf-8", CSV),
        ("text/*", CSV),
        ("application/x-ndjson, */*", NDJSON),
        ("application/ndjson", NDJSON),
        ("application/json;q=0.5, text/csv", CSV),
        ("text/csv;q=0.2, application/vnd.apache.arrow.stream;q=0.7, application/json;q=0.1", ARROW),
        ("application/json;q=0, */*", NDJSON),
        ("*/*;q=0.1, application/x-ndjson;q=0", JSON),
        ("text/csv;q=high", CSV),
    ],
)
def test_accept_chooses_the_form(accept: str | None, form: str) -> None:
    assert answer_form(accept) == form


@pytest.mark.parametrize("accept", ["text/html", "image/*", "*/*;q=0", "text/csv;q=0.000", ";", "csv"])
def test_an_accept_that_takes_none_is_told_all(accept: str) -> None:
    with pytest.raises(NotAcceptable, match="application/json, application/x-ndjson, text/csv"):
        answer_form(accept)


def test_a_sender_waits_while_the_feed_is_full_and_goes_on_when_it_is_read() -> None:
    async def run() -> tuple[bytes, list[int]]:
        feed = Feed(asyncio.get_running_loop(), max_bytes=1 << 30)
        sent: list[int] = []

        async def send() -> None:
            for i in range(20):
                await feed.put(bytes([i]) * (1 << 20))
                sent.append(i)
            feed.end()

        sending = asyncio.create_task(send())
        await asyncio.sleep(0.05)
        before = list(sent)
        data = await asyncio.to_thread(io.BufferedReader(feed).read)
        await sending
        return data, before

    data, before = asyncio.run(run())
    assert len(before) * (1 << 20) < FEED_BYTES
    assert data == b"".join(bytes([i]) * (1 << 20) for i in range(20))


def test_who_reads_an_aborted_feed_is_woken(loop) -> None:
    feed = Feed(loop, max_bytes=10)
    found: list[BaseException] = []

    def read() -> None:
        try:
            feed.read(1)
        except CallerLeft as error:
            found.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    feed.abort(CallerLeft("gone"))
    thread.join(5)
    assert not thread.is_alive()
    assert len(found) == 1
    loop.run_until_complete(feed.put(b"x" * FEED_BYTES))  # dropped


def test_a_body_beyond_its_limit_ends_after_what_came_before(loop) -> None:
    feed = Feed(loop, max_bytes=10)
    loop.run_until_complete(feed.put(b"12345678"))
    loop.run_until_complete(feed.put(b"9abc"))
    assert feed.read(100) == b"12345678"
    with pytest.raises(LimitExceeded, match="at most 10"):
        feed.read(100)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=300), min_size=1, max_size=4), st.integers(1, 50), st.integers(1, 64))
def test_gzip_members_open_to_what_they_hold_however_they_come(parts: list[bytes], step: int, size: int) -> None:
    packed = b"".join(gzip.compress(part) for part in parts)
    source = io.BufferedReader(Unpacked(Packed(packed), max_bytes=10_000), size)
    found = b""
    while data := source.read1(step):
        found += data
    assert found == b"".join(parts)


class Packed(io.RawIOBase):
    def __init__(self, data: bytes) -> None:
        self.source = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        return self.source.readinto(buffer)


def test_a_gzip_that_breaks_off_gives_what_was_whole() -> None:
    whole = np.random.default_rng(0).bytes(5_000)
    source = Unpacked(Packed(gzip.compress(whole)[:3_000]), max_bytes=10_000)
    found = source.read(10_000)
    assert 2_000 < len(found) < 3_000
    assert found == whole[: len(found)]
    with pytest.raises(BrokenGzip, match="truncated"):
        source.read(10)
    bomb = Unpacked(Packed(gzip.compress(bytes(100_000))), max_bytes=10_000)
    with pytest.raises(LimitExceeded, match="opens to more than 10,000"):
        bomb.read(100_000)


def test_the_spool_is_bounded_over_all_and_leaves_nothing(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path / "spool"), max_spool_bytes=100)
    first, second = spool.open(), spool.open()
    assert first.write(b"a" * 60) == 0
    assert list((tmp_path / "spool").iterdir()) == []
    with pytest.raises(SpoolFull):
        second.write(b"b" * 50)
    with pytest.raises(LimitExceeded, match="more than 100 bytes"):
        second.write(b"b" * 101)
    first.close()
    assert second.write(b"b" * 50) == 0
    assert second.read(10, 5) == b"bbbbb"
    second.close()
    assert spool.used_bytes == 0


def test_a_full_disk_is_a_full_spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(str(tmp_path), max_spool_bytes=100)
    file = spool.open()

    class Full(io.BytesIO):
        def write(self, data: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    file.file.close()
    file.file = Full()  # type: ignore[assignment]
    with pytest.raises(SpoolFull, match="the disk is full"):
        file.write(b"x")
    file.close()
    assert spool.used_bytes == 0
    with pytest.raises(ConfigError, match="spool_dir"):
        Spool("/proc/nowhere", max_spool_bytes=1)


text = st.none() | st.text(max_size=5)


@settings(deadline=None)
@given(st.data(), st.integers(1, 8), st.integers(1, 3))
def test_held_pieces_come_back_as_they_were(data: st.DataObject, n: int, scores: int) -> None:
    bad = data.draw(st.sets(st.integers(0, n - 1)))
    index = np.array([i for i in range(n) if i not in bad], dtype=np.int64)
    draw = np.random.default_rng(n)
    columns = [np.where(draw.random(len(index)) < 0.2, np.nan, draw.normal(size=len(index))) for _ in range(scores)]
    items = TensorItems(
        torch.empty(len(index), 2),
        index,
        n,
        {i: ItemError(f"bad {i}", code="cell_invalid", where=data.draw(text)) for i in bad},
        names=data.draw(st.none() | st.lists(st.text(max_size=5), min_size=n, max_size=n)),
        groups=data.draw(st.none() | st.lists(text, min_size=n, max_size=n)),
    )
    found, values = unpack(pack(items, columns), scores)
    for before, after in zip(columns, values, strict=True):
        np.testing.assert_array_equal(before, after)
    np.testing.assert_array_equal(found.index, items.index)
    assert (found.n, found.names, found.groups) == (items.n, items.names, items.groups)
    assert {i: (e.code, e.message, e.where) for i, e in found.errors.items()} == {
        i: (e.code, e.message, e.where) for i, e in items.errors.items()
    }


@pytest.mark.parametrize("max_held_bytes", [0, 500, 1 << 20])
def test_scores_wait_in_memory_and_on_disk_in_their_order(
    numeric_scorer: Scorer, tmp_path: Path, max_held_bytes: int
) -> None:
    rows = np.random.default_rng(0).normal(size=(60, 3))
    parts = [numeric_scorer.to_tensor(rows[i : i + 10]) for i in range(0, 60, 10)]
    spool = Spool(str(tmp_path), max_spool_bytes=1 << 20)

    async def run() -> list[np.ndarray]:
        held = HeldResults(numeric_scorer, spool, max_held_bytes=max_held_bytes)
        for part in parts[:4]:
            await held.put(part, numeric_scorer.score_items(part))
        assert (spool.used_bytes > 0) == (max_held_bytes < 1 << 20)
        assert held.held_bytes <= max_held_bytes
        found = []

        async def take() -> None:
            while (piece := await held.take()) is not None:
                found.append(np.stack([piece[1].score, piece[1].p_value]))

        taking = asyncio.create_task(take())
        for part in parts[4:]:
            await held.put(part, numeric_scorer.score_items(part))
        await held.end()
        await taking
        held.close()
        return found

    found = np.concatenate(asyncio.run(run()), axis=1)
    expected = [numeric_scorer.score_items(part) for part in parts]
    np.testing.assert_array_equal(found[0], np.concatenate([one.score for one in expected]))
    np.testing.assert_array_equal(found[1], np.concatenate([one.p_value for one in expected]))
    assert spool.used_bytes == 0
