"""The open loop: requests leave when they are due, whether or not earlier ones have been answered.

A process of its own, `python -m benchmarks.serving.openloop`: a plan as JSON on standard input, a tally as JSON on
standard output. Every latency counts from the time at which the request was due, so that a server that holds up the
client is charged for it. Only the standard library: the client must cost little beside the server.
"""

import base64
import gc
import json
import select
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

READ_BYTES = 1 << 18
LEAD_SECONDS = 0.05
RETRY_LATER = (429, 503)


@dataclass(frozen=True)
class Plan:
    """`rate` requests a second for `seconds`, over up to `connections`; each is one of `requests`, base64, in turn.

    A request that is due while no connection is free waits for one at most `patience_s`, then it is given up unsent.
    `deadline_s` is until when an answer is of use.
    """

    port: int
    requests: Sequence[str]
    rate: float
    seconds: float
    connections: int
    patience_s: float
    deadline_s: float

    @property
    def count(self) -> int:
        return round(self.rate * self.seconds)

    def due(self, i: int) -> float:
        """Seconds from the start."""
        return i / self.rate


@dataclass
class Tally:
    """What became of the requests that were due in `seconds`; latencies count from then, of answers with 2xx."""

    offered: int = 0
    unsent: int = 0
    broken: int = 0
    unanswered: int = 0
    late: int = 0
    statuses: dict[int, int] = field(default_factory=dict)
    without_retry_after: int = 0
    latencies_ms: list[float] = field(default_factory=list)
    lateness_ms: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, status: int, latency_s: float, deadline_s: float, *, retry_after: bool) -> None:
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if status in RETRY_LATER and not retry_after:
            self.without_retry_after += 1
        if 200 <= status < 300:
            self.latencies_ms.append(latency_s * 1e3)
            self.late += latency_s > deadline_s

    @property
    def in_time(self) -> int:
        """Answers with 2xx within the deadline."""
        return len(self.latencies_ms) - self.late

    def percentile_ms(self, share: float) -> float:
        return percentile(self.latencies_ms, share)


def percentile(values: Sequence[float], share: float) -> float:
    """The least value that at least `share` of all do not exceed. Raises ValueError where there is none."""
    if not values:
        raise ValueError("no values")
    ranked = sorted(values)
    return ranked[max(0, -int(-share * len(ranked) // 1) - 1)]


def ask(plan: Plan) -> Tally:
    """Run the plan in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.serving.openloop"]
    done = subprocess.run(command, input=json.dumps(asdict(plan)), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    found = json.loads(done.stdout)
    found["statuses"] = {int(status): count for status, count in found["statuses"].items()}
    return Tally(**found)


def request_text(path: str, headers: dict[str, str], body: bytes) -> str:
    """One request as it goes over the wire, base64."""
    lines = [f"POST {path} HTTP/1.1", "host: 127.0.0.1", *(f"{name}: {value}" for name, value in headers.items())]
    head = "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode()
    return base64.b64encode(head + body).decode()


class Answer:
    """An answer as its bytes come in."""

    __slots__ = ("body_from", "buffer", "size")

    def __init__(self) -> None:
        self.buffer = b""
        self.body_from = self.size = -1

    def feed(self, data: bytes) -> bool:
        """Whether it is complete. Raises ValueError where it has no length."""
        self.buffer += data
        if self.body_from < 0:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return False
            length = self.header(b"content-length", end)
            if length is None:
                raise ValueError("an answer without content-length")
            self.body_from, self.size = end + 4, end + 4 + int(length)
        return len(self.buffer) >= self.size

    def header(self, name: bytes, end: int | None = None) -> bytes | None:
        """The value of a header, whatever its case."""
        head = self.buffer[: self.body_from if end is None else end + 2].lower()
        at = head.find(b"\r\n" + name + b":")
        return None if at < 0 else head[at + len(name) + 3 : head.index(b"\r\n", at + 2)].strip()

    @property
    def status(self) -> int:
        return int(self.buffer[9:12])


class Connection:
    """One socket with at most one request under way, that was due at `due`."""

    __slots__ = ("answer", "due", "socket")

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=5)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.due: float | None = None
        self.answer = Answer()


class Client:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.tally = Tally(offered=plan.count, seconds=plan.seconds)
        self.requests = [base64.b64decode(text) for text in plan.requests]
        self.poll = select.epoll()
        self.open: dict[int, Connection] = {}
        self.free: deque[Connection] = deque()
        self.waiting: deque[int] = deque()
        self.busy = 0
        for _ in range(plan.connections):
            self.free.append(self._connect())

    def _connect(self) -> Connection:
        connection = Connection(self.plan.port)
        self.open[connection.socket.fileno()] = connection
        self.poll.register(connection.socket, select.EPOLLIN)
        return connection

    def run(self) -> Tally:
        """Send what is due and read what comes until all is answered or past its deadline."""
        plan, tally = self.plan, self.tally
        self.started = time.perf_counter() + LEAD_SECONDS
        end = self.started + plan.seconds + plan.deadline_s
        next_one = 0
        while next_one < plan.count or self.busy or self.waiting:
            now = time.perf_counter()
            if now > end:
                break
            while next_one < plan.count and self.started + plan.due(next_one) <= now:
                self.waiting.append(next_one)
                next_one += 1
            self._send_waiting(now)
            due = self.started + plan.due(next_one) if next_one < plan.count else end
            # the epoll's own timeout is in whole milliseconds
            if select.select([self.poll], [], [], max(0.0, due - time.perf_counter()))[0]:
                for number, _ in self.poll.poll(0):
                    self._receive(self.open[number])
        tally.unsent += len(self.waiting)
        tally.unanswered = self.busy
        for connection in self.open.values():
            connection.socket.close()
        self.poll.close()
        return tally

    def _send_waiting(self, now: float) -> None:
        while self.waiting:
            due = self.started + self.plan.due(self.waiting[0])
            if self.free or len(self.open) < self.plan.connections:
                self._send(self.waiting.popleft(), due)
            elif now - due > self.plan.patience_s:
                self.waiting.popleft()
                self.tally.unsent += 1
            else:
                return

    def _send(self, i: int, due: float) -> None:
        try:
            connection = self.free.popleft() if self.free else self._connect()
            connection.socket.send(self.requests[i % len(self.requests)])
        except OSError:
            self.tally.broken += 1
            return
        self.tally.lateness_ms.append((time.perf_counter() - due) * 1e3)
        connection.due = due
        self.busy += 1

    def _receive(self, connection: Connection) -> None:
        try:
            data = connection.socket.recv(READ_BYTES)
        except OSError:
            data = b""
        if not data:
            self._close(connection)
            return
        if connection.due is None:
            connection.answer.feed(data)  # unasked, before the server closes: a refused connection
            return
        if connection.answer.feed(data):
            answer, latency = connection.answer, time.perf_counter() - connection.due
            retry_after = answer.header(b"retry-after") is not None
            self.tally.add(answer.status, latency, self.plan.deadline_s, retry_after=retry_after)
            closes = answer.header(b"connection") == b"close"
            connection.due, connection.answer = None, Answer()
            self.busy -= 1
            if closes:
                self._close(connection)
            else:
                self.free.append(connection)

    def _close(self, connection: Connection) -> None:
        if connection.due is not None:
            self.busy -= 1
            self.tally.broken += 1
            connection.due = None
        elif connection in self.free:
            self.free.remove(connection)
        self.poll.unregister(connection.socket)
        del self.open[connection.socket.fileno()]
        connection.socket.close()


def main() -> None:
    plan = Plan(**json.load(sys.stdin))
    gc.disable()
    json.dump(asdict(Client(plan).run()), sys.stdout)


if __name__ == "__main__":
    main()
