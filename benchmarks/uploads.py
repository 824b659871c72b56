"""Files over HTTP: the server's CPU time over the bare scorer's, its memory over a 2 GB CSV, and who waits meanwhile.

python -m benchmarks.uploads [--rounds N]
"""

import http.client
import io
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet
import torch

from benchmarks.serving import KEY, Server, fit_bundles
from benchmarks.tables import keep, rounds
from benchmarks.training import correlated
from elbound.scorer import Scorer

COLUMNS, ROWS, DEFAULT_ROWS = 32, 100_000, 20_000
ARROW = "application/vnd.apache.arrow.stream"
MOST = {"NPY": 1.4, "Parquet": 1.6, "CSV": 2.2}
TYPES = {"NPY": "application/x-npy", "Parquet": "application/vnd.apache.parquet", "CSV": "text/csv"}
TOLERANCE = 1e-5
GROWTH_MB, DIFFERENCE_MB, TAIL = 128, 32, 3
LATENCY_SECONDS, PAUSE_SECONDS = 8, 0.005


@contextmanager
def serving(bundle: Path, log: Path) -> Iterator[Server]:
    """`elbound serve` as it is, with a key and on a port of its own."""
    environ = {**os.environ, "ELBOUND_API_KEY": KEY}
    command = [sys.executable, "-m", "elbound", "serve", str(bundle), "--port", "0"]
    with log.open("wb") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=sink, env=environ)
    try:
        while not (found := re.search(r"listening on http://(\S+)", log.read_text())):
            if process.poll() is not None:
                raise RuntimeError(log.read_text())
            time.sleep(0.1)
        server = Server(process, f"http://{found[1]}")
        while not _ready(server):
            time.sleep(0.1)
        yield server
    finally:
        process.terminate()
        process.wait()


def _connect(server: Server) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=600)


def _ready(server: Server) -> bool:
    try:
        connection = _connect(server)
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False


def upload(server: Server, body: bytes | Iterator[bytes], media_type: str, sink: io.BytesIO | None = None) -> int:
    """Post `body`, in chunks where it comes in parts; the bytes of the answer, kept in `sink`. Raises RuntimeError."""
    connection = _connect(server)
    headers = {"authorization": f"Bearer {KEY}", "content-type": media_type, "accept": ARROW}
    connection.request("POST", "/score", body, headers, encode_chunked=not isinstance(body, bytes))
    answer = connection.getresponse()
    size = 0
    while data := answer.read(1 << 20):
        size += len(data)
        if sink is not None:
            sink.write(data)
    connection.close()
    if answer.status != 200:
        raise RuntimeError(f"{answer.status} to {media_type}")
    return size


def bodies_of(x: np.ndarray) -> dict[str, bytes]:
    """The same rows in each format."""
    table = pa.table({f"c{i}": column for i, column in enumerate(x.T)})
    packed, text, columns = io.BytesIO(), pa.BufferOutputStream(), pa.BufferOutputStream()
    np.save(packed, x)
    pyarrow.csv.write_csv(table, text)
    pyarrow.parquet.write_table(table, columns)
    return {
        "NPY": packed.getvalue(),
        "Parquet": columns.getvalue().to_pybytes(),
        "CSV": text.getvalue().to_pybytes(),
    }


@dataclass
class Cpu:
    """Seconds of CPU of the bare scorer and of the server for each format, one of each a round."""

    scorer: Scorer
    server: Server
    x: np.ndarray
    bare: list[float] = field(default_factory=list)
    of: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in TYPES})

    def __post_init__(self) -> None:
        self.tensor = torch.from_numpy(self.x)
        self.bodies = bodies_of(self.x)
        self.expected = self.scorer.score_tensor(self.tensor).score
        for name, body in self.bodies.items():
            sink = io.BytesIO()
            upload(self.server, body, TYPES[name], sink)
            found = pyarrow.ipc.open_stream(sink.getvalue()).read_all()["score"].to_numpy()
            if not np.allclose(found, self.expected, rtol=TOLERANCE, atol=TOLERANCE):
                raise RuntimeError(f"{name} has other scores than the bare scorer")

    def measure(self) -> None:
        """One round."""
        started = time.process_time()
        self.scorer.score_tensor(self.tensor)
        self.bare.append(time.process_time() - started)
        for name, body in self.bodies.items():
            before = self.server.cpu()
            upload(self.server, body, TYPES[name])
            self.of[name].append(self.server.cpu() - before)

    def lines(self, what: str, *, must: bool) -> list[list[str]]:
        """One line of the table a format: medians, and the median of the ratios of rounds."""
        bare = np.array(self.bare)
        return [
            [
                f"CPU of {len(self.x):,} rows as {name}, {what}, over the bare scorer",
                f"{np.median(seconds):.2f} s",
                f"{np.median(bare):.2f} s",
                f"{np.median(np.array(seconds) / bare):.2f}",
                f"{MOST[name]}" if must else "",
            ]
            for name, seconds in self.of.items()
        ]


def csv_text(size: int) -> Iterator[bytes]:
    """A CSV of about `size` bytes, made as it is sent."""
    header, _, block = bodies_of(correlated(2_000, COLUMNS))["CSV"].partition(b"\n")
    yield header + b"\n"
    for _ in range(size // len(block)):
        yield block


def growth_mb(server: Server, size: int) -> float:
    """By how much a CSV of `size` bytes raises the server's peak over what it held before, in MB."""
    process = Path(f"/proc/{server.process.pid}")
    (process / "clear_refs").write_text("5")
    before = _memory_kb(process, "VmRSS")
    upload(server, csv_text(size), "text/csv")
    return (_memory_kb(process, "VmHWM") - before) / 1024


def _memory_kb(process: Path, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", (process / "status").read_text(), re.MULTILINE)
    assert found
    return int(found[1])


def p99_ms(server: Server, bodies: list[bytes], seconds: float) -> float:
    """Of one-row requests, one after the other with a pause."""
    connection, taken, until = _connect(server), [], time.monotonic() + seconds
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    while time.monotonic() < until:
        started = time.perf_counter()
        connection.request("POST", "/score", bodies[len(taken) % len(bodies)], headers)
        answer = connection.getresponse()
        answer.read()
        taken.append(time.perf_counter() - started)
        if answer.status != 200:
            raise RuntimeError(f"{answer.status} to a small request")
        time.sleep(PAUSE_SECONDS)
    return float(np.percentile(taken, 99)) * 1e3


def p99_beside_an_upload(server: Server, bodies: list[bytes], rows: int) -> float:
    """The same while uploads of so many rows follow each other."""
    body, stop = bodies_of(correlated(rows, COLUMNS))["NPY"], threading.Event()

    def send() -> None:
        while not stop.is_set():
            upload(server, body, TYPES["NPY"])

    sender = threading.Thread(target=send)
    sender.start()
    time.sleep(0.3)
    found = p99_ms(server, bodies, LATENCY_SECONDS)
    stop.set()
    sender.join()
    return found


def waiting(server: Server, bodies: list[bytes], rows: int, what: str) -> list[str]:
    """The line of who waits beside an upload."""
    p99_ms(server, bodies, 1)
    alone, beside = p99_ms(server, bodies, LATENCY_SECONDS), p99_beside_an_upload(server, bodies, rows)
    return [
        f"p99 of one-row requests while a bulk upload runs, {what}, over without",
        f"{beside:.1f} ms",
        f"{alone:.1f} ms",
        f"{beside / alone:.2f}",
        f"{TAIL}",
    ]


def memory(folder: Path) -> list[list[str]]:
    """The lines of a small and a large CSV, each on a server of its own."""
    grown = []
    for gigabytes in (0.2, 2.0):
        with serving(folder / "bench", folder / "log") as server:
            upload(server, csv_text(10_000_000), "text/csv")
            grown.append(growth_mb(server, int(gigabytes * 1e9)))
    return [
        ["peak memory growth while a 0.2 GB CSV is scored", f"{grown[0]:.0f} MB", "", "", f"{GROWTH_MB} MB"],
        ["peak memory growth while a 2 GB CSV is scored", f"{grown[1]:.0f} MB", "", "", f"{GROWTH_MB} MB"],
        ["difference of the two", f"{abs(grown[1] - grown[0]):.0f} MB", "", "", f"{DIFFERENCE_MB} MB"],
    ]


def main() -> None:
    times = rounds("Measure uploads.", 5)
    lines = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bodies = fit_bundles(folder)
        for profile, rows, must in (("bench", ROWS, True), ("default", DEFAULT_ROWS, False)):
            what = "fast profile" if must else "default detector"
            with serving(folder / profile, folder / "log") as server:
                cpu = Cpu(Scorer.from_bundle(folder / profile), server, correlated(rows, COLUMNS))
                for _ in range(times):
                    cpu.measure()
                lines += cpu.lines(what, must=must)
                lines.append(waiting(server, bodies, 4 * rows, what))
        lines += memory(folder)
    keep(
        "uploads",
        "Files over HTTP",
        ["uploads of 32 numbers a row, answered as Arrow", "ours", "other", "ratio", "at most"],
        lines,
        f"Medians of {times} alternating rounds on the same machine; ratios are medians of the rounds' ratios. CPU is "
        "that of the server's process tree, key check, metrics and drift on; the bare scorer is "
        "`Scorer.score_tensor`, in chunks on all cores, of the same rows in memory. Scores were checked to be those "
        "of the bare scorer. The CSV of 2 GB is made as it is sent, in chunks, and its answer read as it comes; "
        "growth is that of the peak over what was held before, on a fresh server that had scored 10 MB.",
    )  # fmt: skip


if __name__ == "__main__":
    main()
