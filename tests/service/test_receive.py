"""How requests are received, over real sockets: deadlines, bounds, visible refusals, a graceful end."""

import contextlib
import http.client
import inspect
import io
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

LIMITS = {
    "idle_timeout_s": 1, "header_timeout_s": 1, "body_idle_timeout_s": 1, "min_body_bytes_per_s": 2_000,
    "max_url_bytes": 1_000, "max_header_bytes": 4_000, "max_headers": 20, "max_body_bytes": 200_000,
    "max_drain_bytes": 20_000_000, "drain_timeout_s": 3, "max_connections": 400,
    "answer_idle_timeout_s": 2, "min_answer_bytes_per_s": 200_000,
}  # fmt: skip
SLACK_S = 1.5
"""A deadline strikes two sweeps late at most; the rest is for a busy machine."""
ROW = b"[[1,2,3]]"
HEAD = b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def strict(start, numeric_bundle: Path):  # type: ignore[no-untyped-def]
    server = start(numeric_bundle, **LIMITS)
    server.client = httpx.Client(base_url=server.url, limits=httpx.Limits(max_keepalive_connections=0))
    return server


@pytest.fixture(scope="module")
def keyed(start, key_file, numeric_bundle: Path):  # type: ignore[no-untyped-def]
    limits = {**LIMITS, "max_drain_bytes": 1_000_000, "max_connections": 10}
    return start(numeric_bundle, api_keys_file=key_file(k={}), **limits)


@pytest.fixture(autouse=True)
def no_traceback(strict) -> Iterator[None]:  # type: ignore[no-untyped-def]
    yield
    assert "Traceback" not in strict.log.read_text()
    assert strict.client.get("/healthz").status_code == 200


def connect(server) -> socket.socket:  # type: ignore[no-untyped-def]
    host, port = server.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=10)


def read_to_end(connection: socket.socket) -> bytes:
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


def parse(raw: bytes) -> tuple[int, dict[str, str], dict]:  # type: ignore[type-arg]
    """Status, headers and document of a last answer; 100 Continue before it is passed over."""
    raw = raw.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
    head, _, body = raw.partition(b"\r\n\r\n")
    line, *lines = head.decode().split("\r\n")
    return int(line.split()[1]), dict(one.lower().split(": ", 1) for one in lines), json.loads(body)


def refused(raw: bytes) -> tuple[int, str]:
    """Status and code of an error in the one shape, which says that the connection ends."""
    status, headers, document = parse(raw)
    assert headers["connection"] == "close"
    assert headers["content-type"] == "application/json"
    assert document["error"].keys() == {"code", "message", "where"}
    return status, document["error"]["code"]


def drip(connection: socket.socket, data: bytes, every_s: float, stop: threading.Event) -> None:
    with contextlib.suppress(OSError):
        while not stop.wait(every_s):
            connection.sendall(data)


@pytest.mark.parametrize(("first", "dripped", "every_s"), [
    pytest.param(b"", b"", 0, id="silence"),
    pytest.param(b"POST /score HTTP/1.1\r\nHos", b"", 0, id="half a header"),
    pytest.param(b"GET /healthz HTTP/1.1\r\nA: ", b"a", 0.1, id="a byte of header every 100 ms"),
    pytest.param(b"", b"\r\n", 0.1, id="empty lines before the first request"),
    pytest.param(HEAD + b"Content-Length: 1000\r\n\r\n[[", b"", 0, id="a stalled body"),
    pytest.param(HEAD + b"Content-Length: 1000\r\nExpect: 100-Continue\r\n\r\n", b"", 0, id="a body asked for"),
    pytest.param(HEAD + b"Content-Length: 9000\r\n\r\n[[", b" " * 50, 0.1, id="a trickling body"),
    pytest.param(CHUNKED, b"1\r\n \r\n", 0.1, id="trickling chunks"),
    pytest.param(CHUNKED + b"1;a=", b"b" * 300, 0.1, id="an endless chunk extension"),
])  # fmt: skip
def test_whoever_takes_too_long_is_told_so_in_time(strict, first: bytes, dripped: bytes, every_s: float) -> None:
    stop = threading.Event()
    with connect(strict) as connection:
        started = time.monotonic()
        connection.sendall(first)
        dripping = threading.Thread(target=drip, args=(connection, dripped, every_s, stop))
        if dripped:
            dripping.start()
        answer = read_to_end(connection)
        took = time.monotonic() - started
        stop.set()
        if dripped:
            dripping.join()
    assert refused(answer) == (408, "request_timeout")
    assert 0.9 < took < 1 + SLACK_S


def test_silence_after_an_answer_is_ended_without_a_word(strict) -> None:
    with connect(strict) as connection:
        connection.sendall(GET)
        started = time.monotonic()
        assert read_to_end(connection).count(b"HTTP/1.1") == 1
        assert 0.9 < time.monotonic() - started < 1 + SLACK_S


def taken(connection: socket.socket, bytes_per_s: int, seconds: float) -> int:
    """What was read in so long at that rate, and then to the end at once."""
    size, until = 0, time.monotonic() + seconds
    with contextlib.suppress(ConnectionResetError):
        while time.monotonic() < until and (part := connection.recv(bytes_per_s // 10)):
            size += len(part)
            time.sleep(0.1)
        while part := connection.recv(1 << 20):
            size += len(part)
    return size


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bytes_per_s", "cut"),
    [
        pytest.param(100, True, id="nearly nothing"),
        pytest.param(50_000, True, id="a quarter of the least rate"),
        pytest.param(1_000_000, False, id="five times the least rate"),
    ],
)
def test_who_reads_an_answer_too_slowly_is_cut_off(strict, bytes_per_s: int, cut: bool) -> None:
    """More than the kernel takes. Once any byte that was read began the time anew."""
    body = b"[" + b"[1,2,3]," * 24_000 + b"[1,2,3]]"
    with connect(strict) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        connection.sendall(HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        answer = connection.recv(4_096)
        whole = int(re.findall(rb"(?i)content-length: (\d+)", answer)[0])
        assert whole > 4_000_000
        read = len(answer) + taken(connection, bytes_per_s, 6)
    assert (read < whole) == cut


def test_few_requests_of_a_connection_wait_and_those_that_do_are_answered(strict) -> None:
    with connect(strict) as connection:
        connection.sendall(GET * 9)
        assert [parse(answer)[0] for answer in answers_on(connection, 9)] == [200] * 9
        connection.sendall(GET * 5_000)
        answer = read_to_end(connection)
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"200"] * 9 + [b"429"]
    assert refused(answer[answer.rindex(b"HTTP/1.1 ") :]) == (429, "too_many_pipelined")


def test_pipelined_requests_that_nobody_reads_the_answers_of_take_no_memory(strict) -> None:
    """110 connections of 1 MB each took 4 GB."""
    pipeline = GET.replace(b"/healthz", b"/") * 25_000
    before = strict.metric("process_resident_memory_bytes")
    with contextlib.ExitStack() as stack:
        for _ in range(110):
            connection = stack.enter_context(connect(strict))
            connection.setblocking(False)
            with contextlib.suppress(OSError):  # what the kernel takes
                for start in range(0, len(pipeline), 100_000):
                    connection.send(pipeline[start : start + 100_000])
        slowest, until = 0.0, time.monotonic() + 2
        while time.monotonic() < until:
            started = time.monotonic()
            assert httpx.get(f"{strict.url}/healthz").status_code == 200
            slowest = max(slowest, time.monotonic() - started)
        assert strict.metric("process_resident_memory_bytes") - before < 100e6
    assert slowest < 0.25


def test_endless_chunks_are_cut_where_a_body_may_not_be_longer(strict) -> None:
    with connect(strict) as connection:
        connection.sendall(CHUNKED)
        stop = threading.Event()
        dripping = threading.Thread(target=drip, args=(connection, b"1000\r\n" + b" " * 4096 + b"\r\n", 0.001, stop))
        dripping.start()
        answer = read_to_end(connection)
        stop.set()
        dripping.join()
    assert refused(answer) == (413, "body_too_large")


def test_a_slow_upload_above_the_least_rate_succeeds(strict) -> None:
    """4 s, four times each timeout, at twice the rate; with pauses shorter than a timeout."""
    body = b" " * 16_000 + ROW
    with connect(strict) as connection:
        connection.sendall(HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body))
        for start in range(0, len(body), 2_000):
            connection.sendall(body[start : start + 2_000])
            time.sleep(0.5)
        assert parse(read_to_end(connection))[0] == 200


def test_connections_are_kept_over_pauses_and_pipelined_requests_answered_in_order(strict) -> None:
    connection = http.client.HTTPConnection(strict.url.removeprefix("http://"), timeout=10)
    connection.connect()
    first = connection.sock
    for _ in range(4):
        connection.request("POST", "/score", ROW, {"Content-Type": "application/json"})
        assert connection.getresponse().read().startswith(b'{"model"')
        time.sleep(0.6)
    assert connection.sock is first
    connection.close()
    score = HEAD + b"Content-Length: %d\r\n\r\n" % len(ROW) + ROW
    lost = b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with connect(strict) as raw:
        raw.sendall(score + GET + lost + score + GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        statuses = re.findall(rb"HTTP/1.1 (\d+)|\"(n_calibration|status|not_found)\"", read_to_end(raw))
    seen = [(status or word).decode() for status, word in statuses]
    score_seen, get_seen = ["200", "n_calibration"], ["200", "status"]
    assert seen == [*score_seen, *get_seen, "404", "not_found", *score_seen, *get_seen]


def test_what_is_malformed_after_a_good_request_does_not_take_its_answer(strict) -> None:
    score = HEAD + b"Content-Length: %d\r\n\r\n" % len(ROW) + ROW
    with connect(strict) as connection:
        connection.sendall(score + b"nonsense\r\n\r\n")
        answer = read_to_end(connection)
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"200", b"400"]
    assert answer.index(b"n_calibration") < answer.index(b"http_malformed")


LONG = b"x" * 3_959  # with the names, the target and four bytes a header 4,000


@pytest.mark.parametrize(("head", "expected"), [
    (b"GET /healthz?%s HTTP/1.1\r\nHost: x\r\n" % (b"q" * 991), (200, "ok")),
    (b"GET /healthz?%s HTTP/1.1\r\nHost: x\r\n" % (b"q" * 992), (414, "url_too_long")),
    (b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 18, (200, "ok")),
    (b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 19, (431, "headers_too_large")),
    (b"GET /healthz HTTP/1.1\r\nHost: x\r\nA: " + LONG + b"\r\n", (200, "ok")),
    (b"GET /healthz HTTP/1.1\r\nHost: x\r\nA: " + LONG + b"x" + b"\r\n", (431, "headers_too_large")),
    (b"GET /healthz HTTP/1.1\r\nHost: x\r\nA: " + b"y" * 2_000_000, (431, "headers_too_large")),
    (b"GET /" + b"y" * 2_000_000, (414, "url_too_long")),
    (CHUNKED + b"1\r\n \r\n0\r\nTrailer: " + b"y" * 2_000_000, (431, "headers_too_large")),
])  # fmt: skip
def test_the_request_line_and_headers_are_bounded(strict, head: bytes, expected: tuple[int, str]) -> None:
    for pieces in ([head], [head[i : i + 700] for i in range(0, min(len(head), 10_000), 700)]):
        with connect(strict) as connection:
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(0.002 if len(pieces) > 1 else 0)
            connection.sendall(b"Connection: close\r\n\r\n")
            answer = read_to_end(connection)
        if expected[0] == 200:
            assert parse(answer)[0] == 200
        else:
            assert refused(answer) == expected


@pytest.mark.parametrize("head", [
    b"nonsense\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHo st: x\r\n\r\n",
    b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET http:// HTTP/1.1\r\nHost: x\r\n\r\n",
    HEAD + b"Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 9\r\n\r\n0\r\n\r\n",
    HEAD + b"Content-Length: 9\r\nContent-Length: 10\r\n\r\n" + ROW,
    HEAD + b"Content-Length: -1\r\n\r\n" + ROW,
    HEAD + b"Content-Length: +9\r\n\r\n" + ROW,
    HEAD + b"Content-Length: 99999999999999999999999\r\n\r\n" + ROW,
    CHUNKED + b"fffffffffffffffff\r\n" + ROW,
    CHUNKED + b"-1\r\n" + ROW,
    HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
])  # fmt: skip
def test_what_is_not_http_or_could_smuggle_a_request_is_refused(strict, head: bytes) -> None:
    with connect(strict) as connection:
        connection.sendall(head + GET)
        assert refused(read_to_end(connection)) == (400, "http_malformed")


BIG = 8_000_000
REFUSALS = [
    ("/score", {}, 413, "body_too_large"),
    ("/nowhere", {}, 404, "not_found"),
    ("/score?model=other", {}, 404, "model_not_found"),
    ("/score", {"Content-Type": "text/html"}, 415, "unsupported_media_type"),
    ("/score", {"Content-Encoding": "br"}, 415, "unsupported_encoding"),
]


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize(("path", "headers", "status", "code"), REFUSALS)
def test_a_client_that_sends_on_sees_why_it_is_refused(strict, path, headers, status, code, chunked: bool) -> None:
    headers = {"Content-Type": "text/csv", **headers}
    parts = [b"x" * 1_000_000] * (BIG // 1_000_000)
    connection = http.client.HTTPConnection(strict.url.removeprefix("http://"), timeout=10)
    body = iter(parts) if chunked else b"".join(parts)
    connection.request("POST", path, body, headers, encode_chunked=chunked)
    seen = connection.getresponse()
    assert (seen.status, json.loads(seen.read())["error"]["code"]) == (status, code)
    connection.close()
    answer = httpx.post(f"{strict.url}{path}", content=iter(parts) if chunked else b"".join(parts), headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_a_missing_key_is_seen_and_what_is_dropped_is_bounded(keyed) -> None:
    for size in (500_000, 900_000):
        connection = http.client.HTTPConnection(keyed.url.removeprefix("http://"), timeout=10)
        connection.request("POST", "/score", b"x" * size)
        assert connection.getresponse().status == 401
        connection.close()
    sent = 0
    with connect(keyed) as raw:
        raw.sendall(HEAD + b"Content-Length: 1000000000\r\n\r\n")
        with contextlib.suppress(OSError):
            while True:
                sent += raw.send(b"x" * 65_536)
    assert sent < 1_000_000 + 20_000_000, "no more than was taken and what the kernel holds"


def test_nobody_is_asked_for_a_body_that_is_refused_anyway(keyed) -> None:
    heads = [
        b"Content-Length: 100\r\n",
        b"Authorization: Bearer k\r\nContent-Length: 100000000\r\n",
        b"Authorization: Bearer k\r\nContent-Length: 100\r\nContent-Encoding: br\r\n",
    ]
    for head, status in zip(heads, (401, 413, 415), strict=True):
        with connect(keyed) as connection:
            connection.sendall(HEAD + head + b"Expect: 100-continue\r\n\r\n")
            answer = read_to_end(connection)
        assert b"100 Continue" not in answer
        assert refused(answer)[0] == status


def test_a_body_cut_at_every_byte_leaves_nothing_behind(strict) -> None:
    body = b" " * 1_000 + ROW
    request = HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body

    def held() -> tuple[float, float]:
        return strict.metric("process_open_fds"), strict.metric("process_resident_memory_bytes")

    def cut() -> None:
        for length in range(len(request) - len(body), len(request)):
            with connect(strict) as connection:
                connection.sendall(request[:length])
            if length % 100 == 0:
                time.sleep(0.1)  # a burst of more than max_connections would be another test
        time.sleep(0.3)

    cut()
    before = held()
    cut()
    after = held()
    assert after[0] <= before[0] + 2
    assert after[1] - before[1] < 5_000_000


def test_half_open_connections_do_not_keep_a_good_client_from_an_answer(strict) -> None:
    before = strict.metric('elbound_requests_total{method="other",route="unmatched",status="408"}')
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(connect(strict)) for _ in range(300)]
        for connection in connections:
            connection.sendall(HEAD[:20])
        started = time.monotonic()
        assert strict.score(ROW, "application/json").status_code == 200
        assert time.monotonic() - started < 1
        assert {refused(read_to_end(connection)) for connection in connections} == {(408, "request_timeout")}
    after = strict.metric('elbound_requests_total{method="other",route="unmatched",status="408"}')
    assert after == before + 300


def test_a_request_ended_within_its_body_is_counted_under_its_route(strict) -> None:
    names = [f'elbound_requests_total{{method="POST",route="/score",status="{status}"}}' for status in (400, 408)]
    before = [strict.metric(name) for name in names]
    with connect(strict) as bad, connect(strict) as slow:
        bad.sendall(CHUNKED + b"xyz\r\n")
        slow.sendall(HEAD + b"Content-Length: 9\r\n\r\n")
        assert (refused(read_to_end(bad))[0], refused(read_to_end(slow))[0]) == (400, 408)
    assert [strict.metric(name) for name in names] == [count + 1 for count in before]


def test_connections_are_bounded(keyed) -> None:
    keyed.client.close()  # its own connections count as well
    time.sleep(0.2)
    with contextlib.ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(connect(keyed)).sendall(b"GET")
        time.sleep(0.2)
        with connect(keyed) as one_more:
            one_more.sendall(GET)
            answer = read_to_end(one_more)
        assert refused(answer) == (503, "too_many_connections")
        assert parse(answer)[1]["retry-after"] == "1"
    time.sleep(0.2)
    assert httpx.get(f"{keyed.url}/healthz").status_code == 200


@pytest.mark.slow
def test_a_stop_closes_what_is_idle_and_ends_what_is_half_sent(start, numeric_bundle: Path) -> None:
    server = start(numeric_bundle, shutdown_grace_s=2)
    body = b" " * 5_000 + ROW
    head = HEAD + b"Content-Length: %d\r\n\r\n" % len(body)
    with connect(server) as idle, connect(server) as half, connect(server) as stalled, connect(server) as honest:
        idle.sendall(GET)
        while not idle.recv(65536).endswith(b"}"):
            pass
        half.sendall(b"GET /healthz HTTP/1.1\r\nHos")
        for one in (stalled, honest):
            one.sendall(head + body[:1_000])
        time.sleep(0.3)
        server.process.terminate()
        started = time.monotonic()
        assert read_to_end(idle) == b""
        assert refused(read_to_end(half)) == (503, "stopping")
        assert time.monotonic() - started < 1
        honest.sendall(body[1_000:])
        status, headers, _ = parse(read_to_end(honest))
        assert (status, headers["connection"]) == (200, "close")
        assert refused(read_to_end(stalled)) == (503, "stopping")
        assert 1.9 < time.monotonic() - started < 2 + SLACK_S
    assert server.process.wait(10) == 0
    log = server.log.read_text()
    assert "Traceback" not in log
    assert "ERROR" not in log


def test_a_stop_ends_a_computation_that_takes_too_long(start, image_bundle: Path) -> None:
    server = start(image_bundle, shutdown_grace_s=0)
    packed = io.BytesIO()
    np.save(packed, np.zeros((60_000, 12, 12), np.uint8))
    body = packed.getvalue()
    head = HEAD.replace(b"application/json", b"application/x-npy") + b"Content-Length: %d\r\n\r\n" % len(body)
    with connect(server) as connection:
        connection.sendall(head + body)
        time.sleep(0.5)
        server.process.terminate()
        assert refused(read_to_end(connection)) == (503, "stopping")
    assert server.process.wait(20) == 0
    assert "Traceback" not in server.log.read_text()


UPGRADES = {
    "h2c": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n",  # Java's HttpClient
    "websocket": b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n",
    "unknown": b"upgrade: x/1\r\nconnection: upgrade\r\n",
}


def answers_on(connection: socket.socket, count: int) -> list[bytes]:
    """So many answers with a Content-Length, one after the other."""
    seen, found = b"", list[bytes]()
    while len(found) < count:
        head, end, body = seen.partition(b"\r\n\r\n")
        size = int(re.findall(rb"(?i)content-length: (\d+)", head)[0]) if end else 0
        if end and len(body) >= size:
            found.append(head + end + body[:size])
            seen = body[size:]
        else:
            data = connection.recv(65_536)
            assert data, (count, found, seen)
            seen += data
    assert not seen
    return found


@pytest.mark.parametrize("upgrade", UPGRADES.values(), ids=UPGRADES)
@pytest.mark.parametrize("cut", ["whole", "in two packets", "byte by byte"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_an_upgrade_is_ignored_and_the_body_is_read_as_it_is_framed(strict, upgrade, cut, framing) -> None:
    """The body is a request: taken for the next one it would be answered, with 404."""
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    for body, status in ((ROW, 200), (smuggled, 400)):
        if framing == "length":
            request = HEAD + upgrade + b"Content-Length: %d\r\n\r\n" % len(body) + body
        else:
            request = HEAD + upgrade + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        head = request.index(b"\r\n\r\n") + 4
        packets = {
            "whole": [request],
            "in two packets": [request[:head], request[head:]],
            "byte by byte": [request[i : i + 1] for i in range(len(request))],
        }[cut]
        with connect(strict) as connection:
            for packet in packets:
                connection.sendall(packet)
                if cut == "in two packets":
                    time.sleep(0.05)
            assert parse(answers_on(connection, 1)[0])[0] == status
            connection.sendall(GET)
            assert parse(answers_on(connection, 1)[0])[0] == 200


@pytest.mark.parametrize("upgrade", UPGRADES.values(), ids=UPGRADES)
def test_pipelined_requests_with_an_upgrade_are_answered_in_their_order(strict, upgrade) -> None:
    asks = GET[:-2] + upgrade + b"\r\n"
    body = HEAD + upgrade + b"Content-Length: 3\r\n\r\n[1]"
    with connect(strict) as connection:
        connection.sendall(asks + body + GET + asks + GET)
        statuses = [parse(answer)[0] for answer in answers_on(connection, 5)]
    assert statuses == [200, 422, 200, 200, 200]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (b"Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", (400, "http_malformed")),
        (b"Content-Length: 3\r\nContent-Length: 4\r\n\r\n[1]", (400, "http_malformed")),
        (b"X: %b\r\n\r\n" % (b"x" * 70_000), (431, "headers_too_large")),
    ],
)
def test_what_is_refused_is_refused_with_an_upgrade_too(strict, headers: bytes, expected: tuple[int, str]) -> None:
    with connect(strict) as connection:
        connection.sendall(HEAD + UPGRADES["h2c"] + headers)
        assert refused(read_to_end(connection)) == expected


def test_an_upgrade_may_close_the_connection(strict) -> None:
    with connect(strict) as connection:
        connection.sendall(GET[:-2] + b"Connection: close, Upgrade\r\nUpgrade: h2c\r\n\r\n")
        assert parse(read_to_end(connection))[0] == 200


def test_uvicorn_is_built_as_this_relies_on() -> None:
    """Private parts of uvicorn; where another version lacks one, receiving must be looked at again."""
    protocol, cycle = inspect.getsource(HttpToolsProtocol), inspect.getsource(RequestResponseCycle)
    for piece in (
        "self.cycle = RequestResponseCycle(",
        "message_event=asyncio.Event()",
        "on_response=self.on_response_complete",
        "self._start_asgi_task(self.cycle, app)",
        "self.pipeline.appendleft((self.cycle, app))",
        "self.cycle.message_event.set()",
        "self.loop.create_task(",
    ):
        assert piece in protocol, piece
    for piece in (
        "await self.message_event.wait()",
        "self.flow.resume_reading()",
        "self.transport.write(",
        "if not self.keep_alive:\n                    self.transport.close()",
        "if self.disconnected:\n            return",
        "self.response_started = True",
    ):
        assert piece in cycle, piece
    for name in ("_start_asgi_task", "on_response_complete", "shutdown"):
        assert callable(getattr(HttpToolsProtocol, name))
    assert {"pause_reading", "resume_reading"} <= set(dir(FlowControl))
