"""What a swap of versions costs the requests that run beside it, and whether memory stays flat over many.

python -m benchmarks.swaps [--rounds N]
"""

import copy
import statistics
import sys
import tempfile
import threading
import time
from itertools import cycle
from pathlib import Path

import orjson

from benchmarks.serving.apps import write_keys
from benchmarks.serving.closed import WITH_KEY
from benchmarks.serving.openloop import Plan, Tally, ask, request_text
from benchmarks.serving.process import Server, free_port, running
from benchmarks.tables import keep, rounds
from benchmarks.training import correlated
from elbound import VAEDetector
from elbound.scorer import Scorer

NAME, VERSIONS, COLUMNS = "model", 4, 32
RATE, SECONDS, CONNECTIONS, EVERY_SECONDS = 200.0, 10.0, 32, 1.0


def fill(store: Path) -> list[str]:
    """The same default detector under several versions."""
    VAEDetector(steps=200).fit(correlated(5_000, COLUMNS)).save(store / "trained")
    scorer = Scorer.from_bundle(store / "trained", device="cpu")
    versions = [f"2026-01-01T00-00-0{i}Z-{i:04x}" for i in range(VERSIONS)]
    for version in versions:
        one = copy.copy(scorer)
        one.manifest = scorer.manifest.model_copy(update={"name": NAME, "version": version})
        one.save(store / "models" / NAME / version)
    return versions


class Swapper(threading.Thread):
    """Activates one version after the other until it is told to stop; `seconds` is what each took."""

    def __init__(self, server: Server, versions: list[str]) -> None:
        super().__init__()
        self.server = server
        self.versions = cycle(versions)
        self.stopping = threading.Event()
        self.seconds: list[float] = []

    def run(self) -> None:
        while not self.stopping.wait(EVERY_SECONDS):
            started = time.perf_counter()
            body = orjson.dumps({"version": next(self.versions)})
            self.server.call(f"/models/{NAME}/activate", body, WITH_KEY)
            self.seconds.append(time.perf_counter() - started)


def offer(server: Server) -> Tally:
    """One-row requests at a steady rate."""
    bodies = [orjson.dumps([row]) for row in correlated(64, COLUMNS).tolist()]
    requests = [request_text("/score", WITH_KEY, body) for body in bodies]
    return ask(Plan(server.port, requests, RATE, SECONDS, CONNECTIONS, patience_s=1.0, deadline_s=1.0))


def resident_mb(server: Server) -> float:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def line(label: str, tallies: list[Tally]) -> list[str]:
    figures = [statistics.median(one.percentile_ms(share) for one in tallies) for share in (0.5, 0.99, 1.0)]
    failed = sum(count for one in tallies for status, count in one.statuses.items() if status != 200)
    return [label, *(f"{figure:.1f}" for figure in figures), str(failed)]


def main() -> None:
    times = rounds("Measure swaps.", 5)
    calm, swapped, seconds, memory = [], [], [], []
    with tempfile.TemporaryDirectory() as name:
        versions, port = fill(Path(name)), free_port()
        command = [sys.executable, "-m", "elbound", "serve", "--models", f"{name}/models", "--port", str(port)]
        environ = {"ELBOUND_API_KEYS_FILE": str(write_keys(Path(name)))}
        with running(command, port, "/readyz", environ) as server:
            offer(server)
            for _ in range(times):
                calm.append(offer(server))
                swapper = Swapper(server, versions)
                swapper.start()
                swapped.append(offer(server))
                swapper.stopping.set()
                swapper.join()
                seconds += swapper.seconds
                memory.append(resident_mb(server))
    rows = [line("nothing is swapped", calm), line("a swap every second", swapped)]
    added = statistics.median(b.percentile_ms(0.99) - a.percentile_ms(0.99) for a, b in zip(calm, swapped, strict=True))
    notes = (
        f"{RATE:g} one-row requests a second over {CONNECTIONS} connections, {SECONDS:g} s a time, latencies from when "
        f"they were due; the median of {times} alternating rounds. Swaps add {added:.1f} ms to p99; one takes "
        f"{1e3 * statistics.median(seconds):.0f} ms from its request to its answer ({len(seconds)} of them). Resident "
        f"memory is {memory[0]:.0f} MB after the first round and {memory[-1]:.0f} MB after the last."
    )
    keep("swaps", "Swapping versions under load", ["", "p50 ms", "p99 ms", "max ms", "not 200"], rows, notes)


if __name__ == "__main__":
    main()
