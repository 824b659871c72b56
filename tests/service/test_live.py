"""`GET /live` over real HTTP: what it counts, whom it lets in, and that it ends."""

import contextlib
import json
import signal
import time
from collections.abc import Iterator

import httpx
import pytest

from service.answers.view_schemas import LiveRecord
from service.monitoring.live import PERIOD_S

ROWS = b"[[0.1, 0.2, 1.0], [900.0, 0.2, 1.0], [0.1, 0.2, 1e400]]"
WAIT_S = 10
KEYS: dict[str, dict[str, object]] = {"reader": {}, "doomed": {}}


@pytest.fixture(scope="module")
def keys(key_file):  # type: ignore[no-untyped-def]
    return key_file(**KEYS)


@pytest.fixture(scope="module")
def lively(start, keys, numeric_bundle):  # type: ignore[no-untyped-def]
    return start(numeric_bundle, api_keys_file=keys, max_live_streams=2, idle_timeout_s=1, answer_idle_timeout_s=1)


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@contextlib.contextmanager
def reading(server, key: str = "reader") -> Iterator[Iterator[dict]]:  # type: ignore[no-untyped-def]
    """The records of a reader; one that comes right after others have left waits until the server has seen that."""
    until = time.monotonic() + WAIT_S
    while True:
        with server.client.stream("GET", "/live", headers=bearer(key), timeout=WAIT_S) as answer:
            if answer.status_code == 503 and time.monotonic() < until:
                continue
            if answer.status_code != 200:
                answer.read()
            answer.raise_for_status()
            assert answer.headers["content-type"] == "application/x-ndjson"
            yield map(json.loads, answer.iter_lines())
            return


def test_records_count_what_was_scored(lively) -> None:
    with reading(lively) as records:
        before = next(records)
        LiveRecord.model_validate(before)
        assert before["ready"]
        assert before["models"][0]["items"] == {"normal": 0, "anomaly": 0, "error": 0}
        headers = {"content-type": "application/json", **bearer("reader")}
        assert lively.client.post("/score", content=ROWS, headers=headers).status_code == 200
        assert lively.client.post("/score", content=b"{", headers=headers).status_code == 400
        after = next(record for record in records if record["requests"]["refused"])
    LiveRecord.model_validate(after)
    model = after["models"][0]
    assert (model["name"], model["items"]) == ("numbers", {"normal": 1, "anomaly": 1, "error": 1})
    assert after["requests"]["total"] - before["requests"]["total"] == 2
    assert (after["requests"]["refused"], after["requests"]["failed"]) == (1, 0)
    for histogram, total in ((after["latency_seconds"], 2), (model["p_values"], 2)):
        assert len(histogram["edges"]) == len(histogram["counts"])
        assert sum(histogram["counts"]) == total
        assert sorted(histogram["edges"]) == histogram["edges"]
    assert model["p_values"]["counts"][-1] == 0, "none is above 1"


def test_a_stream_outlives_the_deadlines_of_idle_connections(lively) -> None:
    with reading(lively) as records:
        begun, last = time.monotonic(), 0.0
        for _ in range(4):
            record = next(records)
            last = time.monotonic() - begun
            assert record["ready"]
    assert last > 2 * PERIOD_S


def test_readers_share_one_sampler_and_one_too_many_is_refused(lively) -> None:
    with reading(lively) as one, reading(lively) as two:
        next(one), next(two)
        assert next(one)["at"] == next(two)["at"]
        refused = lively.client.get("/live", headers=bearer("reader"))
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "too_many_live_streams")
        assert refused.headers["retry-after"]
    with reading(lively), reading(lively):
        pass  # their places are free again


def test_a_key_that_is_revoked_ends_its_stream_and_no_other(lively, keys, key_file) -> None:
    with reading(lively, "doomed") as doomed, reading(lively) as other:
        next(doomed), next(other)
        key_file(keys, reader=KEYS["reader"])
        *_, last = doomed
        assert last["error"]["code"] == "key_revoked"
        assert next(other)["ready"]
    with pytest.raises(httpx.HTTPStatusError, match="401"), reading(lively, "doomed"):
        pass


def test_a_server_that_stops_ends_its_streams_at_once(start, numeric_bundle) -> None:
    server = start(numeric_bundle, shutdown_grace_s=30)
    with server.client.stream("GET", "/live", timeout=WAIT_S) as answer:
        lines = answer.iter_lines()
        next(lines)
        begun = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert len(list(lines)) <= 1, "it ends as an answer does, not with a broken connection"
    assert server.process.wait(WAIT_S) == 0
    assert time.monotonic() - begun < WAIT_S / 2
