"""Everything that is known to hurt a server of this kind, against a real one: `make test-abuse` prints a table."""

import contextlib
import gzip
import resource
import socket
import time
from collections.abc import Callable, Iterator

import httpx
import orjson
import pytest

from tests.abuse import bombs
from tests.abuse.vitals import Row, Vitals, forget_peak, open_connections, probing, wait_for_rest
from tests.service.conftest import Server

MAX_GROWTH_MB, MOST_TIMES = 64, 4
"""What a time may leave in memory over the one before, and within how many it must come to that: allocators keep some
for each thread, and threads take turns."""
MAX_PEAK_MB = 1_280
"""Above what there was before: an opened body (512 MB, max_expanded_bytes) and a copy of it while it is parsed."""
MAX_HEALTHZ_S = 3.0
"""While it is abused: a large document is parsed in one go by a thread that holds the interpreter."""
MAX_HEALTHZ_AFTER_S = 0.5
ROW = b"[[1,2,3]]"
HEAD = b"POST /score?model=numbers HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
NAMES = ("../../etc/passwd.png", "a\0b.png", "n" * 10_000 + ".png", "..\\..\\x.png", "/etc/passwd", "\u202egnp.png")
STREAM = {"accept": "application/x-ndjson"}
NUMBERS, ROWS, PICTURES = {"model": "numbers"}, {"model": "rows"}, {"model": "pictures"}


def send(server: Server, body: bytes, media_type: str, query: dict[str, str], *statuses: int, **headers: str) -> None:
    """The upload answered as JSON and as a stream: one of the `statuses`, or rows and then an error record."""
    stated = {"content-type": media_type, **headers}
    answer = server.client.post("/score", content=body, headers=stated, params=query)
    assert answer.status_code in statuses, answer.text[:500]
    assert answer.headers["content-type"] == "application/json"
    found = b""
    with (
        server.client.stream("POST", "/score", content=body, headers=stated | STREAM, params=query) as streamed,
        contextlib.suppress(httpx.RemoteProtocolError),  # what breaks off after items were scored
    ):
        for part in streamed.iter_bytes():
            found += part
    assert streamed.status_code in statuses or b'"error":' in found, found[:500]


def connect(server: Server) -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=20)


@contextlib.contextmanager
def crowd(server: Server, size: int, first: bytes) -> Iterator[list[socket.socket]]:
    """That many connections which have said `first`."""
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(connect(server)) for _ in range(size)]
        for one in found:
            one.sendall(first)
        yield found


def ended(connections: list[socket.socket], seconds: float = 12) -> None:
    """Each is ended by the server within that time."""
    until = time.monotonic() + seconds
    for one in connections:
        one.settimeout(max(0.1, until - time.monotonic()))
        with contextlib.suppress(ConnectionError):
            while one.recv(65_536):
                pass


def images(server: Server) -> None:
    send(server, bombs.png(13_000, 13_000), "image/png", PICTURES, 422)
    send(server, *bombs.form([(f"{i}.png", bombs.png(13_000, 13_000)) for i in range(50)], "image/png"), PICTURES, 422)
    send(server, bombs.png(100_000, 1), "image/png", PICTURES, 200, 422)


def parquet(server: Server) -> None:
    media_type = "application/vnd.apache.parquet"
    send(server, bombs.parquet(812, 1_000_000), media_type, ROWS, 413)
    send(server, bombs.parquet(100, 1_000_000), media_type, ROWS, 422)


def wide_csv(server: Server) -> None:
    send(server, b",".join(b"c%d" % i for i in range(1_000_000)) + b"\n", "text/csv", NUMBERS, 413)
    send(server, b",".join(b"c%d" % i for i in range(100_000)) + b"\n", "text/csv", NUMBERS, 413)
    send(server, b"a,b,c\n" + b'"' + b"1,2\n" * 1_000_000, "text/csv", NUMBERS, 400, 422)


def arrays(server: Server) -> None:
    for shape in ((10**12, 3), (3, 10**12), (10**12,), (0, 3), (2**63, 3), (10**12, 0)):
        for fortran_order in (False, True):
            body = bombs.npy(shape, fortran_order=fortran_order) + b"\0" * 48
            send(server, body, "application/x-npy", NUMBERS, 400, 413, 422)
    for descr in ("|O", "<U1000000000", "[('a', '<f8')]", "V4"):
        send(server, bombs.npy((3, 3), descr) + b"\0" * 72, "application/x-npy", NUMBERS, 400, 413, 422)


def gzips(server: Server) -> None:
    packed = bombs.gzipped(bombs.MEGABYTE, 500)
    assert len(packed) < 500_000
    encoding = {"content-encoding": "gzip"}
    send(server, packed, "text/csv", NUMBERS, 400, 413, 422, **encoding)
    send(server, packed, "application/json", NUMBERS, 400, 413, **encoding)
    twice = bombs.gzipped(bombs.MEGABYTE, 600)
    send(server, twice, "application/x-ndjson", NUMBERS, 400, 413, 422, **encoding)
    send(server, packed[:-9], "text/csv", NUMBERS, 400, 413, 422, **encoding)


def grown_json(server: Server) -> None:
    """Text of 120 MB, of which each byte would be up to thirty once it is parsed."""
    encoding = {"content-encoding": "gzip"}
    for part in (b"[],", b"{},", b"1.5,", b'{"a":1},'):
        times = 120_000_000 // (1_000 * len(part))
        packed = b"".join((gzip.compress(b"["), bombs.gzipped(part * 1_000, times), gzip.compress(b"1]")))
        send(server, packed, "application/json", NUMBERS, 413, **encoding)
    send(server, packed, "application/x-ndjson", NUMBERS, 413, 422, **encoding)
    lines = bombs.gzipped(b"[" + b"1.5," * 1_000 + b"1.5]\n", 90_000)
    stated = {"content-type": "application/x-ndjson", **encoding}
    assert server.client.post("/score", content=lines, headers=stated, params=NUMBERS).status_code == 413
    assert server.client.post("/v2/models/numbers/infer", content=packed, headers=encoding).status_code == 413


def numbers(server: Server) -> None:
    for cell in (b"NaN", b"Infinity", b"-Infinity", b"1e400", b"1" * 5_000, b"9" * 100_000):
        send(server, b"[[1,2," + cell + b"]]", "application/json", NUMBERS, 400, 422)
        answer = server.client.post("/v2/models/numbers/infer", content=b'{"inputs":[' + cell + b"]}")
        assert answer.status_code == 400
    send(server, b"a,b,c\n1,2,inf\n1,2,-1e999\nnan,nan,nan\n", "text/csv", NUMBERS, 200, 422)


def nested(server: Server) -> None:
    for deep in (b"[" * 20_000_000, b'{"a":' * 4_000_000, b"[" * 500 + b"]" * 500, b"[[" + b"[1]," * 500_000 + b"1]]"):
        send(server, deep, "application/json", NUMBERS, 400, 413, 422)
    send(server, b"[" * 30_000_000 + b"\n[1,2,3]\n", "application/x-ndjson", NUMBERS, 200)


def zips(server: Server) -> None:
    many = [f"{i}.png" for i in range(100)]
    send(server, bombs.zipped(many, bombs.MEGABYTE * 10), "application/zip", PICTURES, 413, 422)
    send(server, bombs.zipped(many[:5], bombs.MEGABYTE * 10, stated_bytes=100), "application/zip", PICTURES, 400, 422)
    send(server, bombs.zipped((f"{i}.png" for i in range(20_000)), b"x"), "application/zip", PICTURES, 413)
    send(server, bombs.zipped(["a.zip.png"], bombs.zipped(many, bombs.MEGABYTE)), "application/zip", PICTURES, 422)


def large_headers(server: Server) -> None:
    for start in (b"GET /healthz HTTP/1.1\r\nHost: x\r\nA: ", b"GET /", b"GET /healthz HTTP/1.1\r\n", CHUNKED + b"1;"):
        with connect(server) as connection, contextlib.suppress(ConnectionError):
            connection.sendall(start)
            for _ in range(20):
                connection.sendall(b"A: b\r\n" * 170_000 if start.endswith(b"1\r\n") else b"y" * 1_000_000)
            ended([connection])


def idle(server: Server) -> None:
    with crowd(server, 1_000, b"") as connections:
        assert server.score(ROW, "application/json", model="numbers").status_code == 200
        ended(connections)


def half_headers(server: Server) -> None:
    with crowd(server, 200, HEAD[:40]) as connections:
        assert server.score(ROW, "application/json", model="numbers").status_code == 200
        ended(connections)


def slow_bodies(server: Server) -> None:
    with crowd(server, 100, HEAD + b"Content-Length: 100000\r\n\r\n") as connections:
        until = time.monotonic() + 5
        while time.monotonic() < until:
            for one in connections:
                with contextlib.suppress(OSError):
                    one.send(b" ")
            time.sleep(0.5)
        assert server.score(ROW, "application/json", model="numbers").status_code == 200
        ended(connections)


def endless_bodies(server: Server) -> None:
    chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
    for _ in range(2):
        sent = 0
        with connect(server) as connection, contextlib.suppress(OSError):
            connection.sendall(CHUNKED)
            while sent < 1_000_000_000:
                sent += connection.send(chunk)
        assert sent < 300_000_000, "no more than max_body_bytes, max_drain_bytes and what the kernel holds"


def names(server: Server) -> None:
    picture = bombs.png(12, 12)
    files = [(name, picture) for name in NAMES]
    body, media_type = bombs.form(files, "image/png")
    send(server, body, media_type, PICTURES, 200, 400)
    send(server, bombs.zipped(NAMES, picture), "application/zip", PICTURES, 200)
    for name in NAMES:
        send(server, ROW, "application/json", {"model": name}, 400, 404, 414)
        rows = orjson.dumps([{"a": 1, "b": 2, "c": 3, name: 4}])
        send(server, rows, "application/json", NUMBERS, 422)
        inputs = {"inputs": [{"name": name, "datatype": "FP64", "shape": [1, 3], "data": [1, 2, 3]}]}
        assert server.client.post("/v2/models/numbers/infer", json=inputs).status_code == 200
        for path in (f"/models/{name}/drift", f"/v2/models/{name}/ready"):
            with connect(server) as connection:
                raw = path.encode().replace(b"\0", b"%00")
                connection.sendall(b"GET " + raw + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                assert connection.recv(15).split()[1] in (b"400", b"404", b"414")


def leaving(server: Server) -> None:
    body = b"a,b,c\n" + b"1,2,3\n" * 400_000
    media = {b"text/csv": b"application/x-ndjson", b"application/json": b"*/*", b"application/zip": b"text/csv"}
    for i in range(60):
        kind, accept = list(media.items())[i % 3]
        head = HEAD.replace(b"application/json", kind) + b"Accept: " + accept
        with connect(server) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset, not an end
            connection.sendall(head + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body[: i * 20_000])


def not_reading(server: Server) -> None:
    ask = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 300
    with contextlib.ExitStack() as stack:
        deaf = [stack.enter_context(connect(server)) for _ in range(10)]
        for one in deaf:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            one.sendall(ask)
        wait_for_rest(server, 1)
        assert open_connections(server) <= 1, "who reads nothing is cut off: the prober may be there"


ABUSES: dict[str, Callable[[Server], None]] = {
    "21 kB of PNG that open to 500 MB": images,
    "Parquet of 812 MB, counted once": parquet,
    "CSV with a million columns, an open quote": wide_csv,
    "npy headers of 10^12 values": arrays,
    "gzip, 486 kB to 500 MB": gzips,
    "gzip, 120 kB to JSON of 4 GB": grown_json,
    "NaN, Infinity, endless digits": numbers,
    "nested JSON": nested,
    "zip bombs": zips,
    "headers of 20 MB": large_headers,
    "1,000 idle connections": idle,
    "200 half headers": half_headers,
    "100 slow bodies": slow_bodies,
    "endless chunked bodies": endless_bodies,
    "names with .., NUL, 10,000 characters": names,
    "60 callers that leave mid-upload": leaving,
    "10 clients that do not read": not_reading,
}


@pytest.fixture(scope="module", autouse=True)
def enough_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4_096 if hard == resource.RLIM_INFINITY else min(4_096, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


def abuse(name: str, server: Server, before: Vitals) -> Vitals:
    """Once, and what is left of it."""
    ABUSES[name](server)
    wait_for_rest(server, before.connections + 1)
    return Vitals.of(server)


@pytest.mark.parametrize("name", ABUSES)
def test_the_server_answers_on_and_keeps_its_memory(name: str, abused: Server, rows: list[Row]) -> None:
    abused.client.close()
    abused.client = type(abused.client)(base_url=abused.url, timeout=120, headers={"connection": "close"})
    log_bytes = abused.log.stat().st_size
    forget_peak(abused)
    before = Vitals.of(abused)
    with probing(abused) as probe:
        once = abuse(name, abused, before)
        for _ in range(1, MOST_TIMES):
            again = abuse(name, abused, before)
            if again.rss_mb - once.rss_mb < MAX_GROWTH_MB:
                break
            once = again
    wait_for_rest(abused, before.connections)
    twice = Vitals.of(abused)
    rows.append(Row(name, before, once, twice, probe))

    assert abused.process.poll() is None
    assert abused.score(ROW, "application/json", model="numbers").status_code == 200
    assert b"Traceback" not in abused.log.read_bytes()[log_bytes:]
    assert not probe.failures
    assert probe.worst_ms < 1e3 * MAX_HEALTHZ_S
    assert twice.healthz_ms < 1e3 * MAX_HEALTHZ_AFTER_S
    assert twice.connections <= before.connections
    assert twice.rss_mb - once.rss_mb < MAX_GROWTH_MB
    assert twice.peak_mb - before.rss_mb < MAX_PEAK_MB
