"""What somebody who may write a store can do to its server: have a version refused, and nothing else."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from elbound.scorer import Scorer
from service.errors import StoreUnreadable
from service.models import load as opening
from service.models.store import loader, source
from service.models.store.loader import Loader
from service.models.store.source import LocalStore
from tests.elbound.test_hostile_bundles import HARMS, model_of, vouch
from tests.service.stores import NAME, put, version_at
from tests.service.test_store import live, look, post, refused, serving


async def ready(client: httpx.AsyncClient) -> bool:
    return (await client.get("/readyz")).status_code == 200


def test_every_harm_is_refused_with_its_reason_while_the_old_version_serves(
    numeric_scorer: Scorer, tmp_path: Path
) -> None:
    async def run() -> None:
        put(tmp_path, numeric_scorer, 0)
        async with serving(tmp_path) as (client, state):
            wanted = {}
            for i, name in enumerate(
                ("link to a device", "pipe", "long manifest", "endless file", "folder that is a link")
            ):
                version = put(tmp_path, numeric_scorer, 1 + i)
                HARMS[name][0](tmp_path / NAME / version)
                wanted[version] = "bundle_too_large" if name == "endless file" else "bundle_corrupt"
            version = put(tmp_path, numeric_scorer, 9)
            vouch(tmp_path / NAME / version, model_of(width=16384, nets=16))
            wanted[version] = "bundle_too_large"
            start = time.monotonic()
            await look(state)
            assert time.monotonic() - start < 10
            assert await refused(client) == wanted
            messages = {one["version"]: one["message"] for one in (await client.get("/models")).json()["refused"]}
            assert "bytes of weights; at most 1,073,741,824 are allowed (max_bundle_bytes)" in messages[version]
            assert (await live(client), await ready(client)) == (version_at(0), True)
            await look(state)  # nothing has changed, so nothing is tried again
            swaps = state.metrics.registry.get_sample_value
            labels = {"model_name": NAME, "result": "refused"}
            assert swaps("elbound_model_swaps_total", labels) == len(wanted)

    asyncio.run(run())


def test_links_inside_the_store_are_followed(numeric_scorer: Scorer, tmp_path: Path) -> None:
    """A version that is a link to a folder of another name, and a whole name that is one; the store itself too."""
    root = tmp_path / "real"
    for i in range(2):
        put(root, numeric_scorer, i)
        (root / NAME / version_at(i)).rename(root / NAME / f".blob-{i}")
        (root / NAME / version_at(i)).symlink_to(f".blob-{i}")
    (root / NAME).rename(root / "..data")
    (root / NAME).symlink_to("..data")
    (root / "..data" / ".pin").write_text(version_at(0))
    (root / NAME / "ACTIVE").symlink_to(".pin")
    (tmp_path / "store").symlink_to("real")

    async def run() -> None:
        async with serving(tmp_path / "store") as (client, state):
            assert await live(client) == version_at(0)
            (root / "..data" / ".next").write_text(version_at(1))
            (root / "..data" / ".next").rename(root / "..data" / ".pin")
            await look(state)
            assert await live(client) == version_at(1)

    asyncio.run(run())


def test_links_that_lead_out_of_the_store_are_refused(numeric_scorer: Scorer, tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "store", tmp_path / "elsewhere"
    put(root, numeric_scorer, 0)
    put(elsewhere, numeric_scorer, 1)
    (tmp_path / "secret").write_text(version_at(0))

    async def run() -> None:
        async with serving(root) as (client, state):
            (root / NAME / version_at(1)).symlink_to(elsewhere / NAME / version_at(1))
            (root / NAME / version_at(2)).symlink_to("/")
            (root / "all").symlink_to("/")
            start = time.monotonic()
            await look(state)
            assert time.monotonic() - start < 5
            assert await refused(client) == {version_at(1): "bundle_outside", version_at(2): "bundle_outside"}
            told = (await client.get("/models")).json()
            assert all("is a link that leads out of the store" in one["message"] for one in told["refused"])
            assert told["store_problems"] == [f"{root}/all is a link that leads out of the store"]
            assert (await live(client), await ready(client)) == (version_at(0), True)
            (root / "all").unlink()
            (root / NAME / version_at(1)).unlink()
            (elsewhere / NAME / version_at(1)).rename(root / NAME / version_at(1))
            await look(state)
            assert (await live(client), await refused(client)) == (version_at(1), {version_at(2): "bundle_outside"})
            (root / NAME / "ACTIVE").symlink_to(tmp_path / "secret")
            await look(state)
            assert await live(client) == version_at(1)
            (problem,) = (await client.get("/models")).json()["store_problems"]
            assert problem == f"{root}/{NAME}/ACTIVE is a link that leads out of the store"

    asyncio.run(run())


def test_a_name_that_cannot_be_read_at_the_start_is_told_and_not_ready(numeric_scorer: Scorer, tmp_path: Path) -> None:
    put(tmp_path, numeric_scorer, 0)
    (tmp_path / "all").symlink_to("/")

    async def run() -> None:
        async with serving(tmp_path) as (client, state):
            assert (await live(client), await ready(client)) == (version_at(0), False)
            assert len((await client.get("/models")).json()["store_problems"]) == 1
            (tmp_path / "all").unlink()
            await look(state)
            assert await ready(client)
            assert (await client.get("/models")).json()["store_problems"] == []

    asyncio.run(run())


def test_a_version_that_takes_too_long_is_refused_and_holds_up_nothing(
    numeric_scorer: Scorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    end, plain = threading.Event(), opening.Scorer.from_bundle

    def load(path: Path, **options: Any) -> Scorer:
        if path.name == version_at(1):
            end.wait(30)
        return plain(path, **options)

    async def run() -> None:
        put(tmp_path, numeric_scorer, 0)
        async with serving(tmp_path, load_timeout_s=1) as (client, state):
            monkeypatch.setattr(opening.Scorer, "from_bundle", load)
            put(tmp_path, numeric_scorer, 1)
            looking = asyncio.ensure_future(look(state))
            await asyncio.sleep(0.3)
            assert not looking.done()
            assert (await live(client), await ready(client)) == (version_at(0), True)  # while it is waited for
            start = time.monotonic()
            await looking
            assert time.monotonic() - start < 2
            assert await refused(client) == {version_at(1): "load_timeout"}
            (told,) = (await client.get("/models")).json()["refused"]
            assert told["message"] == "it is not loaded: it took more than 1 s (load_timeout_s)"
            start = time.monotonic()
            await look(state)  # not again
            assert time.monotonic() - start < 0.9
            answer = await post(client, "activate", version_at(1))
            assert (answer.status_code, answer.json()["error"]["code"]) == (422, "version_refused")
            put(tmp_path, numeric_scorer, 2)
            await look(state)
            assert await live(client) == version_at(2)
            assert state.store is not None
            assert state.store.aside.is_busy
            end.set()

    try:
        asyncio.run(run())
    finally:
        end.set()


def test_threads_that_hang_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    end = threading.Event()
    monkeypatch.setattr(loader, "MAX_LATE", 2)

    async def run() -> None:
        aside = Loader()
        for _ in range(2):
            with pytest.raises(TimeoutError, match=r"it took more than 0.05 s \(load_timeout_s\)"):
                await aside(end.wait, 30, within_s=0.05)
        with pytest.raises(TimeoutError, match="2 others took too long and have not ended; restart the server"):
            await aside(int, "1", within_s=5)
        assert await aside(int, "1") == 1
        end.set()
        while aside.is_busy:
            await asyncio.sleep(0.01)
        assert await aside(int, "2", within_s=5) == 2

        def slow_socket() -> None:
            raise TimeoutError("of the other side")

        with pytest.raises(TimeoutError, match="of the other side"):
            await aside(slow_socket, within_s=5)
        aside.close()

    asyncio.run(run())


def test_a_store_of_too_many_entries_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "MAX_FOLDERS", 3)
    monkeypatch.setattr(source, "MAX_SEEN", 5)
    for i in range(4):
        (tmp_path / NAME / f"v{i}" / "deep").mkdir(parents=True)
    for i in range(50):
        (tmp_path / NAME / "v0" / "deep" / str(i)).touch()
    with pytest.raises(StoreUnreadable, match="has more than 3 entries"):
        LocalStore(tmp_path).listing(NAME)
    assert LocalStore(tmp_path).names() == [NAME]
    shape = LocalStore(tmp_path).shape_of(NAME, "v0")
    assert isinstance(shape, tuple)
    assert len(shape) == 5


HANGS = """
import sys, time
from service.models.store.source import LocalStore
from elbound.cli import main
plain, looks = LocalStore.names, []
def names(self):
    looks.append(1)
    if len(looks) == 1:
        return plain(self)
    print("the store hangs", file=sys.stderr, flush=True)
    time.sleep(600)
LocalStore.names = names
main()
"""


@pytest.mark.slow
def test_a_server_stops_although_its_store_hangs(numeric_scorer: Scorer, tmp_path: Path) -> None:
    """As a disk on a network does that is gone."""
    put(tmp_path / "store", numeric_scorer, 0)
    command = [sys.executable, "-c", HANGS, "serve", "--models", str(tmp_path / "store"), "--port", "0"]
    environ = {**os.environ, "ELBOUND_STORE_POLL_S": "1", "OMP_NUM_THREADS": "1"}
    log = tmp_path / "log"
    with log.open("wb") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=sink, env=environ)
    try:
        until = time.monotonic() + 60
        while "the store hangs" not in log.read_text():
            assert time.monotonic() < until
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
    finally:
        process.kill()
    assert "stopped without waiting for the store" in log.read_text()
