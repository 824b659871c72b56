"""Other servers around the same function: how each is started, asked and read, and which settings are tried."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import orjson

from benchmarks.serving.closed import JSON, Sent
from benchmarks.serving.process import ROOT, Server, free_port, running

ENVIRONMENTS = ROOT / ".peers"
Settings = Mapping[str, object]
ANSWERS = ("score", "p_value", "is_anomaly")


@dataclass(frozen=True)
class Peer(ABC):
    """One server; `folder` is for what it writes."""

    bundle: Path
    folder: Path

    name: ClassVar[str]
    package: ClassVar[str]
    path: ClassVar[str]
    ready: ClassVar[str]
    small: ClassVar[Sequence[Settings]]
    """Settings that are tried for one-row requests, and below for large ones."""
    large: ClassVar[Sequence[Settings]]

    @property
    def bin(self) -> Path:
        """Where its own environment has its commands."""
        return ENVIRONMENTS / self.package / "bin"

    @property
    def is_installed(self) -> bool:
        return (self.bin / "python").exists()

    @abstractmethod
    def command(self, settings: Settings, port: int) -> tuple[Sequence[str | Path], Mapping[str, str]]:
        """What starts it, and variables for that."""

    @abstractmethod
    def body(self, rows: np.ndarray) -> bytes:
        """A request to score `rows`, in the form that the server reads fastest."""

    @abstractmethod
    def read(self, answer: bytes) -> np.ndarray:
        """Score, p-value and decision of an answer, `(n, 3)`."""

    def sent(self, rows: np.ndarray, at_once: int) -> Sent:
        """Requests for `rows`, `at_once` rows each."""
        return Sent(self.path, [self.body(rows[i : i + at_once]) for i in range(0, len(rows), at_once)])

    def score(self, server: Server, rows: np.ndarray) -> np.ndarray:
        return self.read(server.call(self.path, self.body(rows), JSON))

    @contextmanager
    def serving(self, settings: Settings) -> Iterator[Server]:
        port = free_port()
        command, environ = self.command(settings, port)
        with running(command, port, self.ready, environ) as server:
            yield server


class LitServe(Peer):
    name, package, path, ready = "LitServe", "litserve", "/predict", "/health"
    small: ClassVar[Sequence[Settings]] = tuple(
        {"max_batch_size": size, "batch_timeout": timeout, "workers_per_device": workers, "fast_queue": fast}
        for size, timeout, workers, fast in (
            (1, 0.0, 1, False),
            (1, 0.0, 1, True),
            (1, 0.0, 2, True),
            (64, 0.0, 1, False),
            (64, 0.0, 1, True),
            (64, 0.001, 1, True),
            (64, 0.005, 1, True),
        )
    )
    large: ClassVar[Sequence[Settings]] = (small[0], small[1], small[2])

    def command(self, settings: Settings, port: int) -> tuple[Sequence[str | Path], Mapping[str, str]]:
        asked = orjson.dumps({**settings, "bundle": str(self.bundle), "port": port}).decode()
        return [self.bin / "python", "-m", "benchmarks.peers.litserve_server", asked], {}

    def body(self, rows: np.ndarray) -> bytes:
        return orjson.dumps({"rows": rows.tolist()})

    def read(self, answer: bytes) -> np.ndarray:
        found = orjson.loads(answer)
        return np.array([found[name] for name in ANSWERS]).T


class MLServer(Peer):
    name, package, path, ready = "MLServer", "mlserver", "/v2/models/bench/infer", "/v2/models/bench/ready"
    small: ClassVar[Sequence[Settings]] = tuple(
        {"parallel_workers": workers, "max_batch_size": size, "max_batch_time": seconds}
        for workers, size, seconds in (
            (0, 0, 0.0),
            (0, 64, 0.001),
            (0, 64, 0.005),
            (1, 64, 0.001),
            (2, 0, 0.0),
            (2, 64, 0.005),
        )
    )
    large: ClassVar[Sequence[Settings]] = (
        small[0],
        {"parallel_workers": 1, "max_batch_size": 0, "max_batch_time": 0.0},
        small[4],
    )

    def command(self, settings: Settings, port: int) -> tuple[Sequence[str | Path], Mapping[str, str]]:
        folder = self.folder / f"mlserver-{port}"
        folder.mkdir(exist_ok=True)
        server = {
            "debug": False,
            "host": "127.0.0.1",
            "http_port": port,
            "grpc_port": free_port(),
            "metrics_port": free_port(),
            "metrics_dir": str(folder),
            "environments_dir": str(folder),
            "gzip_enabled": False,
            "parallel_workers": settings["parallel_workers"],
        }
        model = {
            "name": "bench",
            "implementation": "benchmarks.peers.mlserver_runtime.Elbound",
            "parameters": {"uri": str(self.bundle)},
            "max_batch_size": settings["max_batch_size"],
            "max_batch_time": settings["max_batch_time"],
        }
        (folder / "settings.json").write_bytes(orjson.dumps(server))
        (folder / "model-settings.json").write_bytes(orjson.dumps(model))
        return [self.bin / "mlserver", "start", folder], {}

    def body(self, rows: np.ndarray) -> bytes:
        tensor = {"name": "x", "shape": rows.shape, "datatype": "FP64", "data": rows.ravel().tolist()}
        return orjson.dumps({"inputs": [tensor]})

    def read(self, answer: bytes) -> np.ndarray:
        outputs = {one["name"]: one["data"] for one in orjson.loads(answer)["outputs"]}
        return np.array([outputs[name] for name in ANSWERS]).T


class BentoML(Peer):
    name, package, path, ready = "BentoML", "bentoml", "/score", "/readyz"
    small: ClassVar[Sequence[Settings]] = (
        {"workers": 1},
        {"workers": 2},
        {"workers": 1, "max_batch_size": 64, "max_latency_ms": 100},
        {"workers": 1, "max_batch_size": 64, "max_latency_ms": 1000},
        {"workers": 2, "max_batch_size": 64, "max_latency_ms": 1000},
    )
    large: ClassVar[Sequence[Settings]] = (small[0], small[1])

    def command(self, settings: Settings, port: int) -> tuple[Sequence[str | Path], Mapping[str, str]]:
        asked = orjson.dumps({**settings, "bundle": str(self.bundle)}).decode()
        environ = {"ELBOUND_PEER": asked, "BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(self.folder / "bentoml")}
        command: list[str | Path] = [
            self.bin / "bentoml",
            "serve",
            "benchmarks.peers.bentoml_service:Elbound",
            "--quiet",
        ]
        return [*command, "--host", "127.0.0.1", "--port", str(port)], environ

    def body(self, rows: np.ndarray) -> bytes:
        return orjson.dumps({"rows": rows.tolist()})

    def read(self, answer: bytes) -> np.ndarray:
        return np.array(orjson.loads(answer))[:, : len(ANSWERS)]


PEERS: tuple[type[Peer], ...] = (LitServe, MLServer, BentoML)
