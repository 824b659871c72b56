"""The closed loop: wrk keeps a number of requests under way; rounds of several loads alternate."""

import re
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.serving.apps import KEY
from benchmarks.serving.process import Server

JSON = {"content-type": "application/json"}
WITH_KEY = {"authorization": f"Bearer {KEY}", **JSON}
WARM_SECONDS = 1


@dataclass(frozen=True)
class Sent:
    """What is sent to one path, body after body."""

    path: str
    bodies: Sequence[bytes]
    headers: Mapping[str, str] = field(default_factory=lambda: JSON)

    def script(self) -> str:
        """The same for wrk."""
        headers = ", ".join(f'["{name}"] = "{value}"' for name, value in self.headers.items())
        bodies = ",\n".join(f"[==[{body.decode()}]==]" for body in self.bodies)
        return (
            f"local bodies = {{{bodies}}}\n"
            "local ready, i = {}, 0\n"
            "init = function(args)\n"
            "  for k, body in ipairs(bodies) do\n"
            f"    ready[k] = wrk.format('POST', '{self.path}', {{{headers}}}, body)\n"
            "  end\n"
            "end\n"
            "request = function() i = i % #ready + 1; return ready[i] end\n"
        )


@dataclass
class Load:
    """Requests to one server at one concurrency, and what each kept round measured."""

    server: Server
    sent: Sent
    concurrency: int
    folder: Path
    per_second: list[float] = field(default_factory=list)
    cpu_microseconds: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.script = self.folder / f"{id(self)}.lua"
        self.script.write_text(self.sent.script())

    def measure(self, seconds: int, *, kept: bool = True) -> None:
        """One round. Raises RuntimeError on any answer that is not 2xx and on any socket error."""
        before = self.server.cpu()
        command = ["wrk", "-t1", f"-c{self.concurrency}", f"-d{seconds}s", "--latency", "--timeout", "30s"]
        found = subprocess.run(
            [*command, "-s", str(self.script), self.server.url], capture_output=True, text=True, check=True
        ).stdout
        used = self.server.cpu() - before
        answered, per_second, p99_ms = read_wrk(found)
        if kept:
            self.per_second.append(per_second)
            self.cpu_microseconds.append(used / answered * 1e6)
            self.p99_ms.append(p99_ms)

    @property
    def rate(self) -> float:
        """Requests a second, the median round."""
        return float(np.median(self.per_second))

    @property
    def cpu(self) -> float:
        """Microseconds of the server's CPU time for a request, the median round."""
        return float(np.median(self.cpu_microseconds))

    @property
    def p99(self) -> float:
        """Milliseconds, the median round."""
        return float(np.median(self.p99_ms))


def read_wrk(text: str) -> tuple[int, float, float]:
    """Requests, requests a second and the 99th percentile in ms from wrk's output.

    Raises RuntimeError with the output where an answer was not 2xx or a socket failed.
    """
    answered = re.search(r"(\d+) requests in", text)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    tail = re.search(r"99%\s+([\d.]+)(us|ms|s|m)\b", text)
    if "Non-2xx" in text or "Socket errors" in text or not (answered and rate and tail) or not int(answered[1]):
        raise RuntimeError(text)
    return int(answered[1]), float(rate[1]), float(tail[1]) * {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}[tail[2]]


def alternate(loads: Sequence[Load], rounds: int, seconds: int) -> None:
    """Warm all, then `rounds` rounds of each in turn, the servers of the others paused."""
    for i in range(rounds + 1):
        for load in loads:
            with ExitStack() as paused:
                for other in {one.server.port: one.server for one in loads}.values():
                    if other is not load.server:
                        paused.enter_context(other.paused())
                load.measure(seconds if i else WARM_SECONDS, kept=i > 0)


def ratio(ours: Sequence[float], other: Sequence[float]) -> float:
    """The median of the ratios of rounds that stood side by side."""
    return float(np.median(np.array(ours) / np.array(other)))
