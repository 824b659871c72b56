"""The record: one JSON line a job, appended as it comes, so that a later run goes on where one was stopped."""

import datetime
import json
import platform
import subprocess
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.detection.task import Job
from benchmarks.tables import hardware

Line = dict[str, Any]
PACKAGES = ("elbound", "torch", "numpy", "scikit-learn", "pyod")


class Record:
    """Lines of `path`. Where two are of one job, the later one counts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines = _read(path)

    def is_done(self, job: Job) -> bool:
        """Measured: failures are tried again."""
        line = next((line for line in reversed(self.lines) if key_of(line) == job.key), None)
        return line is not None and "failed" not in line

    def append(self, job: Job, found: Line, origin: Line) -> Line:
        """Write one line and flush it."""
        line = {"part": job.part, "set": job.set, "seed": job.seed, "method": job.method, "limit": job.limit}
        line |= found | origin
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        self.lines.append(line)
        return line

    def forget(self, jobs: Iterable[Job]) -> None:
        """Drop the lines of these jobs."""
        keys = {job.key for job in jobs}
        self.lines = [line for line in self.lines if key_of(line) not in keys]
        if self.path.exists():
            written = self.path.with_suffix(".part")
            written.write_text("".join(json.dumps(line) + "\n" for line in self.lines))
            written.replace(self.path)

    def latest(self) -> list[Line]:
        """One line for each part, set, seed and method: the last that was measured, else the last failure."""
        kept: dict[tuple[object, ...], Line] = {}
        for line in self.lines:
            key = key_of(line)[:4]
            if "failed" not in line or "failed" in kept.get(key, line):
                kept[key] = line
        return list(kept.values())


def key_of(line: Line) -> tuple[str, str, int, str, int]:
    """The key of the job that a line is of."""
    return line["part"], line["set"], line["seed"], line["method"], line["limit"]


def origin() -> Line:
    """When, where and by which code: commit (with `+` where the code is not as committed), hardware, versions."""
    return {
        "date": str(datetime.date.today()),
        "commit": _commit(),
        "hardware": hardware(),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
    }


def _commit() -> str:
    commit = _git("rev-parse", "--short", "HEAD") or "unknown"
    return commit + ("+" if _git("status", "--porcelain", "--", "elbound", "benchmarks/detection") else "")


def _git(*words: str) -> str:
    root = Path(__file__).parents[2]
    return subprocess.run(["git", *words], capture_output=True, text=True, check=False, cwd=root).stdout.strip()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def _read(path: Path) -> list[Line]:
    """The lines of a record; a last one that was torn by a kill is dropped, from the file too."""
    if not path.exists():
        return []
    text = path.read_text()
    whole, _, torn = text.rpartition("\n")
    if torn:
        path.write_text(whole + "\n" if whole else "")
    return [json.loads(line) for line in whole.splitlines()]
