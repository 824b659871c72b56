"""A bulk run that is killed at any moment and continued leaves what an undisturbed one leaves; memory is bounded."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from elbound.data.infer import infer_schema
from elbound.fit.detector import DetectorConfig, fit_detector
from tests.conftest import mixed_table
from tests.elbound.data.test_streams import write
from tests.forked import ENVIRON
from tests.training.test_bulk import part_bytes, part_rows, score
from training.score.parts import SUCCESS

pytestmark = pytest.mark.slow

KILLS = 10
PIECE, ROWS = 25, 2_000
RUN = """
import os, sys
from pathlib import Path
from training.score.command import Output, score_files
bundle, out, piece_items, *paths = sys.argv[1:]
def attempt():
    output = Output.choose(out, kind=None, resume=Path(out).is_dir(), partition=None)
    score_files(Path(bundle), [Path(path) for path in paths], output, device="cpu", piece_items=int(piece_items))
"""
ATTEMPTS = """
while True:
    child = os.fork()
    if child == 0:
        attempt()
        os._exit(0)
    print(child, flush=True)
    if os.waitpid(child, 0)[1] == 0:
        break
"""
MEMORY = """
attempt()
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print("peak", int(status["VmHWM"].split()[0]) // 1024)
"""
"""Peak memory in MiB; `getrusage` would count that of the process which started this one."""


def start(code: str, *arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", RUN + code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRON)


def kill_after(child: int, out: Path, parts: int, delay: float) -> None:
    """Kill a run at a moment after it has left so many more parts; it may come to its end before."""
    until = time.monotonic() + 30
    goal = len(part_bytes(out)) + parts
    while len(part_bytes(out)) < goal and time.monotonic() < until:
        time.sleep(0.002)
    time.sleep(delay)
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)


def test_a_run_that_is_killed_again_and_again_loses_and_doubles_nothing(table_bundle: Path, tmp_path: Path) -> None:
    suffixes = ("csv", "parquet")
    paths = [write(mixed_table(ROWS, seed=5), tmp_path / f"t.{suffix}") for suffix in suffixes]
    score(table_bundle, paths, f"{tmp_path}/whole/", PIECE)
    out = tmp_path / "parts"
    draw = random.Random(0)
    kills = -1
    # One process imports everything once and forks each attempt, so that a kill falls into the work itself.
    with start(ATTEMPTS, table_bundle, f"{out}/", PIECE, *paths) as process:
        assert process.stdout is not None
        children = (int(line) for line in process.stdout if line.strip().isdigit())
        for kills, child in enumerate(children):
            if kills < KILLS:
                kill_after(child, out, draw.randrange(5), draw.uniform(0, 0.02))
    assert process.returncode == 0
    assert kills == KILLS
    assert part_bytes(out) == part_bytes(tmp_path / "whole")
    found = [(row["file"], row["index"]) for row in part_rows(out)]
    assert found == [(str(path), i) for path in paths for i in range(ROWS)]
    assert json.loads((out / SUCCESS).read_text()) == json.loads((tmp_path / "whole" / SUCCESS).read_text())
    assert not list(out.rglob(".*"))


@pytest.mark.parametrize(("suffix", "out"), [("csv", "r.parquet"), ("parquet", "parts/")])
def test_ten_times_the_rows_take_about_the_same_memory(tmp_path: Path, suffix: str, out: str) -> None:
    """90,000 more rows with names of 1,000 bytes, 86 MiB in a file and as much again in results, may cost 100 MiB.

    That is for what is read ahead, and for allocators.
    """
    names = [f"{i:01000d}" for i in range(10_000)]
    table = mixed_table(10_000).append_column("name", pa.array(names))
    schema = infer_schema(table.slice(0, 600), id_column="name").schema
    config = DetectorConfig(name="fast", alpha=0.05, device="cpu", steps=5, profile="fast")
    fit_detector(table.slice(0, 600), schema, config).save(tmp_path / "bundle")
    peaks = []
    for times in (1, 10):
        path, target = tmp_path / f"t{times}.{suffix}", tmp_path / f"{times}"
        target.mkdir()
        whole = pa.concat_tables([table] * times)
        (pyarrow.csv.write_csv if suffix == "csv" else pyarrow.parquet.write_table)(whole, path)
        with start(MEMORY, tmp_path / "bundle", f"{target}/{out}", 4_096, path) as process:
            assert process.stdout is not None
            lines = process.stdout.read().splitlines()
        assert process.returncode == 0
        assert f"{10_000 * times:,} items" in "".join(lines)
        peaks.append(int(lines[-1].split()[1]))
    assert peaks[1] - peaks[0] < 100, peaks
