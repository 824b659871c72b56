"""The server as a process: start, models, health, many callers at once, a graceful end."""

import contextlib
import re
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import orjson
import pytest

from elbound.scorer import Scorer
from service.settings import Settings
from tests.conftest import fit_table, mixed_table
from tests.forked import ENVIRON, run


def serve(*arguments: object, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run `elbound serve` where it is expected to end by itself."""
    return run("serve", *arguments, env={**ENVIRON, **environ}, timeout=60)


def test_health_and_readiness(server) -> None:
    for path in ("/healthz", "/readyz"):
        response = server.client.get(path)
        assert (response.status_code, response.json()) == (200, {"status": "ok"})


def test_health_answers_head_as_get(server) -> None:
    assert [server.client.head(path).status_code for path in ("/healthz", "/readyz")] == [200, 200]


def test_models_and_one_model(server, table_scorer: Scorer) -> None:
    models = server.client.get("/models").json()["models"]
    assert sorted((model["name"], model["kind"], model["ready"]) for model in models) == [
        ("numbers", "table", True),
        ("pictures", "image", True),
        ("rows", "table", True),
    ]
    model = server.client.get("/models/rows").json()
    assert model["engine"] == {
        "name": "torch",
        "reason": "the bundle has no export; small batches are scored by a trace",
    }
    assert model["version"] == table_scorer.version
    assert [column["name"] for column in model["item"]["columns"]] == ["a", "b", "c", "ok", "site"]
    assert model["verdict"]["threshold"] == table_scorer.calibration.verdict.threshold(0.05)
    assert model["rate_is_promised"] is True
    assert server.client.get("/models/nobody").json()["error"]["code"] == "model_not_found"


@pytest.mark.parametrize(("method", "path", "status", "code"), [
    ("GET", "/nowhere", 404, "not_found"),
    ("GET", "/score", 405, "method_not_allowed"),
    ("DELETE", "/models", 405, "method_not_allowed"),
    ("GET", "/docs", 404, "not_found"),
    ("POST", "/score/", 404, "not_found"),
])  # fmt: skip
def test_unknown_routes_answer_in_the_one_shape(server, method, path, status, code) -> None:
    response = server.client.request(method, path)
    assert response.status_code == status
    assert response.json()["error"]["code"] == code


def test_a_method_that_is_not_allowed_is_told_all_that_are(server) -> None:
    """Two routes of one path each named their own method alone."""
    assert server.client.put("/models/rows/shadow").headers["allow"] == "DELETE, POST"
    assert server.client.delete("/models").headers["allow"] == "GET"


def test_requests_are_counted_under_their_template(server) -> None:
    name = 'elbound_requests_total{method="GET",route="/models/{name}",status="200"}'
    before = server.metric(name)
    server.client.get("/models/rows")
    assert server.metric(name) == before + 1
    server.client.get("/secret/path/1")
    server.client.request("PROPFIND", "/nowhere")
    text = server.client.get("/metrics").text
    assert "/secret" not in text
    assert 'method="other"' in text
    assert "PROPFIND" not in text


def test_metrics_that_alerts_need_exist_before_the_first_request(start, numeric_bundle: Path) -> None:
    server = start(numeric_bundle)
    text = server.client.get("/metrics").text
    for name in (
        "elbound_items_scored_total",
        "elbound_p_value_bucket",
        "elbound_false_alarm_target",
        "elbound_alpha_resolves",
        "elbound_calibration_items",
        "elbound_drift_log_martingale{",
        "elbound_drift_max_log_martingale{",
        "elbound_model_info",
        "elbound_queue_depth",
        "elbound_batch_items_bucket",
        "process_resident_memory_bytes",
    ):
        assert f"\n{name}" in text


def test_a_lone_model_need_not_be_named(start, numeric_bundle: Path) -> None:
    server = start(numeric_bundle)
    assert server.score(b"[[1, 2, 3]]", "application/json").json()["model"]["name"] == "numbers"


def test_each_of_many_callers_gets_its_own_scores(server, numeric_scorer: Scorer) -> None:
    """Requests of 1 to 40 rows from 16 threads at once: the scores are those of scoring them alone."""
    draw = np.random.default_rng(0)
    uploads = [draw.normal(size=(draw.integers(1, 41), 3)) * 3 for _ in range(200)]

    def post(rows: np.ndarray) -> list[float]:
        response = server.score(orjson.dumps(rows.tolist()), "application/json", model="numbers")
        assert response.status_code == 200
        return [item["score"] for item in response.json()["items"]]

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(post, uploads))
    for rows, found in zip(uploads, answers, strict=True):
        expected = numeric_scorer.score_tensor(numeric_scorer.to_tensor(rows).only()).score
        assert (np.abs(np.array(found) - expected) <= 1e-5 * np.maximum(np.abs(expected), 1)).all()


def test_a_large_upload_is_scored_slice_by_slice(start, numeric_bundle: Path, numeric_scorer: Scorer) -> None:
    server = start(numeric_bundle, batch_rows=100)
    names = (
        'elbound_batch_items_bucket{le="32.0"}',
        'elbound_batch_items_bucket{le="128.0"}',
        "elbound_batch_items_count",
    )
    before = [server.metric(name) for name in names]
    rows = np.random.default_rng(1).normal(size=(1230, 3))
    answer = server.score(orjson.dumps(rows.tolist()), "application/json", layout="columns").json()
    expected = numeric_scorer.score_tensor(numeric_scorer.to_tensor(rows).only()).score
    found = np.array(answer["columns"]["score"])
    assert (np.abs(found - expected) <= 1e-5 * np.maximum(np.abs(expected), 1)).all()
    small, bounded, all_of_them = (server.metric(name) - old for name, old in zip(names, before, strict=True))
    assert small <= 1  # the rest
    assert 13 <= bounded == all_of_them <= 20  # slices of 64 to 100 rows


def test_a_passed_deadline_is_a_504_and_a_full_queue_a_503(start, image_bundle: Path) -> None:
    server = start(image_bundle, deadline_ms=1, max_queue_rows=20_000, batch_rows=1_000)
    body = npy(np.zeros((20_000, 12, 12), np.uint8))
    response = server.score(body, "application/x-npy")
    assert (response.status_code, response.json()["error"]["code"]) == (504, "deadline_exceeded")


def npy(array: np.ndarray) -> bytes:
    import io

    packed = io.BytesIO()
    np.save(packed, array)
    return packed.getvalue()


@pytest.mark.slow
def test_a_stopping_server_finishes_what_it_accepted(start, image_bundle: Path) -> None:
    server = start(image_bundle)
    body = npy(np.zeros((30_000, 12, 12), np.uint8))
    answers: list[httpx.Response] = []
    thread = threading.Thread(target=lambda: answers.append(server.score(body, "application/x-npy", layout="columns")))
    thread.start()
    time.sleep(0.5)
    assert not answers, "the upload was too small to be under way"
    code = server.process.send_signal(15) or server.process.wait(60)
    thread.join(30)
    assert code == 0
    assert answers[0].status_code == 200
    assert answers[0].json()["summary"]["scored"] == 30_000


def test_a_slow_client_does_not_hold_up_the_others(server) -> None:
    import socket

    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as idle:
        idle.sendall(
            b"POST /score?model=rows HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/csv\r\n"
            b"Content-Length: 1000\r\n\r\na,b"
        )
        started = time.monotonic()
        assert server.score(b"[[1, 2, 3]]", "application/json", model="numbers").status_code == 200
        assert time.monotonic() - started < 2


@pytest.mark.parametrize(("change", "message"), [
    ({"ELBOUND_PORT": "no"}, "port must be a whole number of at least 0. Got 'no' instead"),
    ({"ELBOUND_MAX_ROWS": "0"}, "max_rows must be a whole number of at least 1"),
    ({"ELBOUND_LOG_LEVEL": "loud"}, "log_level must be one of debug, info, warning, error"),
    ({"ELBOUND_HOST": "256.1.1.1"}, "cannot listen on 256.1.1.1"),
    ({"ELBOUND_DEVICE": "tpu"}, "device must be auto, cpu or cuda"),
])  # fmt: skip
def test_a_bad_setting_stops_the_start_with_its_name(numeric_bundle: Path, change, message) -> None:
    ended = serve(numeric_bundle, **change)
    assert ended.returncode == 1
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr


def limited(bundle: Path, open_files: int, log: Path) -> subprocess.Popen[bytes]:
    """`elbound serve` where a process may have so many files open."""
    command = f'ulimit -n {open_files}; exec "$@"'
    arguments = [sys.executable, "-m", "elbound", "serve", str(bundle), "--port", "0"]
    with log.open("wb") as output:
        return subprocess.Popen(["sh", "-c", command, "sh", *arguments], stdout=output, stderr=subprocess.STDOUT)


def test_too_few_files_stop_the_start(numeric_bundle: Path, tmp_path: Path) -> None:
    """With 64 it began, and then accepted nobody and said nothing."""
    log = tmp_path / "log"
    assert limited(numeric_bundle, 64, log).wait(60) == 1
    said = log.read_text()
    assert "the process may open 64 files, and the server needs 208 for 16 connections: raise the limit" in said
    assert "Traceback" not in said


@pytest.mark.slow
def test_where_few_files_may_be_open_fewer_connections_are_taken(numeric_bundle: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = limited(numeric_bundle, 212, log)
    try:
        until = time.monotonic() + 60
        while not (found := re.search(r"listening on http://([\d.]+):(\d+)", log.read_text())):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until
            time.sleep(0.1)
        assert "max_connections is 20 and not 1024: the process may open 212 files; raise the limit" in log.read_text()
        address = found[1], int(found[2])
        with contextlib.ExitStack() as stack:
            for _ in range(20):
                stack.enter_context(socket.create_connection(address, timeout=10))
            with socket.create_connection(address, timeout=10) as one_more:
                assert b"too_many_connections" in one_more.recv(4_096)
        time.sleep(0.5)
        assert httpx.get(f"http://{found[1]}:{found[2]}/readyz").status_code == 200
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.slow
def test_a_bad_bundle_stops_the_start_with_its_file(numeric_bundle: Path, tmp_path: Path) -> None:
    import shutil

    copy = Path(shutil.copytree(numeric_bundle, tmp_path / "copy"))
    (copy / "weights.safetensors").write_bytes(b"x")
    ended = serve(copy)
    assert ended.returncode == 1
    assert "weights.safetensors" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "both named 'numbers'" in serve(numeric_bundle, numeric_bundle).stderr
    assert "is not a bundle" in serve(tmp_path).stderr


def test_a_taken_port_is_named(server, numeric_bundle: Path) -> None:
    port = server.url.rpartition(":")[2]
    ended = serve(numeric_bundle, "--port", port)
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in ended.stderr


def test_flags_win_over_the_environment() -> None:
    settings = Settings.load({"ELBOUND_PORT": "1", "ELBOUND_MAX_ROWS": "2_000"}, {"port": 3, "host": None})
    assert (settings.port, settings.max_rows, settings.host) == (3, 2000, "127.0.0.1")
    kubernetes = Settings.load({"ELBOUND_PORT": "tcp://10.0.0.1:8000", "ELBOUND_STATE_DIR": "/state\n"}, {})
    assert (kubernetes.port, kubernetes.state_dir) == (8000, "/state")


def test_a_model_that_cannot_alarm_is_told_in_one_line_everywhere(start, tmp_path: Path) -> None:
    scorer = fit_table(mixed_table(60), name="few", steps=5, profile="fast")
    scorer.save(tmp_path / "few")
    line = scorer.unresolved(0.05, None)
    assert line is not None
    assert line.startswith("at alpha = 0.05 nothing can ever be an anomaly: 15 calibration items decide")
    server = start(tmp_path / "few")
    assert f"WARNING few {scorer.version}: {line}\n" in server.log.read_text()
    rows = orjson.dumps(mixed_table(2).to_pylist())
    answer = server.score(rows, "application/json").json()
    assert (answer["resolvable"], answer["warning"]) == (False, line)
    assert server.score(rows, "application/json", alpha=0.1).json()["warning"] is None
    assert server.client.get("/models/few").json()["warning"] == line
    assert server.client.get("/models/few/calibration").json()["warning"] == line
    labels = f'{{model_name="few",model_version="{scorer.version}"}}'
    assert server.metric(f"elbound_alpha_resolves{labels}") == 0


def test_the_alpha_of_another_model_resolves(server, table_scorer: Scorer) -> None:
    assert server.metric(f'elbound_alpha_resolves{{model_name="rows",model_version="{table_scorer.version}"}}') == 1
    assert server.client.get("/models/rows").json()["warning"] is None
