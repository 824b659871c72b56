"""Where a request begins and ends: malformed and strange bytes, to our protocol and to plain uvicorn, before one app.

Whoever makes two servers of a chain see different requests in the same bytes smuggles one past the first. What plain
uvicorn on httptools makes of the bytes is compared with what we make of them: never more requests, the same bodies,
and fewer only for a reason in `WHY_FEWER`.
"""

import contextlib
import random
import re
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise, product
from typing import Any

import orjson
import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from service.http.protocol import Reception
from service.settings import Settings

NEXT = b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n"
"""Follows every case: who takes it for a part of the body, or a part of the body for it, shows."""
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
QUIET_S = 1.0
"""All answers are there by then: every connection of a round has been sent its bytes at once."""
CHUNKS = b"5\r\nhello\r\n0\r\n\r\n"
LONG = 40_000

WHY_FEWER = {
    ("transfer_coding_unsupported", "transfer-encoding"): "a coding that is not undone here would be read as the body",
    ("http_malformed", "transfer-encoding"): "HTTP/1.0 has no chunks (RFC 9112, 6.1)",
    ("http_malformed", "host"): "one Host header (RFC 9112, 3.2); two may be routed by one and answered by the other",
    ("http_malformed", "version"): "HTTP/0.9 has no headers and HTTP/2 another form",
    ("too_many_pipelined", None): "each request that waits costs memory",
    ("headers_too_large", "headers"): "httptools has no bound",
    ("url_too_long", "url"): "httptools has no bound",
}

FRAMINGS = {
    "none": (b"", b""),
    "length": (b"Content-Length: 5\r\n", b"hello"),
    "length of a smuggled request": (b"Content-Length: %d\r\n" % len(SMUGGLED), SMUGGLED),
    "length 0": (b"Content-Length: 0\r\n", b""),
    "length 00005": (b"Content-Length: 00005\r\n", b"hello"),
    "length +5": (b"Content-Length: +5\r\n", b"hello"),
    "length -5": (b"Content-Length: -5\r\n", b"hello"),
    "length 0x5": (b"Content-Length: 0x5\r\n", b"hello"),
    "length 5.0": (b"Content-Length: 5.0\r\n", b"hello"),
    "length 5e0": (b"Content-Length: 5e0\r\n", b"hello"),
    "length 5 5": (b"Content-Length: 5 5\r\n", b"hello"),
    "length 5, 5": (b"Content-Length: 5, 5\r\n", b"hello"),
    "length 5,": (b"Content-Length: 5,\r\n", b"hello"),
    "length with blanks": (b"Content-Length: \t 5 \t\r\n", b"hello"),
    "length empty": (b"Content-Length:\r\n", b"hello"),
    "length of 23 digits": (b"Content-Length: 99999999999999999999999\r\n", b"hello"),
    "length in other digits": ("Content-Length: \u0665\r\n".encode(), b"hello"),
    "length twice, the same": (b"Content-Length: 5\r\nContent-Length: 5\r\n", b"hello"),
    "length twice": (b"Content-Length: 5\r\nContent-Length: 6\r\n", b"hello"),
    "length folded": (b"Content-Length:\r\n 5\r\n", b"hello"),
    "length before a colon": (b"Content-Length : 5\r\n", b"hello"),
    "length, underscore": (b"Content_Length: 5\r\n", b""),
    "length, NUL": (b"Content-Length: 5\0\r\n", b"hello"),
    "chunked": (b"Transfer-Encoding: chunked\r\n", CHUNKS),
    "chunked, a smuggled request": (
        b"Transfer-Encoding: chunked\r\n",
        b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED),
    ),
    "CHUNKED": (b"TRANSFER-ENCODING: CHUNKED\r\n", CHUNKS),
    "chunked with blanks": (b"Transfer-Encoding: \t chunked \t\r\n", CHUNKS),
    "chunked,": (b"Transfer-Encoding: chunked,\r\n", CHUNKS),
    ", chunked": (b"Transfer-Encoding: , chunked\r\n", CHUNKS),
    "gzip, chunked": (b"Transfer-Encoding: gzip, chunked\r\n", CHUNKS),
    "gzip,chunked": (b"Transfer-Encoding: gzip,chunked\r\n", CHUNKS),
    "gzip": (b"Transfer-Encoding: gzip\r\n", CHUNKS),
    "chunked, gzip": (b"Transfer-Encoding: chunked, gzip\r\n", CHUNKS),
    "identity": (b"Transfer-Encoding: identity\r\n", CHUNKS),
    "identity with a length": (b"Transfer-Encoding: identity\r\nContent-Length: 5\r\n", b"hello"),
    "identity, chunked": (b"Transfer-Encoding: identity, chunked\r\n", CHUNKS),
    "chunked, chunked": (b"Transfer-Encoding: chunked, chunked\r\n", CHUNKS),
    "chunked twice": (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", CHUNKS),
    "chunked and identity": (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", CHUNKS),
    "identity and chunked": (b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n", CHUNKS),
    "chunked;q=1": (b"Transfer-Encoding: chunked;q=1\r\n", CHUNKS),
    '"chunked"': (b'Transfer-Encoding: "chunked"\r\n', CHUNKS),
    "xchunked": (b"Transfer-Encoding: xchunked\r\n", CHUNKS),
    "chunkedx": (b"Transfer-Encoding: chunkedx\r\n", CHUNKS),
    "coding empty": (b"Transfer-Encoding:\r\n", CHUNKS),
    "chunked after a vertical tab": (b"Transfer-Encoding: \x0bchunked\r\n", CHUNKS),
    "chunked folded": (b"Transfer-Encoding:\r\n chunked\r\n", CHUNKS),
    "chunked after a fold": (b"X: y\r\n Transfer-Encoding: chunked\r\n", CHUNKS),
    "chunked before a colon": (b"Transfer-Encoding : chunked\r\n", CHUNKS),
    "chunked, tab before a colon": (b"Transfer-Encoding\t: chunked\r\n", CHUNKS),
    "chunked, underscore": (b"Transfer_Encoding: chunked\r\n", b""),
    "chunked, bare CR": (b"X: y\rTransfer-Encoding: chunked\r\n", CHUNKS),
    "chunked, bare LF": (b"X: y\nTransfer-Encoding: chunked\r\n", CHUNKS),
    "chunked, NUL": (b"Transfer-Encoding: chunked\0\r\n", CHUNKS),
    "chunked and length": (b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", CHUNKS),
    "length and chunked": (b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", CHUNKS),
    "no colon": (b"Content-Length\r\n", b"hello"),
    "no name": (b": 5\r\n", b"hello"),
}
CODED = {
    "extension": b"5;a=b\r\nhello\r\n0;c\r\n\r\n",
    "quoted extension": b'5;a="b\\"c"\r\nhello\r\n0\r\n\r\n',
    "extension with a request": b"5;GET /smuggled HTTP/1.1\r\nhello\r\n0\r\n\r\n",
    "extension with LF": b"5;a\nhello\r\n0\r\n\r\n",
    "LF for CRLF": b"5\nhello\n0\n\n",
    "CR for CRLF": b"5\rhello\r0\r\r",
    "zeros before": b"0000000005\r\nhello\r\n000\r\n\r\n",
    "capitals": b"A\r\nhellohello\r\n0\r\n\r\n",
    "blank after the size": b"5 \r\nhello\r\n0\r\n\r\n",
    "blank before the size": b" 5\r\nhello\r\n0\r\n\r\n",
    "0x": b"0x5\r\nhello\r\n0\r\n\r\n",
    "negative": b"-5\r\nhello\r\n0\r\n\r\n",
    "17 digits": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    "no size": b"\r\nhello\r\n0\r\n\r\n",
    "chunk too long": b"5\r\nhello!\r\n0\r\n\r\n",
    "chunk too short": b"6\r\nhello\r\n0\r\n\r\n",
    "no end of a chunk": b"5\r\nhello0\r\n\r\n",
    "no last chunk": b"5\r\nhello\r\n",
    "no end after the last chunk": b"5\r\nhello\r\n0\r\n",
    "trailer": b"5\r\nhello\r\n0\r\nX: y\r\n\r\n",
    "trailer with a length": b"5\r\nhello\r\n0\r\nContent-Length: 50\r\n\r\n",
    "trailer with a coding": b"5\r\nhello\r\n0\r\nTransfer-Encoding: gzip\r\n\r\n",
    "trailer with a Host": b"5\r\nhello\r\n0\r\nHost: y\r\n\r\n",
    "trailer folded": b"5\r\nhello\r\n0\r\nX:\r\n y\r\n\r\n",
    "long trailer": b"5\r\nhello\r\n0\r\nX: %b\r\n\r\n" % (b"y" * LONG),
    "many small chunks": b"1\r\nh\r\n" * 500 + b"0\r\n\r\n",
}
LINES = {
    "absolute": b"POST http://x/a HTTP/1.1\r\n",
    "absolute, another host": b"POST http://y:1/a HTTP/1.1\r\n",
    "absolute, no path": b"POST http://x HTTP/1.1\r\n",
    "absolute, no host": b"POST http:// HTTP/1.1\r\n",
    "authority": b"POST x:80 HTTP/1.1\r\n",
    "asterisk": b"OPTIONS * HTTP/1.1\r\n",
    "two slashes": b"POST //x/a HTTP/1.1\r\n",
    "fragment": b"POST /a#b HTTP/1.1\r\n",
    "query": b"POST /a?b=%00&c HTTP/1.1\r\n",
    "NUL": b"POST /a\0b HTTP/1.1\r\n",
    "escaped line end": b"POST /a%0d%0aHost:%20y HTTP/1.1\r\n",
    "letters beyond ASCII": "POST /ä HTTP/1.1\r\n".encode(),
    "no slash": b"POST a HTTP/1.1\r\n",
    "no target": b"POST HTTP/1.1\r\n",
    "two blanks": b"POST  /a  HTTP/1.1\r\n",
    "tab": b"POST\t/a\tHTTP/1.1\r\n",
    "blank in the target": b"POST /a b HTTP/1.1\r\n",
    "blank after the version": b"POST /a HTTP/1.1 \r\n",
    "small letters": b"post /a HTTP/1.1\r\n",
    "unknown method": b"SCORE /a HTTP/1.1\r\n",
    "CONNECT": b"CONNECT x:1 HTTP/1.1\r\n",
    "HTTP/1.0": b"POST /a HTTP/1.0\r\n",
    "HTTP/0.9": b"POST /a HTTP/0.9\r\n",
    "HTTP/1.2": b"POST /a HTTP/1.2\r\n",
    "HTTP/2.0": b"POST /a HTTP/2.0\r\n",
    "HTTP/11": b"POST /a HTTP/11\r\n",
    "http/1.1": b"POST /a http/1.1\r\n",
    "no version": b"POST /a\r\n",
    "LF": b"POST /a HTTP/1.1\n",
    "CR": b"POST /a HTTP/1.1\r",
    "empty lines before": b"\r\n\r\n\r\nPOST /a HTTP/1.1\r\n",
    "LF before": b"\n\nPOST /a HTTP/1.1\r\n",
    "blank before": b" POST /a HTTP/1.1\r\n",
    "another request line": b"POST /a HTTP/1.1\r\nPOST /b HTTP/1.1\r\n",
    "long target": b"POST /%b HTTP/1.1\r\n" % (b"a" * LONG),
    "an answer": b"HTTP/1.1 200 OK\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}
HEADERS = {
    "as usual": b"Host: x\r\n",
    "no host": b"",
    "two hosts": b"Host: x\r\nHost: y\r\n",
    "empty host": b"Host:\r\n",
    "close": b"Host: x\r\nConnection: close\r\n",
    "keep-alive": b"Host: x\r\nConnection: keep-alive\r\n",
    "expect": b"Host: x\r\nExpect: 100-continue\r\n",
    "h2c": b"Host: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n",
    "websocket": b"Host: x\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n",
    "long": b"Host: x\r\nX: %b\r\n" % (b"y" * LONG),
    "many": b"Host: x\r\n" + b"X: y\r\n" * 150,
}
PIPELINES = {
    "4 requests": NEXT * 4,
    "9 requests": NEXT * 9,
    "300 requests": NEXT * 300,
    "300 requests with an upgrade": (NEXT[:-2] + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n") * 300,
    "bodies": (b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello") * 4,
    "after a close": NEXT[:-2] + b"Connection: close\r\n\r\n",
    "nonsense": NEXT + b"nonsense\r\n\r\n",
    "empty lines between": NEXT + b"\r\n\r\n",
}


def cases() -> dict[str, bytes]:
    """Strange bytes by name: lines, headers, framings and chunks, each with what may meet it."""
    usual, host = b"POST /a HTTP/1.1\r\n", HEADERS["as usual"]
    found = {f"pipeline: {name}": data for name, data in PIPELINES.items()}
    for (name, headers), (framed, (lines, body)) in product(HEADERS.items(), FRAMINGS.items()):
        if name in ("as usual", "h2c", "close", "keep-alive") or framed in ("none", "length", "chunked"):
            found[f"{name}: {framed}"] = usual + headers + lines + b"\r\n" + body
    for name, body in CODED.items():
        for kind in ("as usual", "websocket"):
            found[f"chunks, {kind}: {name}"] = usual + HEADERS[kind] + FRAMINGS["chunked"][0] + b"\r\n" + body
    for (name, line), framed in product(LINES.items(), ("none", "length", "chunked")):
        lines, body = FRAMINGS[framed]
        found[f"line: {name}, {framed}"] = line + host + lines + b"\r\n" + body
    return {name: data + NEXT for name, data in found.items()}


CASES = cases()


@dataclass
class Seen:
    """A request as the application saw it; `body` is None where it did not end."""

    method: str
    path: str
    body: bytes | None = None


@dataclass
class Echo:
    """An ASGI application that answers with the body, and keeps what came from which port."""

    seen: dict[int, list[Seen]] = field(default_factory=lambda: defaultdict(list))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        one = Seen(scope["method"], scope["raw_path"].decode())
        self.seen[scope["client"][1]].append(one)
        body, message = b"", {"more_body": True}
        while message.get("more_body"):
            message = dict(await receive())
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
        one.body = body
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def received(one: socket.socket) -> bytes:
    """What has come by now."""
    one.setblocking(False)
    try:
        return one.recv(1 << 20)
    except OSError:
        return b""


def ask(address: tuple[str, int], sent: dict[str, list[bytes]]) -> dict[str, tuple[int, bytes]]:
    """By name the port that each was sent from, in pieces apart from each other, and what was answered."""
    found = {}
    with contextlib.ExitStack() as stack:
        opened = {name: stack.enter_context(socket.create_connection(address)) for name in sent}
        for one in opened.values():
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for turn in range(max(map(len, sent.values()))):
            for name, pieces in sent.items():
                with contextlib.suppress(OSError):  # refused and closed already
                    if turn < len(pieces):
                        opened[name].sendall(pieces[turn])
            time.sleep(0.02)
        answers = dict.fromkeys(sent, b"")
        last = time.monotonic()
        while time.monotonic() < last + QUIET_S:
            for name, one in opened.items():
                if part := received(one):
                    answers[name] += part
                    last = time.monotonic()
            time.sleep(0.02)
        for name, one in opened.items():
            found[name] = one.getsockname()[1], answers[name]
    return found


class Served:
    """An `Echo` behind a protocol, in a thread of its own."""

    def __init__(self, **options: Any) -> None:
        self.echo = Echo()
        config = uvicorn.Config(
            self.echo,
            loop="asyncio",
            ws="none",
            log_level="critical",
            lifespan="off",
            log_config=None,
            access_log=False,
            **options,
        )
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=2_048)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, args=([self.listener],))
        self.thread.start()

    def ask(self, sent: dict[str, list[bytes]]) -> dict[str, tuple[list[Seen], bytes]]:
        """What the application saw and what was answered of each."""
        self.echo.seen.clear()  # a port may come again
        answered = ask(self.listener.getsockname(), sent)
        return {name: (self.echo.seen.get(port, []), answers) for name, (port, answers) in answered.items()}

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(20)
        self.listener.close()


@pytest.fixture(scope="module")
def plain() -> Iterator[Served]:
    served = Served(http="httptools")
    yield served
    served.stop()


@pytest.fixture(scope="module")
def ours() -> Iterator[Served]:
    reception = Reception(Settings(shutdown_grace_s=1), lambda _: None, lambda: None)
    served = Served(http=reception.protocol, timeout_graceful_shutdown=2)
    yield served
    served.stop()


def refusal(answers: bytes) -> tuple[str, str | None] | None:
    """Code and place of the error in the last answer, if it is one of ours."""
    found = re.findall(rb'{"error":.*}$', answers)
    if not found:
        return None
    error = orjson.loads(found[0])["error"]
    return error["code"], error["where"]


def ignored(data: bytes) -> bytes:
    """Without an Upgrade, after which plain uvicorn drops the rest of a packet, and takes the next for a request."""
    return data.replace(b"Upgrade", b"Ignored")


def test_there_are_many_cases() -> None:
    assert len(CASES) > 400


def test_no_request_is_seen_that_plain_uvicorn_does_not_see(plain: Served, ours: Served) -> None:
    expected = plain.ask({name: [ignored(data)] for name, data in CASES.items()})
    found = ours.ask({name: [data] for name, data in CASES.items()})
    reasons = set()
    for name, (seen, answers) in found.items():
        theirs, _ = expected[name]
        assert len(seen) <= len(theirs), name
        assert not any("smuggled" in one.path for one in seen), name
        if seen != theirs:
            reason = refusal(answers)
            assert reason in WHY_FEWER, (name, seen, theirs, answers)
            assert seen == theirs[: len(seen)], name
            reasons.add(reason)
    assert reasons == WHY_FEWER.keys(), "each reason is met"


@pytest.mark.parametrize("seed", range(3))
def test_how_the_bytes_arrive_does_not_matter(ours: Served, seed: int) -> None:
    """Cut at up to six places, by chance; but for what is bounded by reads: long trailers and pipelines."""
    draw = random.Random(seed)
    whole = {
        name: data for name, data in CASES.items() if data.count(b"HTTP/1.1") <= 9 and not name.endswith("long trailer")
    }
    pieces = {}
    for name, data in whole.items():
        cuts = [0, *sorted(draw.sample(range(len(data)), min(6, len(data)))), len(data)]
        pieces[name] = [data[start:end] for start, end in pairwise(cuts)]
    at_once, in_pieces = ours.ask({name: [data] for name, data in whole.items()}), ours.ask(pieces)
    for name in whole:
        assert in_pieces[name][0] == at_once[name][0], (name, pieces[name])
        assert refusal(in_pieces[name][1]) == refusal(at_once[name][1]), name


@pytest.mark.slow
def test_the_server_answers_and_counts_no_more_requests_than_there_are(plain: Served, start, numeric_bundle) -> None:  # type: ignore[no-untyped-def]
    server = start(numeric_bundle)
    host, port = server.url.removeprefix("http://").split(":")

    def counted() -> float:
        lines = re.findall(r"^elbound_requests_total{.*} (\S+)$", server.client.get("/metrics").text, re.MULTILINE)
        return sum(map(float, lines))

    expected = plain.ask({name: [ignored(data)] for name, data in CASES.items()})
    before = counted()
    sent = {name: [data] for name, data in CASES.items()}
    answered = 0
    for name, answers in ask((host, int(port)), sent).items():
        found = re.findall(rb"HTTP/1\.1 (?!100)\d{3} ", answers[1])
        assert len(found) <= len(expected[name][0]) + (b"connection: close" in answers[1]), name
        answered += len(found)
    assert counted() == before + answered + 1, "the metrics were asked for as well"
    assert "Traceback" not in server.log.read_text()
