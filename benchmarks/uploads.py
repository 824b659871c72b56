"""Files over HTTP: the server's CPU time over the bare scorer's, and its memory over a 2 GB CSV.

python -m benchmarks.uploads [--rounds N]
"""

import http.client
import io
import re
import sys
import tempfile
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

from benchmarks.serving.apps import KEY, write_keys
from benchmarks.serving.bundles import COLUMNS, fit_bundles
from benchmarks.serving.process import Server, free_port, running
from benchmarks.tables import keep, rounds
from benchmarks.training import correlated
from elbound.scorer import Scorer

ROWS, DEFAULT_ROWS = 100_000, 20_000
ARROW = "application/vnd.apache.arrow.stream"
MOST = {"NPY": 1.4, "Parquet": 1.6, "CSV": 2.2}
TYPES = {"NPY": "application/x-npy", "Parquet": "application/vnd.apache.parquet", "CSV": "text/csv"}
TOLERANCE = 1e-5
GROWTH_MB, DIFFERENCE_MB = 128, 32


@contextmanager
def serving(bundle: Path) -> Iterator[Server]:
    """`elbound serve` as it is, on all cores, with a key and on a port of its own."""
    port = free_port()
    command = [sys.executable, "-m", "elbound", "serve", str(bundle), "--port", str(port)]
    with tempfile.TemporaryDirectory() as folder:
        keys = str(write_keys(Path(folder)))
        environ = {"ELBOUND_API_KEYS_FILE": keys, "OMP_NUM_THREADS": str(torch.get_num_threads())}
        with running(command, port, "/readyz", environ) as server:
            yield server


def upload(server: Server, body: bytes | Iterator[bytes], media_type: str, sink: io.BytesIO | None = None) -> int:
    """Post `body`, in chunks where it comes in parts; the bytes of the answer, kept in `sink`. Raises RuntimeError."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=600)
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


def memory(folder: Path) -> list[list[str]]:
    """The lines of a small and a large CSV, each on a server of its own."""
    grown = []
    for gigabytes in (0.2, 2.0):
        with serving(folder / "bench") as server:
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
        fit_bundles(folder)
        for name, rows, what, must in (
            ("bench", ROWS, "fast profile", True),
            ("exported", ROWS, "fast profile by onnxruntime", False),
            ("default", DEFAULT_ROWS, "default detector", False),
        ):
            with serving(folder / name) as server:
                cpu = Cpu(Scorer.from_bundle(folder / name, device="cpu"), server, correlated(rows, COLUMNS))
                for _ in range(times):
                    cpu.measure()
                lines += cpu.lines(what, must=must)
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
