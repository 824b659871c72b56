"""What the metrics say of refusals, of uploads that take long, and of versions that come and go."""

import asyncio
import re
import time
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import beta, binom

from elbound.calibration.calibration import Calibration
from elbound.data.items import TensorItems
from elbound.errors import ItemError
from elbound.scorer import Scorer
from service.app import create_app
from service.monitoring.drift import DriftMonitor
from service.monitoring.metrics import Metrics
from service.settings import Settings

JSON = "application/json"


def reasons(server) -> dict[str, float]:  # type: ignore[no-untyped-def]
    found = re.findall(r'elbound_requests_refused_total\{reason="(.+)"\} (\S+)', server.client.get("/metrics").text)
    return {reason: float(count) for reason, count in found}


@pytest.mark.parametrize(
    ("path", "body", "media_type", "reason"),
    [
        ("/score?model=nobody", b"[[1, 2, 3]]", JSON, "model_not_found"),
        ("/score?modle=numbers", b"[[1, 2, 3]]", JSON, "parameter_unknown"),
        ("/score?model=numbers", b"not JSON", JSON, "json_invalid"),
        ("/score?model=numbers", b"x", "text/unknown", "unsupported_media_type"),
        ("/nowhere/at/all", b"", JSON, "not_found"),
    ],
)
def test_refusals_are_counted_by_the_code_that_the_caller_was_told(server, path, body, media_type, reason) -> None:
    before = reasons(server)
    answer = server.client.post(path, content=body, headers={"content-type": media_type})
    assert answer.json()["error"]["code"] == reason
    after = reasons(server)
    assert {name: count - before.get(name, 0) for name, count in after.items() if count != before.get(name)} == {
        reason: 1
    }


def test_what_is_answered_well_is_no_refusal(server) -> None:
    before = reasons(server)
    assert server.score(b"[[1, 2, 3]]", JSON, model="numbers").status_code == 200
    assert reasons(server) == before


def test_a_refusal_before_the_request_is_whole_is_counted(server) -> None:
    before = reasons(server).get("url_too_long", 0)
    assert server.client.get("/" + "x" * 20_000).status_code == 414
    assert reasons(server)["url_too_long"] == before + 1


def test_an_upload_scored_piece_by_piece_is_timed_by_itself(server) -> None:
    names = ["elbound_upload_duration_seconds_count", 'elbound_request_duration_seconds_count{route="/score"}']
    before = [server.metric(name) for name in names]
    headers = {"content-type": "text/csv", "accept": "text/csv"}
    answer = server.client.post("/score?model=numbers", content=b"a,b,c\n1,2,3\n", headers=headers)
    assert answer.status_code == 200
    until = time.monotonic() + 10
    while server.metric(names[0]) == before[0] and time.monotonic() < until:
        time.sleep(0.01)  # it is counted after its answer
    assert [server.metric(name) for name in names] == [before[0] + 1, before[1]]


def test_limits_and_what_is_used_of_them_are_told(server) -> None:
    assert server.metric("elbound_queue_limit_items") == Settings().max_queue_rows
    assert server.metric("elbound_connections") >= 1
    for name in ("elbound_queue_depth", "elbound_uploads_open", "elbound_spool_bytes"):
        assert f"\n{name} 0.0\n" in server.client.get("/metrics").text


def test_a_version_that_is_served_no_more_leaves_no_series(table_scorer: Scorer, image_scorer: Scorer) -> None:
    metrics, drift = Metrics(), DriftMonitor("")
    for scorer in (table_scorer, image_scorer):
        metrics.add_model(scorer)
        followed = drift.add(scorer)
        assert followed is not None
        metrics.add_drift(scorer, followed)
    items = TensorItems(
        table_scorer.golden, np.arange(len(table_scorer.golden)), 9, {8: ItemError("torn", code="row_ragged")}
    )
    items.unseen["site"] += 1
    scored = table_scorer.score_tensor(items.x)

    def observe() -> None:
        asyncio.run(metrics.observe_upload(table_scorer, items))
        metrics.observe_scores(table_scorer, scored, table_scorer.decide(scored))

    observe()
    before = metrics.render().decode()
    assert 'reason="row_ragged"' in before
    assert before.count('model_name="rows"') > 20
    metrics.remove_model((table_scorer.name, table_scorer.version))
    assert 'model_name="rows"' not in metrics.render().decode()
    observe()  # an answer that was on its way
    assert 'model_name="rows"' not in metrics.render().decode()
    others = [line for line in before.splitlines() if 'model_name="pictures"' in line and "_created" not in line]
    assert others == [
        line
        for line in metrics.render().decode().splitlines()
        if 'model_name="pictures"' in line and "_created" not in line
    ]
    metrics.add_model(table_scorer)
    assert re.search(r'scored_total\{model_name="rows",.*verdict="normal"\} 0\.0', metrics.render().decode())


def test_every_metric_of_a_model_ends_with_it(table_bundle: Path) -> None:
    metrics = create_app(Settings(), [table_bundle]).state.elbound.metrics
    version = re.findall(r'model_info\{.*model_version="([^"]+)"', metrics.render().decode())[0]
    metrics.remove_model(("rows", version))
    assert "rows" not in metrics.render().decode()


@pytest.mark.parametrize("n", [99, 500, 2_000])
@pytest.mark.parametrize("alpha", [0.01, 0.05])
def test_the_bound_is_what_one_model_in_a_thousand_realises_more_than(n: int, alpha: float) -> None:
    draw = np.random.default_rng(n)
    calibration = Calibration(("s",), draw.normal(size=(n, 1)), draw.normal(size=(50, 1)), rule="s")
    bound = calibration.rate_bound(alpha, confidence=0.999)
    k = int(alpha * (n + 1) + 1e-9)
    assert bound == pytest.approx(beta.ppf(0.999, k, n + 1 - k))
    assert binom.cdf(k - 1, n, bound) == pytest.approx(0.001)  # the same by order statistics
    guaranteed = calibration.rate_bound(alpha, 0.9, confidence=0.999)
    assert guaranteed is None or guaranteed < bound


def test_a_model_that_promises_no_rate_has_no_bound() -> None:
    scores = np.linspace(0, 1, 200)[:, None]
    assert Calibration(("s",), scores, scores, rule="s", held_out=False).rate_bound(0.05, confidence=0.999) is None
    assert Calibration(("s",), scores, scores, rule="s").rate_bound(0.001, confidence=0.999) is None
