"""What an abuse does to a server: memory, how fast `/healthz` answers, connections that stay open."""

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.service.conftest import Server

HEADING = f"{'':44}| RSS before, once, twice, peak (MB)  | /healthz before, worst, after ms   | connections: the same"


@dataclass(frozen=True)
class Vitals:
    """Resident memory and its highest so far, a usual `/healthz`, open connections beside our own."""

    rss_mb: float
    peak_mb: float
    healthz_ms: float
    connections: int

    @classmethod
    def of(cls, server: Server) -> "Vitals":
        taken = sorted(healthz_ms(server.url) for _ in range(5))
        status = Path(f"/proc/{server.process.pid}/status").read_text()
        rss, peak = (int(re.search(rf"{name}:\s+(\d+) kB", status)[1]) / 1024 for name in ("VmRSS", "VmHWM"))  # type: ignore[index]
        return cls(rss, peak, taken[2], open_connections(server))


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    before: Vitals
    once: Vitals
    twice: Vitals
    probe: "Probe"

    def __str__(self) -> str:
        before, once, twice, probe = self.before, self.once, self.twice, self.probe
        memory = f"{before.rss_mb:8.0f} {once.rss_mb:8.0f} {twice.rss_mb:8.0f} {twice.peak_mb:8.0f}"
        health = f"{before.healthz_ms:10.1f} {probe.worst_ms:11.1f} {twice.healthz_ms:11.1f}"
        connections = f"{before.connections:9} {probe.most_connections:9} {twice.connections:9}"
        return f"{self.name[:43]:44}| {memory} | {health} | {connections}"


@dataclass
class Probe:
    """The slowest `/healthz` and the most connections while something else goes on."""

    worst_ms: float = 0.0
    most_connections: int = 0
    failures: list[str] = field(default_factory=list)


def healthz_ms(url: str) -> float:
    started = time.perf_counter()
    assert httpx.get(f"{url}/healthz", timeout=20).status_code == 200
    return 1e3 * (time.perf_counter() - started)


def open_connections(server: Server) -> int:
    """Those beside the one that asks; the server's own client keeps none."""
    text = httpx.get(f"{server.url}/metrics", timeout=20).text
    found = re.search(r"^elbound_connections (\S+)$", text, re.MULTILINE)
    assert found is not None
    return int(float(found[1])) - 1


def forget_peak(server: Server) -> None:
    """Let the highest memory be counted from here on."""
    Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")


def wait_for_rest(server: Server, connections: int, *, seconds: float = 15) -> None:
    """Until no more connections are open than before."""
    until = time.monotonic() + seconds
    while open_connections(server) > connections and time.monotonic() < until:
        time.sleep(0.2)


@contextmanager
def probing(server: Server, every_s: float = 0.1) -> Iterator[Probe]:
    """Ask for `/healthz` all the while, from a connection of its own each time."""
    probe, stop = Probe(), threading.Event()

    def ask() -> None:
        while not stop.wait(every_s):
            try:
                probe.worst_ms = max(probe.worst_ms, healthz_ms(server.url))
                probe.most_connections = max(probe.most_connections, open_connections(server))
            except (httpx.HTTPError, AssertionError) as error:
                probe.failures.append(repr(error))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield probe
    finally:
        stop.set()
        thread.join()
