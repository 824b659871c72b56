"""What an attack does to a server and to an honest caller beside it: memory of all its processes, CPU, latencies."""

import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np

from tests.service.conftest import Server

EVERY_S = 0.1
ROW = b"[[1,2,3]]"
HEADING = f"{'':44}|  peak MB |  CPU s | /healthz p99, worst ms | a row p99, worst ms | seconds"


@dataclass
class Watch:
    """All that was seen while an attack went on."""

    name: str
    peak_mb: float = 0.0
    cpu_s: float = 0.0
    took_s: float = 0.0
    healthz_ms: list[float] = field(default_factory=list)
    row_ms: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        health, row = (
            f"{np.percentile(found, 99):12.0f} {max(found):9.0f}" if found else f"{'':22}"
            for found in (self.healthz_ms, self.row_ms)
        )
        return f"{self.name[:43]:44}| {self.peak_mb:8.0f} | {self.cpu_s:6.1f} | {health} | {row} | {self.took_s:7.1f}"


def family(pid: int) -> list[int]:
    """A process and all that it started."""
    found = [pid]
    for one in found:
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            with suppress(OSError):
                found += map(int, task.read_text().split())
    return found


def memory_mb(pid: int) -> float:
    """What a process and its children hold, shared memory counted once (the proportional set size)."""
    total = 0
    for one in family(pid):
        with suppress(OSError):
            text = Path(f"/proc/{one}/smaps_rollup").read_text()
            total += int(re.search(r"^Pss:\s+(\d+)", text, re.MULTILINE)[1])  # type: ignore[index]
    return total * 1024 / 1e6


def cpu_s(pid: int) -> float:
    """CPU time of a process, its children, and those of them that have ended."""
    total = 0
    for one in family(pid):
        with suppress(OSError):
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            total += sum(map(int, fields[11:15]))
    return total / os.sysconf("SC_CLK_TCK")


@contextmanager
def watching(server: Server, name: str, headers: dict[str, str] | None = None) -> Iterator[Watch]:
    """Sample memory, ask for `/healthz` and score a row all the while."""
    watch, stop = Watch(name), threading.Event()
    pid = server.process.pid
    begun, cpu_before = time.monotonic(), cpu_s(pid)

    def every(do: Callable[[httpx.Client], None]) -> None:
        with httpx.Client(base_url=server.url, timeout=30, headers=headers) as client:
            while not stop.is_set():
                try:
                    do(client)
                except (httpx.HTTPError, AssertionError) as error:
                    watch.failures.append(repr(error))
                stop.wait(EVERY_S)

    def timed(found: list[float], ask: Callable[[], httpx.Response]) -> None:
        started = time.perf_counter()
        answer = ask()
        found.append(1e3 * (time.perf_counter() - started))
        assert answer.status_code == 200, answer.text[:300]

    def sample(_: httpx.Client) -> None:
        watch.peak_mb = max(watch.peak_mb, memory_mb(pid))

    def health(client: httpx.Client) -> None:
        timed(watch.healthz_ms, lambda: client.get("/healthz"))

    def row(client: httpx.Client) -> None:
        stated = {"content-type": "application/json"}
        timed(watch.row_ms, lambda: client.post("/score", content=ROW, params={"model": "numbers"}, headers=stated))

    threads = [threading.Thread(target=every, args=(do,)) for do in (sample, health, row)]
    for thread in threads:
        thread.start()
    try:
        yield watch
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        watch.took_s = time.monotonic() - begun
        watch.cpu_s = cpu_s(pid) - cpu_before
