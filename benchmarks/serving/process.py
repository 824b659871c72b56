"""A server as a process of its own: started, found ready, its CPU time read, ended."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
TICKS = os.sysconf("SC_CLK_TCK")
START_SECONDS, STOP_SECONDS = 90, 15
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class NotStarted(RuntimeError):
    """A server that did not become ready; the end of its output."""


@dataclass
class Server:
    """A running server on a port of this machine."""

    process: "subprocess.Popen[bytes]"
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cpu(self) -> float:
        """Seconds of CPU time of its whole process tree."""
        return sum(_cpu_of(pid) for pid in _tree(self.process.pid))

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Its processes stand still: some spin while they have nothing to do, at the cost of whoever is measured."""
        pids = _tree(self.process.pid)
        for pid in pids:
            _signal(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                _signal(pid, signal.SIGCONT)

    def call(self, path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
        """The body of the answer. Raises urllib's HTTPError on anything but 2xx."""
        request = urllib.request.Request(self.url + path, body, dict(headers))
        with urllib.request.urlopen(request, timeout=60) as answer:
            read: bytes = answer.read()
            return read

    def is_ready(self, path: str) -> bool:
        try:
            with urllib.request.urlopen(self.url + path, timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


@contextmanager
def running(
    command: Sequence[str | Path], port: int, ready: str, environ: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """A server until the end of the block; it is there once `ready` answers 200.

    The command runs in the repository's root. Raises NotStarted.
    """
    whole = {**os.environ, "PYTHONPATH": str(ROOT), **ONE_THREAD, **(environ or {})}
    with Path(f"/tmp/elbound-bench-{os.getpid()}-{port}.log").open("w+b") as log:
        Path(log.name).unlink()
        process = subprocess.Popen(command, cwd=ROOT, env=whole, stdout=log, stderr=log, start_new_session=True)
        server = Server(process, port)
        try:
            until = time.monotonic() + START_SECONDS
            while process.poll() is not None or not server.is_ready(ready):
                if time.monotonic() > until or process.poll() is not None:
                    log.seek(0)
                    raise NotStarted(f"{' '.join(map(str, command))}: {log.read()[-4000:].decode(errors='replace')}")
                time.sleep(0.1)
            yield server
        finally:
            _stop(process)


@contextmanager
def own(kind: str, bundle: Path, device: str = "cpu") -> Iterator[Server]:
    """One of the servers of `apps.py` until the end of the block; ours has all cores, as `elbound serve` takes them."""
    port = free_port()
    environ = {} if kind == "naive" else {"OMP_NUM_THREADS": str(os.cpu_count())}
    with running(_apps(kind, bundle, port, device), port, "/readyz", environ) as server:
        yield server


def _apps(kind: str, bundle: Path, number: int, device: str) -> list[str]:
    return [sys.executable, "-m", "benchmarks.serving.apps", kind, str(bundle), str(number), "--device", device]


def free_port() -> int:
    """A port of this machine on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def bare_rows_per_second(bundle: Path, rows: int, device: str = "cpu") -> float:
    """Rows/s of `Scorer.score_tensor` on `rows` rows at once, on one thread, in a process of its own."""
    command = _apps("bare", bundle, rows, device)
    environ = {**os.environ, "PYTHONPATH": str(ROOT), **ONE_THREAD}
    return float(subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=True).stdout)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """End the whole session that the server is the first process of, and what it has started in others."""
    pids = _tree(process.pid)
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            continue
    process.wait()
    for pid in pids:
        _signal(pid, signal.SIGKILL)


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


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
    """Its own time and that of its children that have ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0  # it has ended, and its parent has its time
    return sum(map(int, fields[11:15])) / TICKS
