"""Small uploads and idle connections that would take all memory or all time: `make test-abuse` prints a table.

The server has its default limits, and an honest caller scores a row all the while.
"""

import contextlib
import gzip
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import orjson
import pytest

from service.settings import Settings
from tests.abuse import bombs
from tests.abuse.watch import Watch, memory_mb, watching
from tests.service.conftest import Server

FIXED_MB, DECODER_MB = 600, 100
"""Of the sum in docs/operations.md."""
ROOT = Path(__file__).parents[2]
DEFAULTS = Settings()
MAX_HEALTHZ_P99_MS = 250
MAX_ROW_MS = 1_000
NUMBERS, ROWS, PICTURES = "numbers", "rows", "pictures"
ARROW = "application/vnd.apache.arrow.stream"
PARQUET = "application/vnd.apache.parquet"
STREAMED = {"accept": "application/x-ndjson"}
HEAD = (
    "POST /score?model=numbers HTTP/1.1\r\nHost: localhost\r\nContent-Type: {media_type}\r\n"
    "Content-Length: {size}\r\n\r\n"
)
Attack = Callable[[Server], object]
"""What is sent is made before, so that making it does not slow down the honest caller, who is of the same process."""
GZIP = {"content-encoding": "gzip"}


def post(server: Server, body: bytes, media_type: str, model: str, **headers: str) -> int | None:
    """The status of an upload; None where the server ends it before."""
    stated = {"content-type": media_type, "connection": "close", **headers}
    with contextlib.suppress(httpx.TransportError):
        answer = httpx.post(f"{server.url}/score", content=body, params={"model": model}, headers=stated, timeout=120)
        assert answer.status_code != 500, answer.text[:500]
        return answer.status_code
    return None


def both(server: Server, body: bytes, media_type: str, model: str, *statuses: int, **headers: str) -> None:
    """The upload answered as JSON and as a stream: one of the `statuses`, or 503 where others hold the memory."""
    for more in ({}, STREAMED):
        status = post(server, body, media_type, model, **headers, **more)
        assert status in (503, *statuses), (status, media_type, more)


def connect(server: Server) -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=60)


def at_once(count: int, do: Callable[[], object]) -> None:
    """So many threads do the same; what one raises is raised."""
    failures: list[BaseException] = []

    def one() -> None:
        try:
            do()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def opened_arrow() -> Attack:
    bodies = [bombs.arrow(4_500_000_000, as_file=as_file) for as_file in (False, True)]
    return lambda server: [both(server, body, ARROW, NUMBERS, 400, 413, 422) for body in bodies]


def lying_footers() -> Attack:
    body = bombs.lying_parquet(20, 120_000_000)
    return lambda server: both(server, body, PARQUET, ROWS, 400, 413, 422)


def ragged_csv() -> Attack:
    bodies = [bombs.gzipped(b"x\n" * 1_000, 7_000), gzip.compress(b"a,b,c\n" + b"x\n" * 7_000_000)]
    return lambda server: [both(server, body, "text/csv", NUMBERS, 400, 413, 422, **GZIP) for body in bodies]


def tall_png() -> Attack:
    body = bombs.png(1, 63_999_999)
    return lambda server: [both(server, body, "image/png", PICTURES, 413, 422) for _ in range(2)]


def large_pngs() -> Attack:
    body = bombs.png(8_000, 8_000)
    return lambda server: at_once(8, lambda: post(server, body, "image/png", PICTURES))


def held_bodies() -> Attack:
    head = HEAD.format(media_type="text/csv", size=60 << 20).encode()
    piece = b"1,2,3\n" * 100_000

    def hold(server: Server) -> None:
        with connect(server) as connection, contextlib.suppress(OSError):
            connection.sendall(head)
            sent = 0
            while sent + len(piece) < 60 << 20:
                connection.sendall(piece)
                sent += len(piece)
            time.sleep(4)

    return lambda server: at_once(68, lambda: hold(server))


def large_json() -> Attack:
    rows = [[round(value, 2) for value in row] for row in np.random.default_rng(0).normal(size=(1_000, 3)).tolist()]
    text = orjson.dumps(rows)[1:-1] + b","
    body = gzip.compress(b"[" + text * (60_000_000 // len(text)) + b"[1,2,3]]", 1)
    return lambda server: at_once(14, lambda: post(server, body, "application/json", NUMBERS, **GZIP))


def slow_readers() -> Attack:
    body = orjson.dumps(np.zeros((30_000, 3)).tolist())
    head = HEAD.format(media_type="application/json", size=len(body)).encode()

    def read(server: Server) -> None:
        with connect(server) as connection, contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            connection.sendall(head + body)
            until = time.monotonic() + 8
            while time.monotonic() < until and connection.recv(10):
                time.sleep(0.1)

    return lambda server: at_once(60, lambda: read(server))


def pipelines() -> Attack:
    """110 connections of 1 MB of requests each, which read nothing."""
    ask = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"

    def send(server: Server) -> None:
        with connect(server) as connection, contextlib.suppress(OSError):
            connection.settimeout(3)
            connection.sendall(ask * (1_000_000 // len(ask)))
            time.sleep(2)

    return lambda server: at_once(110, lambda: send(server))


def chunky_pngs() -> Attack:
    body = gzip.compress(bombs.chunky_png(5_000_000))
    more = {**GZIP, "x-request-deadline-ms": "2000"}
    return lambda server: at_once(8, lambda: post(server, body, "image/png", PICTURES, **more))


def bad_lines() -> Attack:
    bodies = [b"{x}\n" * 100_000, b'{"a":"x","b":1,"c":1}\n' * 100_000]
    return lambda server: [both(server, body, "application/x-ndjson", NUMBERS, 422) for body in bodies]


def unique_keys() -> Attack:
    body = b"{" + b",".join(b'"%d":1' % i for i in range(4_000_000)) + b"}"
    return lambda server: both(server, body, "application/json", NUMBERS, 413, 422)


def opened_zip() -> Attack:
    body = bombs.zipped(["a.png"], bombs.MEGABYTE * 500)
    return lambda server: at_once(6, lambda: both(server, body, "application/zip", PICTURES, 413, 422))


def deep_json() -> Attack:
    body = b"[" * 20_000_000
    return lambda server: at_once(6, lambda: both(server, body, "application/json", NUMBERS, 400, 413, 422))


ATTACKS: dict[str, Callable[[], Attack]] = {
    "Arrow of 152 kB, opens to 4.5 GB": opened_arrow,
    "Parquet whose footer lies": lying_footers,
    "CSV of ragged rows, 14 kB as gzip": ragged_csv,
    "PNG of 1 x 63,999,999": tall_png,
    "8 PNG of 64 million pixels": large_pngs,
    "68 bodies of 60 MB held open": held_bodies,
    "14 JSON of 60 MB as gzip": large_json,
    "60 answers of 8 MB read at 100 bytes/s": slow_readers,
    "110 pipelines of 1 MB": pipelines,
    "8 PNG of 5 million chunks": chunky_pngs,
    "100,000 bad lines of NDJSON": bad_lines,
    "4 million names in one object": unique_keys,
    "zip of one image of 500 MB": opened_zip,
    "JSON of 20 million brackets": deep_json,
}
TOGETHER = (opened_arrow, large_json, chunky_pngs, held_bodies)


@pytest.fixture(scope="module")
def attacked(start, table_bundle, image_bundle, numeric_bundle, tmp_path_factory) -> Server:  # type: ignore[no-untyped-def]
    return start(table_bundle, image_bundle, numeric_bundle, spool_dir=tmp_path_factory.mktemp("spool"))


@pytest.mark.parametrize("name", ATTACKS)
def test_no_small_upload_takes_the_machine(name: str, attacked: Server, watches: list[Watch]) -> None:
    log_bytes = attacked.log.stat().st_size
    attack = ATTACKS[name]()
    with watching(attacked, name) as watch:
        attack(attacked)
    watches.append(watch)
    check(attacked, watch)
    assert b"Traceback" not in attacked.log.read_bytes()[log_bytes:]


def test_a_server_with_less_memory_keeps_to_the_documented_sum_too(  # type: ignore[no-untyped-def]
    start, table_bundle, image_bundle, numeric_bundle, watches: list[Watch]
) -> None:
    less = {"max_inflight_bytes": 200 << 20, "decoders": 1}
    server = start(table_bundle, image_bundle, numeric_bundle, **less)
    attacks = [prepare() for prepare in (large_json, held_bodies)]
    with watching(server, "200 MiB in flight, one decoder") as watch:
        for attack in attacks:
            attack(server)
    watches.append(watch)
    check(server, watch, Settings(**less))


def test_the_sum_is_documented_and_fits_what_deploy_allows() -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    needed = documented_mb(Settings())
    assert f"{FIXED_MB} MB + {DECODER_MB} MB x `decoders` + `max_inflight_bytes`" in text
    assert f"= {needed:,.0f} MB beside the models" in text
    assert needed < 1_500
    manifests = [ROOT / "deploy" / "kubernetes" / "deployment.yaml", ROOT / "deploy" / "kserve" / "elbound.yaml"]
    assert all("memory: 4Gi" in file.read_text(encoding="utf-8") for file in manifests)


def documented_mb(settings: Settings) -> float:
    return FIXED_MB + DECODER_MB * settings.decoders + settings.max_inflight_bytes / 1e6


def test_four_attackers_at_once(attacked: Server, watches: list[Watch]) -> None:
    attacks = [prepare() for prepare in TOGETHER]
    with watching(attacked, "four attackers at once") as watch:
        threads = [threading.Thread(target=attack, args=(attacked,)) for attack in attacks]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    watches.append(watch)
    check(attacked, watch)


def check(server: Server, watch: Watch, settings: Settings = DEFAULTS) -> None:
    max_mb = documented_mb(settings)
    assert server.process.poll() is None
    assert not watch.failures
    assert watch.peak_mb < max_mb
    assert np.percentile(watch.healthz_ms, 99) < MAX_HEALTHZ_P99_MS
    assert max(watch.row_ms) < MAX_ROW_MS
    time.sleep(1)
    assert memory_mb(server.process.pid) < max_mb
