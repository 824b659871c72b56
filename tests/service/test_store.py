"""A store of versions: which one is served, what is refused and why, how one goes back, and that the old one goes."""

import asyncio
import errno
import gc
import os
import re
import shutil
import signal
import time
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from elbound.bundle import files as bundle_files
from elbound.bundle.signature import Trust
from elbound.detector import Detector
from elbound.device import cpu_workers
from elbound.errors import ConfigError
from elbound.scorer import Scorer
from service.app import create_app
from service.errors import StoreUnreadable
from service.models import load as opening
from service.models.store import source as sources
from service.models.store.source import Listing, LocalStore, age, is_name
from service.models.store.trail import MAX_KEPT, Trail
from service.settings import Settings
from service.state import State
from tests.service.conftest import write_keys
from tests.service.stores import as_version, put, version_at

ROW = b"[[0.5, 1.0, 2.0]]"
JSON = {"content-type": "application/json"}
EVERYTHING: dict[str, object] = {"scopes": ["score", "read", "admin"]}
KEY = {"authorization": "Bearer k"}


@asynccontextmanager
async def serving(root: Path, **settings: Any) -> AsyncIterator[tuple[httpx.AsyncClient, State]]:
    """The whole application in this process; its store is looked at when a test says so."""
    keys = str(write_keys(root.parent / f"{root.name}-keys.json", k=EVERYTHING))
    usual = {"device": "cpu", "models": str(root), "store_poll_s": 3600, "api_keys_file": keys}
    app = create_app(Settings(**{**usual, **settings}), [])
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=KEY) as client:
            yield client, app.state.elbound


async def look(state: State) -> None:
    assert state.store is not None
    await state.store.look()


async def live(client: httpx.AsyncClient) -> str:
    """The version that answers."""
    answer = await client.post("/score", content=ROW, headers=JSON)
    assert answer.status_code == 200, answer.text
    version: str = answer.json()["model"]["version"]
    return version


async def refused(client: httpx.AsyncClient) -> dict[str, str]:
    """Code by version; the metric must say the same."""
    found = {one["version"]: one["code"] for one in (await client.get("/models")).json()["refused"]}
    text = (await client.get("/metrics")).text
    told = re.findall(r'^elbound_model_refused{.*model_version="(.*?)",reason="(.*?)"} 1', text, re.MULTILINE)
    assert dict(told) == found
    return found


async def post(client: httpx.AsyncClient, action: str, version: object = ...) -> httpx.Response:
    body = None if version is ... else {"version": version}
    return await client.post(f"/models/numbers/{action}", json=body)


def test_a_server_with_nothing_to_serve_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must be a folder"):
        create_app(Settings(models=str(tmp_path / "none")), [])


def test_the_newest_good_version_is_served_and_bad_ones_are_told(numeric_scorer: Scorer, tmp_path: Path) -> None:
    async def run() -> None:
        put(tmp_path, numeric_scorer, 0)
        put(tmp_path, numeric_scorer, 1)
        broken = put(tmp_path, numeric_scorer, 2, broken=True)
        wrong = tmp_path / "numbers" / version_at(3)
        as_version(numeric_scorer, "another").save(wrong)
        (tmp_path / "numbers" / version_at(4)).mkdir()
        (tmp_path / "numbers" / ".copying").mkdir()
        (tmp_path / "a file").write_text("")
        async with serving(tmp_path) as (client, state):
            assert await live(client) == version_at(1)
            assert (await client.get("/readyz")).status_code == 200
            bad = {broken: "bundle_corrupt", wrong.name: "bundle_misplaced", version_at(4): "bundle_missing"}
            assert await refused(client) == bad
            await look(state)  # what has not changed is not tried again
            swaps = state.metrics.registry.get_sample_value
            labels = {"model_name": "numbers", "result": "refused"}
            assert swaps("elbound_model_swaps_total", labels) == len(bad)
            shutil.rmtree(tmp_path / "numbers" / broken)
            put(tmp_path, numeric_scorer, 2)
            await look(state)
            assert await live(client) == version_at(2)
            assert broken not in await refused(client)
            listed = (await client.get("/models/numbers")).json()["store"]["versions"]
            assert [one["state"] for one in listed] == ["refused", "refused", "active", "there", "there"]

    asyncio.run(run())


def test_a_pin_is_obeyed_and_never_passed_over(numeric_scorer: Scorer, tmp_path: Path) -> None:
    async def run() -> None:
        for i in range(3):
            put(tmp_path, numeric_scorer, i, broken=i == 1)
        pin = tmp_path / "numbers" / "ACTIVE"
        async with serving(tmp_path) as (client, state):
            pin.write_text(version_at(0) + "\n")
            await look(state)
            assert await live(client) == version_at(0)
            for wanted, code in ((version_at(1), "bundle_corrupt"), ("../../etc", "version_missing")):
                pin.write_text(wanted)
                await look(state)
                assert await live(client) == version_at(0)
                assert (await refused(client))[wanted] == code
            pin.unlink()
            await look(state)
            assert await live(client) == version_at(2)
            assert "../../etc" not in await refused(client)
            shutil.rmtree(tmp_path / "numbers" / version_at(2))
            await look(state)
            assert await live(client) == version_at(2)  # never back to an older one by itself

    asyncio.run(run())


def test_a_start_waits_until_every_name_is_served_and_later_trouble_does_not_count(
    numeric_scorer: Scorer, tmp_path: Path
) -> None:
    async def run() -> None:
        put(tmp_path, numeric_scorer, 0)
        as_version(numeric_scorer, version_at(0), name="second").save(tmp_path / "second" / version_at(0))
        weights = tmp_path / "second" / version_at(0) / "weights.safetensors"
        whole = weights.read_bytes()
        weights.write_bytes(b"short")
        async with serving(tmp_path) as (client, state):
            assert (await client.get("/readyz")).status_code == 503
            assert (await client.post("/score?model=second", content=ROW, headers=JSON)).status_code == 404
            weights.write_bytes(whole)
            await look(state)
            assert (await client.get("/readyz")).status_code == 200
            (tmp_path / "third" / "x").mkdir(parents=True)
            await look(state)
            assert (await client.get("/readyz")).status_code == 200

    asyncio.run(run())


def test_a_store_that_vanishes_takes_nothing_with_it(numeric_scorer: Scorer, tmp_path: Path) -> None:
    async def run() -> None:
        root = tmp_path / "store"
        put(root, numeric_scorer, 0)
        async with serving(root) as (client, state):
            for gone in (root, root / "numbers"):
                gone.rename(tmp_path / "aside")
                await look(state)
                assert await live(client) == version_at(0)
                assert len((await client.get("/models")).json()["store_problems"]) == 1
                assert "elbound_store_unreadable 1.0" in (await client.get("/metrics")).text
                answer = await post(client, "activate", version_at(0))
                assert answer.status_code == (503 if gone == root else 404)
                (tmp_path / "aside").rename(gone)
                await look(state)
                assert (await client.get("/models")).json()["store_problems"] == []
                assert "elbound_store_unreadable 0.0" in (await client.get("/metrics")).text
            assert (await client.get("/readyz")).status_code == 200

    asyncio.run(run())


def test_a_bundle_that_is_replaced_while_it_loads_is_refused_and_then_served(
    numeric_scorer: Scorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = bundle_files.read_manifest
    replaced: list[Path] = []

    def replace(path: Path, trust: Trust) -> Any:
        manifest = plain(path, trust)
        if not replaced and path.name == version_at(1):
            replaced.append(path)
            other = as_version(numeric_scorer, version_at(1))
            other.manifest = other.manifest.model_copy(update={"metrics": {"new": 1.0}})
            other.golden = numeric_scorer.golden[:4]
            other.save(path, force=True)
        return manifest

    async def run() -> None:
        put(tmp_path, numeric_scorer, 0)
        async with serving(tmp_path) as (client, state):
            put(tmp_path, numeric_scorer, 1)
            monkeypatch.setattr(bundle_files, "read_manifest", replace)
            await look(state)
            assert replaced
            assert await live(client) == version_at(0)
            assert await refused(client) == {version_at(1): "bundle_corrupt"}
            await look(state)
            assert await live(client) == version_at(1)
            assert (await client.get("/models/numbers")).json()["metrics"] == {"new": 1.0}

    asyncio.run(run())


def test_a_bundle_that_crashes_the_loader_is_refused(
    numeric_scorer: Scorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object, **__: object) -> None:
        raise MemoryError("no room")

    async def run() -> None:
        put(tmp_path, numeric_scorer, 0)
        async with serving(tmp_path) as (client, state):
            put(tmp_path, numeric_scorer, 1)
            monkeypatch.setattr(opening.Scorer, "from_bundle", crash)
            await look(state)
            assert await refused(client) == {version_at(1): "load_failed"}
            assert await live(client) == version_at(0)

    asyncio.run(run())


def test_activate_and_roll_back_write_the_pin_and_a_restart_remembers(numeric_scorer: Scorer, tmp_path: Path) -> None:
    root, pin = tmp_path / "store", tmp_path / "store" / "numbers" / "ACTIVE"
    for i in range(4):
        put(root, numeric_scorer, i)

    async def run() -> None:
        async with serving(root, state_dir=str(tmp_path / "state")) as (client, _):
            for version in (version_at(0), version_at(2)):
                answer = await post(client, "activate", version)
                assert answer.json() == {"name": "numbers", "version": version, "pinned": version}
                assert (pin.read_text().strip(), await live(client)) == (version, version)
            assert (await post(client, "rollback")).json()["version"] == version_at(0)
        async with serving(root, state_dir=str(tmp_path / "state")) as (client, _):
            assert await live(client) == version_at(0)
            assert (await post(client, "rollback")).json()["version"] == version_at(3)
            changes = (await client.get("/models/numbers")).json()["store"]["changes"]
            assert [(one["version"], one["how"]) for one in changes] == [
                (version_at(3), "started"), (version_at(0), "activated"), (version_at(2), "activated"),
                (version_at(0), "rolled_back"), (version_at(3), "rolled_back"),
            ]  # fmt: skip
            assert (await post(client, "rollback")).json()["version"] == version_at(2)  # older; nothing else is known
            assert (await post(client, "activate", None)).json() == {
                "name": "numbers", "version": version_at(3), "pinned": None,
            }  # fmt: skip
            assert not pin.exists()

    asyncio.run(run())


def test_a_store_that_is_read_only_changes_nothing(
    numeric_scorer: Scorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    async def run() -> None:
        put(tmp_path, numeric_scorer, 0)
        put(tmp_path, numeric_scorer, 1)
        async with serving(tmp_path) as (client, _):
            monkeypatch.setattr(sources, "replace_file", read_only)
            for action, version in (("activate", version_at(0)), ("rollback", ...)):
                answer = await post(client, action, version)
                assert (answer.status_code, answer.json()["error"]["code"]) == (409, "store_read_only")
                assert await live(client) == version_at(1)

    asyncio.run(run())


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def store_server(start, key_file, numeric_scorer: Scorer, table_bundle: Path, root: Path):  # type: ignore[no-untyped-def]
    """A store of one version beside a bundle of its own."""
    put(root, numeric_scorer, 0)
    server = start(table_bundle, models=root, store_poll_s=1, api_keys_file=key_file(k=EVERYTHING), open_metrics=1)
    server.client.headers.update(KEY)
    return server


@pytest.mark.parametrize(
    ("action", "body", "status", "code"),
    [
        ("activate", {"version": "2020"}, 404, "version_not_found"),
        ("activate", {"version": "../numbers"}, 404, "version_not_found"),
        ("activate", {"version": "x\0"}, 404, "version_not_found"),
        ("activate", {"version": "x" * 10_000}, 413, "body_too_large"),
        ("activate", {"version": "x" * 1_000}, 400, "body_invalid"),
        ("activate", {"version": 3}, 400, "body_invalid"),
        ("activate", {"version": "x", "uri": "s3://bucket"}, 400, "body_invalid"),
        ("activate", [], 400, "body_invalid"),
        ("activate", None, 400, "body_invalid"),
        ("shadow", {"version": None}, 400, "body_invalid"),
        ("shadow", {"version": version_at(0)}, 409, "no_shadow"),
        ("rollback", None, 409, "nothing_to_roll_back_to"),
    ],
)
def test_wishes_that_cannot_be_met(store_server, action: str, body: object, status: int, code: str) -> None:  # type: ignore[no-untyped-def]
    answer = store_server.client.post(f"/models/numbers/{action}", content=orjson.dumps(body) if body else b"")
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


@pytest.mark.parametrize("name", ["..", "..%2f..", "%00", "nobody", "x" * 7_000, "numbers%2f", "ACTIVE"])
def test_names_that_are_none(store_server, name: str) -> None:  # type: ignore[no-untyped-def]
    for action in ("activate", "shadow"):
        url = f"{store_server.url}/models/{name}/{action}"
        answer = store_server.client.post(url, content=b'{"version": "x"}')
        assert answer.status_code == 404
        assert len(answer.text) < 500
    assert store_server.client.delete(f"{store_server.url}/models/{name}/shadow").status_code == 404


def test_a_bundle_of_its_own_has_no_versions(store_server) -> None:  # type: ignore[no-untyped-def]
    assert store_server.client.get("/models/rows").json()["store"] is None
    answer = store_server.client.post("/models/rows/rollback")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "not_in_store")


def test_a_model_is_unloaded_and_loaded_by_the_inference_protocol(numeric_scorer: Scorer, tmp_path: Path) -> None:
    async def run() -> None:
        put(tmp_path, numeric_scorer, 0)
        async with serving(tmp_path) as (client, state):

            async def change(action: str, name: str = "numbers") -> int:
                return (await client.post(f"/v2/repository/models/{name}/{action}")).status_code

            async def index() -> list[dict[str, str]]:
                found: list[dict[str, str]] = (await client.post("/v2/repository/index")).json()
                return found

            ready = {"name": "numbers", "version": version_at(0), "state": "READY", "reason": ""}
            assert await index() == [ready]
            assert await change("unload") == 200
            await look(state)
            assert (await client.post("/score", content=ROW, headers=JSON)).status_code == 404
            assert await index() == [{**ready, "state": "UNAVAILABLE", "reason": "unloaded"}]
            put(tmp_path, numeric_scorer, 1, broken=True)
            assert await change("load") == 200
            assert await live(client) == version_at(0)
            assert await change("load", "nobody") == await change("unload", "nobody") == 404
            assert await change("unload") == 200
            (tmp_path / "numbers" / version_at(0) / "weights.safetensors").unlink()
            assert await change("load") == 422
            (entry,) = await index()
            assert entry["state"] == "UNAVAILABLE"
            assert "weights.safetensors" in entry["reason"]

    asyncio.run(run())


def test_the_store_is_looked_at_again_and_again(store_server, numeric_scorer: Scorer, root: Path) -> None:  # type: ignore[no-untyped-def]
    """Last of those that share the server: it changes what is served."""
    version = put(root, numeric_scorer, 1)
    until = time.monotonic() + 30
    while store_server.score(ROW, "application/json", model="numbers").json()["model"]["version"] != version:
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_pipe_in_the_place_of_a_pin_keeps_nobody_waiting(store_server, root: Path) -> None:  # type: ignore[no-untyped-def]
    """After all others that share the server. Whoever opens a pipe waits for somebody at its other end."""
    os.mkfifo(root / "numbers" / "ACTIVE")
    until = time.monotonic() + 10  # it is looked at every second
    while not (problems := store_server.client.get("/models").json()["store_problems"]):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert problems == [f"{root}/numbers/ACTIVE cannot be read: it is not a regular file"]
    assert store_server.score(ROW, "application/json", model="numbers").status_code == 200
    store_server.process.send_signal(signal.SIGTERM)
    assert store_server.process.wait(15) == 0
    assert "stopped without waiting for the store" not in store_server.log.read_text()


def test_the_old_version_goes_with_its_last_request(numeric_scorer: Scorer, tmp_path: Path) -> None:
    """By its reference count alone: what is frozen the collector never sees."""
    rows = np.random.default_rng(0).normal(size=(600, 3))
    lines = [b"a,b,c\n", *(b"%r,%r,%r\n" % tuple(row) for row in rows.tolist())]
    half, rest = asyncio.Event(), asyncio.Event()

    async def upload() -> AsyncIterator[bytes]:
        yield b"".join(lines[:300])
        half.set()
        await rest.wait()
        yield b"".join(lines[300:])

    async def run() -> None:
        put(tmp_path, numeric_scorer, 0)
        async with serving(tmp_path) as (client, state):
            old = weakref.ref(state.registry.get("numbers").scorer)
            put(tmp_path, numeric_scorer, 1)
            csv = {"content-type": "text/csv", "accept": "application/x-ndjson"}
            stream = asyncio.create_task(client.post("/score", content=upload(), headers=csv))
            await half.wait()
            for headers, body in ((JSON, ROW), (JSON, ROW), ({"content-type": "text/csv"}, b"".join(lines))):
                assert (await client.post("/score?alpha=0.1", content=body, headers=headers)).status_code == 200
            await client.get("/models/numbers")
            await look(state)
            assert await live(client) == version_at(1)
            assert old() is not None
            rest.set()
            answer = await stream
            first, *items, last = [orjson.loads(line) for line in answer.text.splitlines()]
            assert (first["model"]["version"], last["summary"]["scored"]) == (version_at(0), 600)
            expected = numeric_scorer.score_tensor(numeric_scorer.to_tensor(rows).only()).score
            assert np.array([item["score"] for item in items]) == pytest.approx(expected, rel=1e-5)
            del stream, answer
            await asyncio.sleep(0)
            assert old() is None
            await asyncio.sleep(0)
            text = (await client.get("/metrics")).text
            assert version_at(0) not in text.replace(f'{version_at(0)}",result', "")
            counted = state.metrics.registry.get_sample_value
            labels = {"model_name": "numbers", "model_version": version_at(1), "verdict": "normal"}
            assert counted("elbound_items_scored_total", labels) == 1
            drift = (await client.get("/models/numbers/drift")).json()
            assert (drift["model"]["version"], drift["scores"]) == (version_at(1), 1)

    gc.collect()
    gc.disable()
    try:
        asyncio.run(run())
    finally:
        gc.enable()


def test_drift_goes_on_where_a_version_was_left(numeric_scorer: Scorer, tmp_path: Path) -> None:
    async def run() -> None:
        put(tmp_path / "store", numeric_scorer, 0)
        put(tmp_path / "store", numeric_scorer, 1)
        async with serving(tmp_path / "store", state_dir=str(tmp_path / "state")) as (client, _):
            for action, version, scores in (("activate", version_at(0), 1), ("activate", version_at(1), 2)):
                await live(client)
                assert (await post(client, action, version)).status_code == 200
                drift = (await client.get("/models/numbers/drift")).json()
                assert (drift["scores"], drift["lost"]) == (scores - 1, None)
        async with serving(tmp_path / "store", state_dir=str(tmp_path / "state")) as (client, _):
            assert (await client.get("/models/numbers/drift")).json()["scores"] == 1

    asyncio.run(run())


def test_the_document_follows_the_model(table_scorer: Scorer, numeric_scorer: Scorer, tmp_path: Path) -> None:
    async def run() -> None:
        put(tmp_path, numeric_scorer, 0)
        async with serving(tmp_path) as (client, state):
            assert b"site" not in (await client.get("/openapi.json")).content
            put(tmp_path, table_scorer, 1)
            await look(state)
            assert b"site" in (await client.get("/openapi.json")).content

    asyncio.run(run())


def test_a_model_that_is_loaded_later_has_as_many_workers(
    numeric_scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        cpu_workers.cache_clear()
        monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
        assert cpu_workers() == 7
        monkeypatch.undo()  # as a thread of the server, which has lowered it
        assert Detector(numeric_scorer.manifest.detector, numeric_scorer.schema).workers == 7
    finally:
        cpu_workers.cache_clear()


@given(st.text(max_size=120))
def test_a_name_is_one_step_of_a_path(text: str) -> None:
    if is_name(text):
        assert (Path("/store") / text).resolve().parent == Path("/store")
        assert not text.startswith(".")
        assert len(text) <= 100


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "a\0", "a\n", "x" * 101, "x" * 10_000, "Ä", ".hidden"])
def test_what_is_no_name_is_not_looked_for(tmp_path: Path, name: str) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert not is_name(name)
    assert LocalStore(tmp_path / "a").listing(name) is None


def test_versions_are_ordered_by_their_timestamps(tmp_path: Path) -> None:
    names = ["first", "2026-01-01T00-00-00Z-ffff", "2026-01-01T00-00-01Z-0000", "2027-01-01T00-00-00Z", "zz"]
    assert sorted(names, key=age) == ["first", "zz", *names[1:4]]


def test_a_pin_that_cannot_be_read_is_no_missing_pin(tmp_path: Path) -> None:
    (tmp_path / "m" / "v").mkdir(parents=True)
    assert LocalStore(tmp_path).listing("m") == Listing(("v",), None)
    (tmp_path / "m" / "ACTIVE").mkdir()
    with pytest.raises(StoreUnreadable, match="ACTIVE"):
        LocalStore(tmp_path).listing("m")


@given(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=30))
def test_rolling_back_leads_through_other_versions_to_the_first(visits: list[str]) -> None:
    trail, listing = Trail(), Listing(tuple("fedcba"))
    for version in visits:
        trail.go(version, "activated")
    assert len(set(trail.versions)) == len(trail.versions)
    assert (trail.versions[0], trail.versions[-1]) == (visits[0], visits[-1])
    seen = [visits[-1]]
    while len(trail.versions) > 1:
        before = trail.before(seen[-1], listing)
        assert before is not None
        trail.go(before, "rolled_back")
        seen.append(before)
    assert len(set(seen)) == len(seen)
    assert seen[-1] == visits[0]


def test_the_trail_is_bounded_and_survives_a_torn_file(tmp_path: Path) -> None:
    trail = Trail()
    for i in range(3 * MAX_KEPT):
        trail.go(str(i), "found")
    trail.save(tmp_path / "trail")
    assert Trail.read(tmp_path / "trail") == trail
    assert len(trail.versions) == len(trail.changes) == MAX_KEPT
    (tmp_path / "trail").write_text('{"versions": [')
    assert Trail.read(tmp_path / "trail") == Trail()
    trail.save(tmp_path / "none" / "trail")  # costs a warning and nothing else
