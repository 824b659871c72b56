"""`GET /models/{name}/calibration` and `/report` over real HTTP: what a slider shows is what the service decides."""

import math
from pathlib import Path

import httpx
import numpy as np
import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from elbound.calibration.conformal import ConformalCalibrator
from elbound.data.infer import infer_schema
from elbound.fit.detector import DetectorConfig, fit_detector
from elbound.scorer import Scorer
from service.answers.scales import BINS, LARGEST_ALPHA, MAX_ALPHAS, histogram, slider_alphas
from service.answers.view_schemas import CalibrationAnswer
from tests.conftest import mixed_table

JSON = "application/json"


@given(n=st.integers(1, 5_000))
@example(n=48)
@settings(max_examples=150, deadline=None)
def test_every_alpha_of_the_slider_resolves_to_its_own_rank(n: int) -> None:
    calibrator = ConformalCalibrator(np.arange(float(n)), spread=1.0)
    alphas = slider_alphas(calibrator)
    ranks = [calibrator.rank(alpha) for alpha in alphas]
    assert ranks[0] == 1
    assert (np.diff(ranks) > 0).all() if len(ranks) > 1 else n <= 3
    assert len(alphas) <= MAX_ALPHAS
    assert alphas[-1] == pytest.approx(max(1, int(LARGEST_ALPHA * (n + 1))) / (n + 1))
    p_values = calibrator.p_values_of_counts(np.arange(n + 1))
    for alpha, k in zip(alphas, ranks, strict=True):
        assert np.count_nonzero(p_values <= alpha) == k, "compared as floats, as a page does"


@given(scores=st.lists(st.floats(-1e6, 1e6) | st.sampled_from([0.0, float("inf")]), max_size=200))
def test_a_histogram_holds_every_finite_score_between_edges_that_rise(scores: list[float]) -> None:
    found = histogram(np.sort(np.array(scores, dtype=float)))
    assert (len(found["edges"]), len(found["counts"])) == (BINS + 1, BINS)
    assert (np.diff(found["edges"]) > 0).all()
    assert sum(found["counts"]) == np.isfinite(scores).sum()


def _scores(server, rows: list[list[object]], **query: object) -> dict:  # type: ignore[no-untyped-def]
    answer = server.score(orjson.dumps(rows), JSON, model="rows", **query)
    assert answer.status_code == 200
    return answer.json()


def test_the_slider_decides_as_a_request_at_its_alpha_does(server, table_scorer: Scorer) -> None:
    table = mixed_table(40, seed=5)
    rows = [list(row.values()) for row in table.to_pylist()]
    for i, row in enumerate(rows):
        row[0] += 0.12 * i
    scales = server.client.get("/models/rows/calibration").json()
    CalibrationAnswer.model_validate(scales)
    items = _scores(server, rows)["items"]
    picked = range(0, len(scales["alphas"]), max(1, len(scales["alphas"]) // 25))
    told = set()
    for i in picked:
        alpha = scales["alphas"][i]
        at_alpha = _scores(server, rows, alpha=repr(alpha))
        assert [item["p_value"] <= alpha for item in items] == [item["is_anomaly"] for item in at_alpha["items"]]
        told |= {item["is_anomaly"] for item in at_alpha["items"]}
        verdict = scales["verdict"]
        assert at_alpha["resolvable"]
        assert at_alpha["verdict"] == {"rule": verdict["rule"], "threshold": verdict["thresholds"][i]}
        for name, facts in at_alpha["scores"].items():
            assert facts == {
                "unit": scales["scores"][name]["unit"],
                "threshold": scales["scores"][name]["thresholds"][i],
            }
        severity = [
            (item["score"] - verdict["median"]) / (verdict["thresholds"][i] - verdict["median"]) for item in items
        ]
        assert severity == pytest.approx([item["severity"] for item in at_alpha["items"]], rel=1e-3)
    assert told == {True, False}
    below = _scores(server, rows, alpha=repr(math.nextafter(scales["alphas"][0], 0)))
    assert not below["resolvable"]
    assert not any(item["is_anomaly"] for item in below["items"])


def test_with_a_guarantee_and_groups_the_scales_are_those_that_decide(start, tmp_path) -> None:
    table = mixed_table(900)
    schema = infer_schema(table).schema.model_copy(update={"group_by": "site"})
    labels = table["site"].to_pylist()
    config = DetectorConfig(name="rows", alpha=0.05, guarantee=0.9, device="cpu", steps=30, item_groups=labels)
    fit_detector(table, schema, config).save(tmp_path / "rows")
    server = start(tmp_path / "rows")
    scales = server.client.get("/models/rows/calibration").json()
    CalibrationAnswer.model_validate(scales)
    rows = [list(row.values()) for row in mixed_table(30, seed=6).to_pylist()]
    for i, row in enumerate(rows):
        row[0] += 0.2 * i
    items = _scores(server, rows)["items"]
    assert scales["guarantee"] == 0.9
    assert scales["verdict"]["thresholds"][0] is None, "the smallest rate needs more items with a guarantee"
    for i in range(0, len(scales["alphas"]), 20):
        answer = _scores(server, rows, alpha=repr(scales["alphas"][i]))
        decided = [item["conditional_p_value"] <= scales["alphas"][i] for item in items]
        assert decided == [item["is_anomaly"] for item in answer["items"]]
        assert answer["verdict"]["threshold"] == scales["verdict"]["thresholds"][i]
        for group, facts in answer["groups"]["used"].items():
            assert facts["threshold"] == scales["groups"]["used"][group]["thresholds"][i]
            assert facts["n_calibration"] == scales["groups"]["used"][group]["n_calibration"]


def test_a_model_that_is_not_there_has_neither(server) -> None:
    for part in ("calibration", "report"):
        answer = server.client.get(f"/models/nobody/{part}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


PAGE = b"<!doctype html><title>report</title><script>steal()</script>"


@pytest.fixture(scope="module")
def reported(start, numeric_scorer: Scorer, tmp_path_factory):  # type: ignore[no-untyped-def]
    path: Path = tmp_path_factory.mktemp("reported") / "numbers"
    numeric_scorer.save(path, report={"index.html": PAGE, "roc.png": b"picture"})
    return start(path), path


def test_the_report_is_shown_without_rights(reported) -> None:
    server, _ = reported
    answer = server.client.get("/models/numbers/report")
    assert (answer.status_code, answer.content) == (200, PAGE)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("sandbox; default-src 'none';")
    assert policy.endswith("; frame-ancestors 'none'")
    assert "script" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"


def _missing(answer: httpx.Response) -> str:
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (404, "report_missing")
    return str(error["message"])


def test_a_report_that_is_not_there_or_not_the_one_that_was_loaded(server, reported) -> None:
    assert "has no report" in _missing(server.client.get("/models/numbers/report"))
    other, path = reported
    for content in (PAGE.replace(b"steal", b"chase"), PAGE + b" "):
        (path / "report" / "index.html").write_bytes(content)
        message = _missing(other.client.get("/models/numbers/report"))
        assert str(path) not in message
    (path / "report" / "index.html").unlink()
    _missing(other.client.get("/models/numbers/report"))
