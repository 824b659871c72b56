"""`elbound score --engine ray` on real clusters: the same parts, whoever is killed, and no process left."""

import importlib.util
import os
import random
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from elbound.errors import ConfigError, MissingExtra
from tests.conftest import mixed_table
from tests.elbound.data.test_streams import write
from tests.forked import ENVIRON
from tests.training.test_bulk import PIECE, inputs, part_bytes, part_rows, rows, score
from training.score.command import choose_cluster
from training.score.parts import SUCCESS

pytestmark = pytest.mark.slow

__all__ = ["inputs"]

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is missing: extra `ray`")
KILLS = 2
HAVE_TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
SECONDS = 60.0
OURS = re.compile(r"\d+ workers on Ray, cpu; |scored |[\d,]+ items: ")
RUN = """
import signal, sys
from pathlib import Path
from elbound.errors import ElboundError
from training.score.command import Output, choose_cluster, score_files
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
bundle, out, piece_items, partition, address, *paths = sys.argv[1:]
cluster = choose_cluster("ray", address or None)
output = Output.choose(out, kind=None, resume=Path(out).is_dir(), partition=partition)
paths = [Path(path) for path in paths]
try:
    score_files(Path(bundle), paths, output, device="cpu", piece_items=int(piece_items), cluster=cluster)
except ElboundError as error:
    sys.exit(f"error: {error.message}")
"""


def start(
    bundle: Path, out: Path, paths: list[Path], *, partition: str = "0/1", address: str = ""
) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", RUN, bundle, f"{out}/", PIECE, partition, address, *paths]
    environ = {name: value for name, value in ENVIRON.items() if not name.startswith("RAY_")}
    environ |= HAVE_TOKEN if address else {}
    return subprocess.Popen(
        [*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environ
    )


def finish(process: "subprocess.Popen[str]") -> str:
    """What it printed: lines of ours, and nothing of Ray's own."""
    said = process.communicate(timeout=SECONDS)[0]
    assert process.returncode == 0, said
    assert all(OURS.match(line) for line in said.splitlines()), said
    return said


def until(reached: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.002)


def children(pid: int) -> Iterator[tuple[int, str]]:
    """Number and command line of every process that `pid` started, or one of those."""
    for folder in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            if folder.name.isdigit() and int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                yield int(folder.name), (folder / "cmdline").read_text().replace("\0", " ")
                yield from children(int(folder.name))


@pytest.fixture(scope="module")
def cluster() -> Iterator[tuple[int, str]]:
    """The process that started a cluster of one CPU, and its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=1"]
    command += ["--include-dashboard=false", "--disable-usage-stats", f"--object-store-memory={1 << 27}"]
    command += ["--node-ip-address=127.0.0.1", f"--port={address.split(':')[1]}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRON | HAVE_TOKEN)
    try:
        until(lambda: any("raylet" in line for _, line in children(process.pid)))
        yield process.pid, address
    finally:
        for pid in (*(pid for pid, _ in children(process.pid)), process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait(SECONDS)


@needs_ray
def test_whoever_is_killed_nothing_is_lost_or_doubled(
    table_bundle: Path, inputs: list[Path], tmp_path: Path, cluster: tuple[int, str]
) -> None:
    """First the command is killed, then its worker while it goes on; another partition is done here."""
    paths = [*inputs, *(write(mixed_table(1_000, seed=5), tmp_path / f"t.{suffix}") for suffix in ("csv", "parquet"))]
    score(table_bundle, paths, f"{tmp_path}/whole/")
    whole = part_bytes(tmp_path / "whole")
    out, draw = tmp_path / "parts", random.Random(0)
    score(table_bundle, paths, f"{out}/", partition="0/2")

    def reach(parts: int) -> set[int]:
        """The workers once there are so many more parts."""
        goal = len(part_bytes(out)) + parts
        until(lambda: len(part_bytes(out)) >= goal)
        return {pid for pid, line in children(cluster[0]) if line.startswith("ray::MapWorker")}

    with start(table_bundle, out, paths, partition="1/2", address=cluster[1]) as process:
        orphans = reach(draw.randrange(1, 8))
        process.kill()
    assert orphans
    until(lambda: not any(map(is_alive, orphans)))
    missing = whole.keys() - part_bytes(out).keys()
    process = start(table_bundle, out, paths, partition="1/2", address=cluster[1])
    for _ in range(KILLS):
        for worker in reach(draw.randrange(1, 8)):
            os.kill(worker, signal.SIGKILL)
    said = finish(process)
    assert "1 workers on Ray, cpu; its logs are in " in said
    items = sum(len(rows(out / name)) for name in missing)
    assert f"\n{items:,} items: " in said
    assert "; all 2,402 items are in " in said
    assert part_bytes(out) == whole
    assert (out / SUCCESS).read_bytes() == (tmp_path / "whole" / SUCCESS).read_bytes()
    assert [(row["file"], row["index"]) for row in part_rows(out)][402:] == [
        (str(path), i) for path in paths[-2:] for i in range(1_000)
    ]


@needs_ray
def test_ctrl_c_leaves_no_process_and_the_rest_is_done_here(
    table_bundle: Path, inputs: list[Path], tmp_path: Path
) -> None:
    """On a cluster that is started for the run."""
    score(table_bundle, inputs, f"{tmp_path}/whole/")
    out = tmp_path / "parts"
    with start(table_bundle, out, inputs) as process:
        until(lambda: len(part_bytes(out)) >= 3)
        started = {pid for pid, _ in children(process.pid)}
        process.send_signal(signal.SIGINT)
    assert len(started) > 3
    until(lambda: not any(map(is_alive, started)))
    score(table_bundle, inputs, f"{out}/", resume=True)
    assert part_bytes(out) == part_bytes(tmp_path / "whole")
    assert (out / SUCCESS).read_bytes() == (tmp_path / "whole" / SUCCESS).read_bytes()


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "training.score.cluster", None)  # type: ignore[arg-type]
    with pytest.raises(MissingExtra, match=r"--engine ray needs Ray: pip install 'elbound\[ray\]'"):
        choose_cluster("ray", None)


def test_options_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"--engine must be one of local, ray\. Got 'spark' instead"):
        choose_cluster("spark", None)
    with pytest.raises(ConfigError, match="--ray-address is for --engine ray"):
        choose_cluster("local", "auto")
    assert choose_cluster("local", None) is None


@needs_ray
def test_a_cluster_that_is_not_there_is_told_at_once() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(ConfigError, match=f"--ray-address: nothing answers at {address}: "):
            choose_cluster("ray", address)
    for address in ("ray://head:10001", "head", "head:", ":6379"):
        with pytest.raises(ConfigError, match=f"--ray-address must be HOST:PORT .* Got '{address}' instead"):
            choose_cluster("ray", address)


@needs_ray
def test_workers_are_as_many_as_the_cluster_bears() -> None:
    from training.score.cluster import Workers

    for device, resources, expected in (
        ("auto", {"CPU": 8.0}, Workers(8, "cpu")),
        ("auto", {"CPU": 16.0, "GPU": 2.0}, Workers(8, "cuda", 0.25)),
        ("cuda", {"CPU": 6.0, "GPU": 3.0}, Workers(6, "cuda", 0.5)),
        ("auto", {"CPU": 2.0, "GPU": 4.0}, Workers(4, "cuda", 1.0)),
        ("cpu", {"CPU": 16.0, "GPU": 2.0}, Workers(16, "cpu")),
        ("auto", {"memory": 1.0}, Workers(1, "cpu")),
    ):
        assert Workers.choose(device, resources) == expected
    with pytest.raises(ConfigError, match="no node of the Ray cluster has a GPU"):
        Workers.choose("cuda", {"CPU": 8.0})
    with pytest.raises(ConfigError, match="--device must be auto, cpu or cuda"):
        Workers.choose("tpu", {"CPU": 8.0})
