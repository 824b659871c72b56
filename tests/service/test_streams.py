"""Streamed answers over real HTTP: the same as a buffered one, of any size, and whatever may go wrong meanwhile."""

import csv
import gzip
import http.client
import io
import json
import resource
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet
import pytest

from elbound.scorer import Scorer
from tests.conftest import fit_table, mixed_table

JSON, NDJSON, CSV = "application/json", "application/x-ndjson", "text/csv"
ARROW, PARQUET, NPY = "application/vnd.apache.arrow.stream", "application/vnd.apache.parquet", "application/x-npy"
HOST = "POST /score?model=numbers HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture(scope="module")
def numeric_scorer() -> Scorer:
    """A small model, since hundreds of thousands of rows are scored here."""
    return fit_table(mixed_table(600).select(["a", "b", "c"]), name="numbers", profile="fast", steps=100)


@pytest.fixture(scope="module")
def streams(start, table_bundle: Path, numeric_scorer: Scorer, image_bundle: Path, tmp_path_factory):  # type: ignore[no-untyped-def]
    """Small limits, and every score goes to disk."""
    numeric_bundle = tmp_path_factory.mktemp("bundles") / "numbers"
    numeric_scorer.save(numeric_bundle)
    return start(
        table_bundle, numeric_bundle, image_bundle,
        max_body_bytes=20_000, max_rows=150, max_stream_bytes=16_000_000, max_streams=3, max_held_bytes=0,
        spool_dir=tmp_path_factory.mktemp("spool"), max_spool_bytes=4_000_000, shutdown_grace_s=1,
        body_idle_timeout_s=3, drain_timeout_s=3,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def no_traceback(streams) -> Iterator[None]:  # type: ignore[no-untyped-def]
    yield
    if streams.process.poll() is None:
        assert "Traceback" not in streams.log.read_text()
        assert streams.client.get("/healthz").status_code == 200


def post(server, body, media_type: str, accept: str, *, headers: dict[str, str] | None = None, **query: object):  # type: ignore[no-untyped-def]
    return server.client.post(
        "/score",
        content=body,
        headers={"content-type": media_type, "accept": accept, **(headers or {})},
        params=query,
    )


def numbers(n: int, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 3))


def csv_of(rows: np.ndarray) -> bytes:
    return b"a,b,c\n" + b"".join(b"%.17g,%.17g,%.17g\n" % tuple(row) for row in rows.tolist())


def npy(array: np.ndarray) -> bytes:
    packed = io.BytesIO()
    np.save(packed, array)
    return packed.getvalue()


def parquet(rows: np.ndarray) -> bytes:
    sink = pa.BufferOutputStream()
    pyarrow.parquet.write_table(pa.table(dict(zip("abc", rows.T, strict=True))), sink, row_group_size=1_000)
    return sink.getvalue().to_pybytes()


def records(response: httpx.Response) -> tuple[dict, list[dict], dict]:
    """Header, items and summary of an NDJSON answer."""
    header, *items, summary = map(orjson.loads, response.content.splitlines())
    return header, items, summary


BROKEN = b"a,b,c,ok,site\n1,2,3,true,north\n1,2\nx,1,2,true,north\n1,,3,false,nowhere\n" + b"1,2,3,no,south\n" * 40


@pytest.mark.parametrize("query", [{}, {"alpha": 0.2, "guarantee": 0.9}])
def test_streamed_answers_say_what_a_buffered_one_says(streams, query) -> None:
    """Bad items included; p-values and decisions are ranked again from the scores, and are the same."""
    buffered = post(streams, BROKEN, CSV, JSON, model="rows", **query).json()
    header, items, end = records(post(streams, BROKEN, CSV, NDJSON, model="rows", **query))
    assert header == {name: value for name, value in buffered.items() if name not in ("items", "summary")}
    assert items == buffered["items"]
    assert end == {"summary": buffered["summary"]}
    assert [item["error"]["code"] for item in items if item.get("error")] == ["row_ragged", "cell_invalid"]

    table = list(csv.DictReader(io.StringIO(post(streams, BROKEN, CSV, CSV, model="rows", **query).text)))
    assert json.loads(table[0]["header"]) == header
    assert json.loads(table[-1]["summary"]) == end
    assert [row["error_code"] for row in table[:3]] == ["", "row_ragged", "cell_invalid"]
    assert [row["p_value"] and float(row["p_value"]) for row in table] == [item.get("p_value") or "" for item in items]

    stream = pyarrow.ipc.open_stream(post(streams, BROKEN, CSV, ARROW, model="rows", **query).content)
    assert orjson.loads(stream.schema.metadata[b"elbound.header"]) == header
    batches = list(stream.iter_batches_with_custom_metadata())
    assert orjson.loads(batches[-1].custom_metadata[b"elbound.summary"]) == end
    rows = pa.Table.from_batches([one.batch for one in batches]).to_pylist()
    assert [row["is_anomaly"] for row in rows] == [item.get("is_anomaly") for item in items]
    assert [row["negative_elbo"] for row in rows] == [
        item["scores"]["negative_elbo"]["value"] if "scores" in item else None for item in items
    ]
    assert [row["severity"] for row in rows] == [item.get("severity") for item in items]
    assert ("conditional_p_value" in rows[0]) == bool(query)


@pytest.mark.parametrize("media_type", [CSV, NDJSON, ARROW, PARQUET, NPY, "npy, Fortran order", "csv.gz", JSON])
def test_every_format_gives_the_scores_of_the_library(streams, numeric_scorer: Scorer, media_type: str) -> None:
    n = 100 if media_type == JSON else 20_000
    rows = numbers(n)
    table = pa.table(dict(zip("abc", rows.T, strict=True)))
    sink = pa.BufferOutputStream()
    headers = {}
    match media_type:
        case "text/csv":
            body = csv_of(rows)
        case "csv.gz":
            body, media_type, headers = gzip.compress(csv_of(rows), 1), CSV, {"content-encoding": "gzip"}
        case "application/x-ndjson":
            body = b"\n".join(map(orjson.dumps, rows.tolist()))
        case "application/vnd.apache.arrow.stream":
            with pyarrow.ipc.new_stream(sink, table.schema) as writer:
                writer.write_table(table, max_chunksize=3_000)
            body = sink.getvalue().to_pybytes()
        case "application/vnd.apache.parquet":
            body = parquet(rows)
        case "application/json":
            body = orjson.dumps({"rows": rows.tolist()})
        case "application/x-npy":
            body = npy(rows)
        case _:
            body, media_type = npy(np.asfortranarray(rows)), NPY
    response = post(streams, body, media_type, ARROW, headers=headers, model="numbers")
    assert response.status_code == 200, response.text
    found = pyarrow.ipc.open_stream(response.content).read_all()
    expected = numeric_scorer.score_tensor(numeric_scorer.to_tensor(rows).only())
    np.testing.assert_allclose(found["score"].to_numpy(), expected.score, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found["p_value"].to_numpy(), expected.p_value, atol=2 / numeric_scorer.calibration.n)
    assert found["index"].to_numpy().tolist() == list(range(n))


def test_images_and_forms_are_answered_in_any_form(streams) -> None:
    pictures = npy(np.random.default_rng(0).integers(0, 255, (70, 12, 12), dtype=np.uint8))
    assert records(post(streams, pictures, NPY, NDJSON, model="pictures"))[2]["summary"]["scored"] == 70
    files = [("f", ("a.csv", csv_of(numbers(3)), CSV)), ("f", ("b.csv", b"nothing", CSV))]
    response = streams.client.post("/score", files=files, headers={"accept": NDJSON}, params={"model": "numbers"})
    items = records(response)[1]
    assert [item["name"] for item in items] == ["a.csv:0", "a.csv:1", "a.csv:2", "b.csv"]
    assert items[3]["error"]["code"] == "schema_mismatch"


@pytest.mark.parametrize(
    ("query", "accept", "status", "code", "message"),
    [
        ({}, "text/html", 406, "not_acceptable", ARROW),
        ({"fdr": 0.1}, CSV, 400, "fdr_not_streamed", "ask for JSON"),
        ({"layout": "columns"}, CSV, 400, "layout_not_streamed", "layout of JSON"),
        ({"explain": "true"}, NDJSON, 400, "explain_not_streamed", "piece by piece"),
        ({"group": "x"}, NDJSON, 400, "group_unsupported", "no calibration groups"),
    ],
)
def test_what_a_streamed_answer_does_not_have_is_said(streams, query, accept, status, code, message) -> None:
    for body, media_type in ((b"[[1,2,3]]", JSON), (csv_of(numbers(3)), CSV)):
        response = post(streams, body, media_type, accept, model="numbers", **query)
        assert (response.status_code, response.json()["error"]["code"]) == (status, code)
        assert message in response.json()["error"]["message"]


def test_where_nothing_is_scored_the_status_is_that_of_a_buffered_answer(streams) -> None:
    cases = [
        (b"", CSV),
        (b"a,b\n1,2\n", CSV),
        (b"a,b,c\n", CSV),
        (b"a,b,c\nx,y,z\n1\n", CSV),
        (b"{", JSON),
        (b"x", PARQUET),
    ]
    for body, media_type in cases:
        found, expected = (post(streams, body, media_type, accept, model="numbers") for accept in (NDJSON, JSON))
        assert found.status_code == expected.status_code >= 400
        assert found.json()["error"]["code"] == expected.json()["error"]["code"]
        assert found.json().get("items") == expected.json().get("items")
    assert post(streams, b"a", "text/html", NDJSON, model="numbers").status_code == 415


def test_limits_of_a_streamed_body_are_its_own_and_the_buffered_refusal_names_the_way(streams) -> None:
    body = csv_of(numbers(1_000))
    for sent in (body, iter([body])):
        refused = post(streams, sent, CSV, JSON, model="numbers")
        assert refused.status_code == 413
        assert f"Accept: {NDJSON}" in refused.json()["error"]["message"]
    short = b"a,b,c\n" + b"1,2,3\n" * 200
    assert f"Accept: {NDJSON}" in post(streams, short, CSV, JSON, model="numbers").json()["error"]["message"]
    assert records(post(streams, body, CSV, NDJSON, model="numbers"))[2]["summary"]["scored"] == 1_000
    announced = post(streams, b"x" * 16_000_001, CSV, NDJSON, model="numbers")
    assert (announced.status_code, announced.json()["error"]["code"]) == (413, "body_too_large")


def raw(server, head: str) -> socket.socket:  # type: ignore[no-untyped-def]
    host, port = server.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=30)
    connection.sendall((HOST + head + "\r\n\r\n").encode())
    return connection


def read_answer(connection: socket.socket) -> tuple[int, bytes, bool]:
    """Status, body, and whether it is whole."""
    response = http.client.HTTPResponse(connection)
    response.begin()
    try:
        return response.status, response.read(), True
    except http.client.IncompleteRead as error:
        return response.status, error.partial, False


def test_rows_before_a_late_break_are_answered_and_the_body_is_cut_short(streams) -> None:
    good = csv_of(numbers(50_000))
    body = good + b"\xff\xfe\n" + csv_of(numbers(10)).split(b"\n", 1)[1]
    for accept in (NDJSON, CSV, ARROW):
        with raw(streams, f"Content-Type: text/csv\r\nAccept: {accept}\r\nContent-Length: {len(body)}") as connection:
            connection.sendall(body)
            status, data, whole = read_answer(connection)
        assert (status, whole) == (200, False)
        if accept == NDJSON:
            lines = data.splitlines()
            assert len(lines) == 50_002
            assert orjson.loads(lines[-2])["index"] == 49_999
            error = orjson.loads(lines[-1])["error"]
            assert error["code"] == "decode_failed"
            assert "line 50,002" in error["message"]


def test_a_ragged_row_late_in_an_upload_costs_one_row(streams) -> None:
    body = csv_of(numbers(30_000)) + b"1,2\n1,2,3\n"
    _, items, end = records(post(streams, body, CSV, NDJSON, model="numbers"))
    assert end["summary"]["scored"] == 30_001
    assert items[30_000]["error"]["code"] == "row_ragged"
    assert items[30_000]["error"]["where"] == "row 30000"


@pytest.mark.slow
def test_an_endless_body_ends_at_the_limit_with_the_rows_before_it(streams) -> None:
    piece = b"1.00000000000000000000000000000,2,3.0000000000000000000000000000000000\n" * 3_000
    with raw(streams, "Content-Type: text/csv\r\nAccept: text/csv\r\nTransfer-Encoding: chunked") as connection:
        connection.sendall(b"6\r\na,b,c\n\r\n")
        stop = threading.Event()

        def send() -> None:
            try:
                while not stop.is_set():
                    connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
            except OSError:
                pass

        sender = threading.Thread(target=send)
        sender.start()
        status, data, whole = read_answer(connection)
        stop.set()
        connection.shutdown(socket.SHUT_RDWR)
        sender.join(10)
    assert (status, whole) == (200, False)
    assert data.count(b"\n") > 100_000


def test_a_client_that_sends_everything_before_it_reads(streams) -> None:
    """12 MB of body, and 30 MB of answer that nobody reads meanwhile."""
    rows = csv_of(numbers(1_000)).split(b"\n", 1)[1]
    body = b"a,b,c\n" + rows * 200
    assert len(body) > 11_000_000
    with raw(streams, f"Content-Type: text/csv\r\nAccept: text/csv\r\nContent-Length: {len(body)}") as connection:
        connection.sendall(body)
        time.sleep(0.3)
        status, data, whole = read_answer(connection)
    assert (status, whole) == (200, True)
    assert data.count(b"\n") == 200_001
    assert b'""scored"":200000' in data[-300:]


def test_a_caller_that_leaves_gives_its_place_back(streams) -> None:
    """More than there are places and room on disk: in the midst of a body, and of an answer."""
    part = npy(np.asfortranarray(numbers(100_000)))
    for i in range(4):
        head = "Content-Type: application/x-npy\r\nAccept: text/csv\r\nTransfer-Encoding: chunked"
        with raw(streams, head) as connection:
            connection.sendall(b"%x\r\n%b\r\n" % (len(part), part) + (b"0\r\n\r\n" if i % 2 else b""))
            time.sleep(0.2)
        until = time.monotonic() + 10
        while (status := post(streams, part, NPY, ARROW, model="numbers").status_code) == 503:
            assert time.monotonic() < until
            time.sleep(0.1)
        assert status == 200


def test_too_many_streams_and_a_full_spool_say_when_to_come_back(streams) -> None:
    head = "Content-Type: application/x-npy\r\nAccept: text/csv\r\nTransfer-Encoding: chunked"
    part = npy(np.asfortranarray(numbers(100_000)))
    stalled = [raw(streams, head) for _ in range(3)]
    stalled[0].sendall(b"%x\r\n%b\r\n" % (len(part), part))
    time.sleep(0.5)
    full = post(streams, csv_of(numbers(3)), CSV, NDJSON, model="numbers")
    assert (full.status_code, full.json()["error"]["code"]) == (503, "too_many_streams")
    assert full.headers["retry-after"] == "1"
    stalled[2].close()
    time.sleep(0.3)
    spool = post(streams, part, NPY, NDJSON, model="numbers")
    assert (spool.status_code, spool.json()["error"]["code"]) == (503, "spool_full")
    assert spool.headers["retry-after"] == "1"
    for connection in stalled:
        connection.close()
    time.sleep(0.3)
    large = post(streams, npy(np.asfortranarray(numbers(200_000))), NPY, NDJSON, model="numbers")
    assert (large.status_code, large.json()["error"]["code"]) == (413, "body_too_large")


def test_a_disk_that_is_full_is_said_and_costs_only_who_needs_it(streams) -> None:
    """The kernel itself refuses what is written beyond the first half megabyte of a file."""
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    rows = numbers(60_000)
    uploads = ((npy(np.asfortranarray(rows)), NPY), (parquet(rows), PARQUET))
    resource.prlimit(streams.process.pid, resource.RLIMIT_FSIZE, (500_000, resource.RLIM_INFINITY))
    try:
        for body, media_type in uploads:
            full = post(streams, body, media_type, NDJSON, model="numbers")
            assert (full.status_code, full.json()["error"]["code"]) == (503, "spool_full")
            assert "File too large" in full.text
        assert post(streams, csv_of(rows[:3]), CSV, NDJSON, model="numbers").status_code == 200
    finally:
        resource.prlimit(streams.process.pid, resource.RLIMIT_FSIZE, unlimited)
    deadline = time.monotonic() + 10
    while streams.metric("elbound_spool_bytes") != 0:  # the file goes a moment after the answer
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert post(streams, *uploads[0], NDJSON, model="numbers").status_code == 200


def test_uploads_at_once_and_small_requests_between_them_each_get_their_own(streams, numeric_scorer: Scorer) -> None:
    uploads = [numbers(60_000, seed=seed) for seed in (1, 2)]
    found: dict[int, np.ndarray] = {}

    def upload(i: int) -> None:
        response = post(streams, npy(uploads[i]), NPY, ARROW, model="numbers")
        found[i] = pyarrow.ipc.open_stream(response.content).read_all()["score"].to_numpy()

    threads = [threading.Thread(target=upload, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    small = numbers(40, seed=3)
    with httpx.Client(base_url=streams.url) as client:
        answers = [
            client.post("/score?model=numbers", content=orjson.dumps([row]), headers={"content-type": JSON}).json()
            for row in small.tolist()
        ]
    for thread in threads:
        thread.join(60)
    for rows, scores in ((uploads[0], found[0]), (uploads[1], found[1])):
        expected = numeric_scorer.score_tensor(numeric_scorer.to_tensor(rows).only()).score
        np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-5)
    expected = numeric_scorer.score_tensor(numeric_scorer.to_tensor(small).only()).score
    np.testing.assert_allclose([one["items"][0]["score"] for one in answers], expected, rtol=1e-5, atol=1e-5)


def test_a_deadline_holds_for_the_whole_upload(streams) -> None:
    head = "Content-Type: text/csv\r\nAccept: text/csv\r\nX-Request-Deadline-Ms: 300\r\nTransfer-Encoding: chunked"
    with raw(streams, head) as connection:
        connection.sendall(b"6\r\na,b,c\n\r\n")
        started = time.monotonic()
        status, data, _ = read_answer(connection)
    assert status == 504
    assert orjson.loads(data)["error"]["code"] == "deadline_exceeded"
    assert time.monotonic() - started < 2


def test_streamed_items_are_counted_and_followed(streams) -> None:
    series = [
        'elbound_items_scored_total{model_name="numbers",model_version="%s",verdict="normal"}',
        'elbound_items_rejected_total{model_name="numbers",model_version="%s",reason="row_ragged"}',
    ]
    version = streams.client.get("/models/numbers").json()["version"]
    before = [streams.metric(name % version) for name in series]
    followed = streams.client.get("/models/numbers/drift").json().get("scores")
    _, _, end = records(post(streams, csv_of(numbers(500)) + b"1,2\n", CSV, NDJSON, model="numbers"))
    after = [streams.metric(name % version) for name in series]
    assert after[0] - before[0] == pytest.approx(500 - end["summary"]["anomalies"], abs=3)
    assert after[1] - before[1] == 1
    assert followed is None or streams.client.get("/models/numbers/drift").json()["scores"] == followed + 500


def test_a_stop_does_not_wait_for_a_stalled_upload(streams) -> None:
    """The last test: the server is gone after it."""
    head = "Content-Type: text/csv\r\nAccept: text/csv\r\nTransfer-Encoding: chunked"
    stalled = [raw(streams, head) for _ in range(2)]
    for connection in stalled:
        connection.sendall(b"6\r\na,b,c\n\r\n")
    time.sleep(0.3)
    started = time.monotonic()
    assert streams.stop() == 0
    assert time.monotonic() - started < 6
    assert "Traceback" not in streams.log.read_text()
    for connection in stalled:
        connection.close()
