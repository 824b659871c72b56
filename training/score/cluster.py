"""A bulk run on Ray: every worker of a cluster loads the bundle once and scores shares of the inputs."""

import logging
import os
import secrets
import signal
import socket
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import ray
import ray.data
from ray.exceptions import RayError

from elbound.errors import ConfigError, ElboundError
from training.console import alone_on_terminal, console
from training.score.inputs import Input
from training.score.parts import ADVICE, Parts
from training.score.results import BulkSummary
from training.score.run import BulkRun, Progress
from training.score.shares import Job, Share, ShareScorer, found_of, rows_of

LOCAL = "local"
CONNECT_SECONDS = 10.0
OBJECT_STORE_BYTES = 1 << 28
"""Of a cluster that is started for the run: through it go only shares and counts."""
MAX_BLOCKS = 10_000
RETRIES = 10
"""A share whose worker died so often is what kills them."""
WORKERS_A_GPU = 4
"""Most that share one: while one worker's pieces are computed, others read theirs."""


@dataclass(frozen=True)
class Workers:
    """How many processes score, where, and which share of a GPU each has."""

    count: int
    device: str
    gpus: float = 0.0

    @classmethod
    def choose(cls, device: str, resources: Mapping[str, float]) -> "Workers":
        """One for each CPU; where there are GPUs, up to `WORKERS_A_GPU` for each of them. Raises ConfigError."""
        if device not in ("auto", "cpu", "cuda"):
            raise ConfigError(f"--device must be auto, cpu or cuda. Got {device!r} instead", where="device")
        cpus, gpus = max(1, int(resources.get("CPU", 0))), int(resources.get("GPU", 0))
        if device == "cuda" and gpus == 0:
            raise ConfigError("--device cuda: no node of the Ray cluster has a GPU", where="device")
        if device == "cpu" or gpus == 0:
            return cls(cpus, "cpu")
        each = max(1, min(WORKERS_A_GPU, cpus // gpus))
        return cls(gpus * each, "cuda", 1 / each)


@dataclass(frozen=True)
class Cluster:
    """The Ray cluster at `address`; `LOCAL` is one that is started for the run."""

    address: str

    @classmethod
    def find(cls, address: str | None) -> "Cluster":
        """At `address`, or else where RAY_ADDRESS says. Raises ConfigError where nothing answers."""
        address = address or os.environ.get("RAY_ADDRESS") or LOCAL
        if address not in (LOCAL, "auto"):
            _check_address(address)
        return cls(address)

    def score(
        self, run: BulkRun, inputs: Sequence[Input], parts: Parts, *, resume: bool, bundle: Path, device: str
    ) -> Generator[Progress]:
        """Score as `score_to_parts` does, into the same parts.

        Raises ConfigError too where the cluster cannot be used, or a worker does not see the paths.
        """
        parts.open(run.plan(inputs), resume=resume)
        done = [parts.finished_items(place) for place in range(len(inputs))]
        if None not in done:
            yield Progress(BulkSummary(), sum(filter(None, done)))
            return
        job = Job(bundle, run.alpha, run.guarantee, run.heatmaps, run.size, inputs, parts, Path.cwd())
        with _joined(self.address) as logs:
            workers = Workers.choose(device, ray.cluster_resources())
            shares, passed = job.shares(workers.count)
            console.print(f"{workers.count} workers on Ray, {workers.device}; its logs are in {logs}", soft_wrap=True)
            progress = Progress(BulkSummary(), passed)
            with _as_ours(logs):
                for row in _scored(job, shares, workers):
                    progress.add(*found_of(row))
                    yield progress


def _scored(job: Job, shares: Sequence[Share], workers: Workers) -> Iterator[dict[str, int | str]]:
    """What the workers yield. One that dies is started again, and what it was at is given out again."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.target_max_block_size = 1  # each piece is told of when it is done, not when its share is
    found: Iterator[dict[str, int | str]] = (
        ray.data.from_items(rows_of(shares), override_num_blocks=min(len(shares), MAX_BLOCKS))
        .flat_map(
            ShareScorer,
            fn_constructor_args=(job, workers.device),
            compute=ray.data.ActorPoolStrategy(size=min(workers.count, len(shares))),
            num_cpus=1,
            num_gpus=workers.gpus,
            max_task_retries=RETRIES,
        )
        .iter_rows()
    )
    return found


@contextmanager
def _joined(address: str) -> Iterator[Path]:
    """Join the cluster at `address`, or start one and stop it; gives the folder of Ray's logs. Raises ConfigError.

    Meanwhile what Ray prints goes there too, not to the terminal.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    settings: dict[str, object] = {"address": address, "log_to_driver": False, "logging_level": logging.ERROR}
    if address == LOCAL:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # Ray would leave one in the home folder
        settings |= {"include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        started = ray.init(**settings)
    except (OSError, RuntimeError, ValueError, RayError) as error:
        ray.shutdown()
        raise ConfigError(f"--engine ray: {error}", where="ray_address") from error
    signal.signal(signal.SIGTERM, on_sigterm)  # Ray's own would end with another status
    logs = Path(started.address_info["session_dir"]) / "logs"
    with alone_on_terminal(logs):
        try:
            yield logs
        finally:
            ray.shutdown()


def _check_address(address: str) -> None:
    """Raise ConfigError where nothing answers: Ray itself would wait for minutes."""
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal()) or "/" in host:
        raise ConfigError(
            f"--ray-address must be HOST:PORT of a cluster that this machine is part of, or auto. Got {address!r} "
            "instead",
            where="ray_address",
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(f"--ray-address: nothing answers at {address}: {error}", where="ray_address") from error


@contextmanager
def _as_ours(logs: Path) -> Iterator[None]:
    """What a worker raised becomes that again, and what Ray raises an ElboundError."""
    try:
        yield
    except (RayError, ElboundError) as error:
        cause = getattr(error, "cause", None)  # Ray's wrapper is of the class of what it wraps
        if isinstance(cause, ElboundError):
            raise cause from None
        if not isinstance(error, RayError) or cause is not None:
            raise
        said = str(error).strip().splitlines()[0]
        raise ElboundError(f"Ray gave up: {said}; its logs are in {logs}{ADVICE}", code="ray_failed") from error
