"""One-row requests over HTTP: ours over an empty POST of the same server, and over a naive FastAPI scorer.

python -m benchmarks.serving [--rounds N]        needs wrk
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa

from benchmarks.tables import keep, rounds
from benchmarks.training import correlated
from elbound.data.infer import infer_schema
from elbound.export import with_export
from elbound.fit.detector import DetectorConfig, fit_detector
from elbound.scorer import Scorer

COLUMNS, BODIES, KEY = 32, 64, "benchmark"
SECONDS, WARM_SECONDS = 2, 1
TOLERANCE = 1e-5
TRIED = (
    "What misses its mark, and what was tried: alone, a request by torch is its forward pass, 83 calls for 32 numbers "
    "(117 before they were cut), half of its CPU time; onnxruntime takes a sixth of that, and what is left is numpy's "
    "calls for ranking and the service's own steps, each for one row and out of a cold cache. At 64 the forward is "
    "3 us of a request by onnxruntime, 8 by torch: HTTP and routing, decoding, parting the batch, the answer, metrics "
    "and futures share the rest. Gained there: no hop to a thread, batches of 64 instead of 22 by waiting while each "
    "turn of the event loop brings more, a frozen garbage collector, histograms of our own, no telemetry. The empty "
    "POST on plain ASGI is the stricter reading; an ordinary FastAPI route is the usual one."
)
EMPTY = {"/empty": "plain ASGI", "/empty-fastapi": "FastAPI route"}
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Server:
    """A running server; `cpu` sums the seconds of its whole process tree."""

    process: "subprocess.Popen[bytes]"
    url: str

    def cpu(self) -> float:
        return sum(_cpu_of(pid) for pid in _tree(self.process.pid))

    def post(self, body: bytes) -> bytes:
        headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
        request = urllib.request.Request(f"{self.url}/score", body, headers)
        with urllib.request.urlopen(request) as answer:
            read: bytes = answer.read()
            return read


@dataclass
class Load:
    """Requests to one path of one server at one concurrency, and what each round measured."""

    server: Server
    path: str
    concurrency: int
    per_second: list[float] = field(default_factory=list)
    cpu_microseconds: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)

    def measure(self, script: Path, seconds: int, *, kept: bool = True) -> None:
        """One round. Raises RuntimeError on any answer that is not 2xx and on any socket error."""
        before = self.server.cpu()
        command = ["wrk", "-t1", f"-c{self.concurrency}", f"-d{seconds}s", "--latency", "-s", str(script)]
        found = subprocess.run([*command, self.server.url, "--", self.path], capture_output=True, text=True, check=True)
        used = self.server.cpu() - before
        if "Non-2xx" in found.stdout or "Socket errors" in found.stdout:
            raise RuntimeError(found.stdout)
        answered = re.search(r"(\d+) requests in", found.stdout)
        rate = re.search(r"Requests/sec:\s+([\d.]+)", found.stdout)
        tail = re.search(r"99%\s+([\d.]+)(us|ms|s)", found.stdout)
        if not (answered and rate and tail):
            raise RuntimeError(found.stdout)
        if kept:
            self.per_second.append(float(rate[1]))
            self.cpu_microseconds.append(used / int(answered[1]) * 1e6)
            self.p99_ms.append(float(tail[1]) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[tail[2]])


def serve(kind: str, bundle: str, port: int) -> None:
    """The process of one server, as `elbound serve` runs it."""
    import torch
    import uvicorn

    torch.set_num_threads(1)
    app = _naive(Path(bundle)) if kind == "naive" else _ours(Path(bundle))
    uvicorn.run(
        app, port=port, http="httptools", loop="uvloop", log_config=None, access_log=False, server_header=False
    )  # fmt: skip


def _ours(bundle: Path) -> object:
    """The service, and two empty POSTs behind the same middleware: plain ASGI, and an ordinary FastAPI route."""
    from fastapi import Request, Response
    from starlette.routing import Route
    from starlette.types import Receive, Scope, Send

    from service.app import create_app
    from service.settings import Settings

    app = create_app(Settings(device="cpu", api_key=KEY), [bundle])

    class Empty:
        async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
            while (await receive()).get("more_body"):
                pass
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})

    async def empty(request: Request) -> Response:
        await request.body()
        return Response()

    app.router.routes.insert(0, Route("/empty", Empty(), methods=["POST"]))
    app.add_api_route("/empty-fastapi", empty, methods=["POST"])
    return app


def _naive(bundle: Path) -> object:
    """What one writes in five minutes: a pydantic body, one call of the scorer, its numbers."""
    import torch
    from fastapi import FastAPI
    from pydantic import BaseModel

    from elbound.data.schema import TableSchema

    scorer = Scorer.from_bundle(bundle, device="cpu")
    assert isinstance(scorer.schema, TableSchema)
    names = scorer.schema.names
    app = FastAPI()

    class Body(BaseModel):
        rows: list[dict[str, float]]

    @app.post("/score")
    def score(body: Body) -> dict[str, object]:
        x = torch.tensor([[row[name] for name in names] for row in body.rows], dtype=torch.float64)
        scored = scorer.score_tensor(x)
        return {
            "score": scored.score.tolist(),
            "p_value": scored.p_value.tolist(),
            "is_anomaly": scorer.decide(scored).is_anomaly.tolist(),
            "scores": {name: values.tolist() for name, values in scored.scores.items()},
        }

    return app


@contextmanager
def running(kind: str, bundle: Path, port: int) -> Iterator[Server]:
    """A server until the end of the block."""
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.serving", "--serve", kind, str(bundle), str(port)]
    server = Server(subprocess.Popen(command, env=environ, stderr=subprocess.DEVNULL), f"http://127.0.0.1:{port}")
    try:
        until = time.monotonic() + 60
        while True:
            try:
                server.post(b'{"rows": [{}]}')
            except urllib.error.HTTPError:
                break  # it answers: a row without columns is refused
            except OSError:
                if time.monotonic() > until or server.process.poll() is not None:
                    raise
                time.sleep(0.1)
        yield server
    finally:
        server.process.send_signal(signal.SIGTERM)
        server.process.wait()


def check_equal(ours: Server, naive: Server, bodies: Sequence[bytes]) -> None:
    """Raise RuntimeError unless both servers say the same of every row."""
    for body in bodies:
        item, other = orjson.loads(ours.post(body))["items"][0], orjson.loads(naive.post(body))
        pairs = [(item["score"], other["score"][0])]
        pairs += [(facts["value"], other["scores"][name][0]) for name, facts in item["scores"].items()]
        same = all(abs(a - b) <= TOLERANCE * max(abs(b), 1) for a, b in pairs)
        if not same or item["is_anomaly"] != other["is_anomaly"][0]:
            raise RuntimeError(f"not the same: {item} and {other}")


def write_script(path: Path, bodies: Sequence[bytes]) -> None:
    """A script of wrk that sends the bodies in turn to the path after `--`."""
    texts = ",\n".join(f"[==[{body.decode()}]==]" for body in bodies)
    path.write_text(
        f"local bodies = {{{texts}}}\n"
        f'local headers = {{["authorization"] = "Bearer {KEY}", ["content-type"] = "application/json"}}\n'
        "local ready, i = {}, 0\n"
        "init = function(args)\n"
        "  for k, body in ipairs(bodies) do ready[k] = wrk.format('POST', args[1], headers, body) end\n"
        "end\n"
        "request = function() i = i % #ready + 1; return ready[i] end\n"
    )


def fit_bundles(folder: Path) -> list[bytes]:
    """`bench` (profile fast), `exported` (the same with its export) and `default` in `folder`.

    Returns one-row bodies of rows that none was trained on.
    """
    X = correlated(5000 + BODIES, COLUMNS)
    names = [f"c{i}" for i in range(COLUMNS)]
    table = pa.table(dict(zip(names, X[:5000].T, strict=True)))
    for name, profile in (("bench", "fast"), ("default", "default")):
        config = DetectorConfig(name=name, device="cpu", profile=profile)
        fit_detector(table, infer_schema(table).schema, config).save(folder / name)
    with_export(Scorer.from_bundle(folder / "bench", device="cpu")).save(folder / "exported")
    return [orjson.dumps({"rows": [dict(zip(names, row.tolist(), strict=True))]}) for row in X[5000:]]


def line(what: str, ours: Load, other: Load, least: str) -> list[str]:
    """One line of the table: medians, and the median of the ratios of rounds."""
    ratio = np.median(np.array(ours.per_second) / np.array(other.per_second))
    cpu = np.median(np.array(other.cpu_microseconds) / np.array(ours.cpu_microseconds))
    shown = [f"{np.median(one.per_second):,.0f}" for one in (ours, other)]
    spent = [f"{np.median(one.cpu_microseconds):,.0f}" for one in (ours, other)]
    tails = [f"{np.median(one.p99_ms):,.1f}" for one in (ours, other)]
    return [what, str(ours.concurrency), *shown, f"{ratio:.2f}", *spent, f"{cpu:.2f}", *tails, least]


def main() -> None:
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2], sys.argv[3], int(sys.argv[4]))
        return
    times = rounds("Measure one-row requests.", 5)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bodies = fit_bundles(folder)
        script = folder / "load.lua"
        write_script(script, bodies)
        with (
            running("ours", folder / "bench", 8801) as ours,
            running("naive", folder / "bench", 8802) as naive,
            running("ours", folder / "exported", 8805) as ours_exported,
            running("ours", folder / "default", 8803) as ours_default,
            running("naive", folder / "default", 8804) as naive_default,
        ):
            check_equal(ours, naive, bodies)
            check_equal(ours_exported, naive, bodies)
            check_equal(ours_default, naive_default, bodies)
            by_torch, by_onnxruntime = (
                {(path, c): Load(server, path, c) for c in (64, 1) for path in ("/score", *EMPTY)}
                for server in (ours, ours_exported)
            )
            bare, full, bare_full = (Load(server, "/score", 64) for server in (naive, ours_default, naive_default))
            loads = [*by_torch.values(), *by_onnxruntime.values(), bare, full, bare_full]
            for load in loads:
                load.measure(script, WARM_SECONDS, kept=False)
            for _ in range(times):
                for load in loads:
                    load.measure(script, SECONDS)
    rows = [
        *(
            line(f"fast profile by {engine} over an empty POST, {kind}", loads["/score", c], loads[path, c], least)
            for engine, loads in (("torch", by_torch), ("onnxruntime", by_onnxruntime))
            for path, kind in EMPTY.items()
            for c, least in ((64, "0.40"), (1, "0.25"))
        ),
        line("fast profile by torch over naive FastAPI", by_torch["/score", 64], bare, "5"),
        line("fast profile by onnxruntime over naive FastAPI", by_onnxruntime["/score", 64], bare, "5"),
        line("default detector over naive FastAPI", full, bare_full, ""),
    ]
    keep(
        "serving",
        "One-row requests over HTTP",
        [
            "`POST /score` with one JSON row of 32 numbers", "at once", "ours, 1/s", "other, 1/s", "ratio",
            "ours, CPU us", "other, CPU us", "ratio", "ours, p99 ms", "other, p99 ms", "least",
        ],
        rows,
        "By torch or by onnxruntime: the same bundle without and with its export. "
        f"Medians of {times} alternating rounds of {SECONDS} s with wrk on the same machine; ratios are medians of the "
        "rounds' ratios. CPU is that of the server's process tree for one request. Key check, validation and metrics "
        "are on, logs off. The empty POST is a route of the same server behind the same middleware. The naive scorer "
        "is a `def` endpoint with a pydantic body that calls `Scorer.score_tensor`, without a key, metrics, limits or "
        "drift; scores and verdicts of all bodies were checked to be the same. Any answer but 2xx fails the run."
        f"\n\n{TRIED}",
    )  # fmt: skip


def _tree(root: int) -> list[int]:
    """`root` and all its descendants."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has ended
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def _cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


if __name__ == "__main__":
    main()
