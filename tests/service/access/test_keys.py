"""The key file: what is taken, what is refused and how, what a change does to keys in use, and new keys."""

import asyncio
import hashlib
import os
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elbound.errors import ConfigError
from service.access.issue import issue_key
from service.access.keys import ApiKey, KeyRing, parse_keys
from service.errors import Unauthorized

DIGEST = hashlib.sha256(b"k").hexdigest()
GOOD = {"name": "k", "sha256": DIGEST, "scopes": ["score"]}


def request(*authorizations: bytes) -> dict[str, object]:
    return {"headers": [(b"host", b"x"), *((b"authorization", value) for value in authorizations)]}


def identify(ring: KeyRing, key: str) -> ApiKey | None:
    try:
        return ring.identify(request(b"Bearer " + key.encode()))
    except Unauthorized:
        return None


def document(*entries: object) -> bytes:
    return orjson.dumps({"keys": list(entries)})


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "Invalid JSON"),
        (b"\xff\x00", "Invalid JSON"),
        (b"[" * 100_000, "Invalid JSON"),
        (b"[]", "the document"),
        (b'{"keys": 3}', "keys: "),
        (document(GOOD)[:-3], "Invalid JSON"),
        (document({**GOOD, "sha256": DIGEST[:-1]}), "keys.0.sha256"),
        (document({**GOOD, "sha256": DIGEST.upper()}), "keys.0.sha256"),
        (document({**GOOD, "scopes": ["score", "write"]}), "keys.0.scopes.1"),
        (document({**GOOD, "scopes": []}), "keys.0.scopes"),
        (document({**GOOD, "name": "../../etc"}), "keys.0.name"),
        (document({**GOOD, "name": "a\x00"}), "keys.0.name"),
        (document({**GOOD, "name": "a\n"}), "keys.0.name"),
        (document({**GOOD, "rows_per_s": 0}), "keys.0.rows_per_s"),
        (document({**GOOD, "rows_per_s": "5"}), "keys.0.rows_per_s"),
        (document({**GOOD, "burst_rows": -1}), "keys.0.burst_rows"),
        (document({**GOOD, "key": "opensesame"}), "keys.0.key"),
        (document(GOOD, {**GOOD, "name": "other"}), "two keys have the same sha256"),
        (document(GOOD, {**GOOD, "sha256": "0" * 64}), "two keys have the same name"),
    ],
)
def test_a_bad_file_is_refused_by_name_and_place_and_never_quoted(data: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(data)
    with pytest.raises(ConfigError) as told:
        KeyRing(path)
    assert str(path) in told.value.message
    assert said in told.value.message
    assert "opensesame" not in told.value.message
    assert DIGEST not in told.value.message


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing", tmp_path / ("n" * 10_000), Path("/a\x00b")):
        with pytest.raises(ConfigError, match="the key file"):
            KeyRing(path)


JSON = st.recursive(
    st.none() | st.text() | st.integers(0, 9), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)


@given(data=st.binary(max_size=200) | JSON.map(lambda value: document(value)) | JSON.map(orjson.dumps))
@settings(max_examples=100)
def test_any_bytes_are_an_error_of_the_file(data: bytes) -> None:
    if data != document():
        with pytest.raises(ConfigError, match=r"the key file keys\.json cannot be used: "):
            parse_keys(data, Path("keys.json"))


def test_a_key_is_found_by_its_digest_alone(tmp_path: Path, key_file) -> None:
    ring = KeyRing(key_file(k={}))
    found = identify(ring, "k")
    assert found is not None
    assert (found.name, found.scopes) == ("k", {"score", "read"})
    assert ring.identify(request(b"bEaReR  k ")) is found
    for wrong in (b"Bearer K", b"Bearer", b"Bearer " + DIGEST.encode(), b"Basic k", b"k", b"", b"Bearer \xff\xfe"):
        with pytest.raises(Unauthorized):
            ring.identify(request(wrong))
    for several in ((), (b"Bearer k", b"Bearer k")):
        with pytest.raises(Unauthorized):
            ring.identify(request(*several))


def test_a_change_of_the_file_is_a_change_of_the_keys(key_file) -> None:
    path = key_file(kept={"rows_per_s": 1}, gone={}, less={"scopes": ["score", "admin"]}, more={"scopes": ["score"]})
    ring = KeyRing(path)
    before = {name: identify(ring, name) for name in ("kept", "gone", "less", "more")}
    before["kept"].quota.charge(1000)
    key_file(path, kept={"rows_per_s": 2}, less={"scopes": ["admin"]}, more={}, new={})
    asyncio.run(ring.refresh())
    after = {name: identify(ring, name) for name in (*before, "new")}
    assert after["kept"] is before["kept"]
    assert after["kept"].quota.debt_s == pytest.approx(999 / 2, rel=0.01)
    assert (after["gone"], before["gone"].withdrawn.is_set()) == (None, True)
    assert (after["less"].scopes, before["less"].withdrawn.is_set()) == ({"admin"}, True)
    assert not after["less"].withdrawn.is_set()
    assert (after["more"].scopes, before["more"].withdrawn.is_set()) == ({"score", "read"}, False)
    assert after["new"] is not None


def test_a_revoked_key_is_refused_within_a_second_whatever_else_waits_for_threads(key_file) -> None:
    path = key_file(kept={}, gone={})
    ring = KeyRing(path)
    free = threading.Event()

    async def revoke() -> float:
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(4))
        blocked = [asyncio.create_task(asyncio.to_thread(free.wait, 10)) for _ in range(20)]
        watching = asyncio.create_task(ring.watch(stopping))
        await asyncio.sleep(0.05)  # it has looked once
        key_file(path, kept={})
        started = time.monotonic()
        while identify(ring, "gone") is not None and time.monotonic() - started < 5:
            await asyncio.sleep(0.01)
        seconds = time.monotonic() - started
        free.set()
        stopping.set()
        await asyncio.gather(watching, *blocked)
        return seconds

    assert asyncio.run(revoke()) < 1
    assert identify(ring, "kept") is not None


def test_a_broken_file_keeps_the_keys_is_told_once_and_heals(key_file, caplog: pytest.LogCaptureFixture) -> None:
    path, errors = key_file(k={}), []
    ring = KeyRing(path, lambda: errors.append(1))

    def refresh() -> None:
        asyncio.run(ring.refresh())

    path.write_bytes(b'{"keys": [')
    for _ in range(3):
        refresh()
    assert (len(errors), identify(ring, "k").name) == (1, "k")
    path.unlink()
    for _ in range(3):
        refresh()
    assert (len(errors), identify(ring, "k").name) == (2, "k")
    assert caplog.text.count("the keys read before hold on") == 2
    key_file(path, k={"scopes": ["admin"]})
    refresh()
    assert identify(ring, "k").scopes == {"admin"}
    path.write_bytes(b'{"keys": []}')
    refresh()
    assert identify(ring, "k") is None
    assert len(errors) == 2


def test_a_secret_as_kubernetes_mounts_it_is_followed(key_file, tmp_path: Path) -> None:
    """keys.json -> ..data/keys.json, and ..data -> a folder of its own for each version, replaced by a rename."""
    for version, name in (("..1", "old"), ("..2", "new")):
        (tmp_path / version).mkdir()
        key_file(tmp_path / version / "keys.json", **{name: {}})
        os.utime(tmp_path / version / "keys.json", ns=(10**18, 10**18))
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "keys.json").symlink_to("..data/keys.json")
    ring = KeyRing(tmp_path / "keys.json")
    assert identify(ring, "old")
    (tmp_path / "..next").symlink_to("..2")
    (tmp_path / "..next").rename(tmp_path / "..data")
    asyncio.run(ring.refresh())
    assert (identify(ring, "old"), identify(ring, "new").name) == (None, "new")


def make(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "elbound", "keys", "new", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, **environ})


def test_the_command_prints_a_key_once_and_keeps_its_digest(tmp_path: Path) -> None:
    path = tmp_path / "secrets" / "keys.json"
    flags = ("--scope", "score", "--scope", "read", "--rows-per-s", "5")
    made = make("--name", "line-3", *flags, ELBOUND_API_KEYS_FILE=str(path))
    assert made.returncode == 0, made.stderr
    key = made.stdout.strip()
    assert len(key) > 40
    assert key not in path.read_text() + made.stderr
    assert (stat.S_IMODE(path.stat().st_mode), stat.S_IMODE(path.parent.stat().st_mode)) == (0o600, 0o700)
    found = identify(KeyRing(path), key)
    assert (found.name, found.scopes, found.quota.rows_per_s) == ("line-3", {"score", "read"}, 5)
    again = make("--name", "line-3", "--scope", "admin", "--file", str(path))
    assert (again.returncode, again.stdout) == (1, "")
    assert "two keys have the same name" in again.stderr
    unknown = make("--name", "x", "--scope", "root", "--file", str(path))
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert "scopes" in unknown.stderr
    assert "Traceback" not in again.stderr + unknown.stderr
    assert identify(KeyRing(path), key).scopes == {"score", "read"}


def issue(path: Path, name: str) -> str:
    return issue_key(path, name=name, scopes=["score"], rows_per_s=None, burst_rows=None)


def test_many_who_add_keys_at_once_lose_none(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda i: issue(path, f"k{i}"), range(24)))
    ring = KeyRing(path)
    assert [identify(ring, key).name for key in keys] == [f"k{i}" for i in range(24)]
    assert [found.name for found in tmp_path.iterdir()] == ["keys.json"]


def test_a_broken_file_is_not_written_over_and_its_mode_and_link_stay(tmp_path: Path) -> None:
    path, link = tmp_path / "keys.json", tmp_path / "link"
    path.write_bytes(b"{")
    with pytest.raises(ConfigError, match="Invalid JSON"):
        issue(path, "a")
    assert path.read_bytes() == b"{"
    path.write_bytes(b'{"keys": []}')
    path.chmod(0o640)
    link.symlink_to("keys.json")
    key = issue(link, "a")
    assert link.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert identify(KeyRing(path), key).name == "a"
    with pytest.raises(ConfigError, match="cannot be written"):
        issue(Path("/proc/nowhere/keys.json"), "a")
