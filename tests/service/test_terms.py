"""guarantee, fdr and group over real HTTP."""

import io
from collections.abc import Callable

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.csv
import pytest

from elbound.data.infer import infer_schema
from elbound.fit.detector import DetectorConfig, fit_detector
from elbound.scorer import Scorer
from tests.conftest import mixed_table

JSON = "application/json"
ROWS = {"model": "rows"}


@pytest.fixture(scope="module")
def lines_scorer() -> Scorer:
    """Rows with thresholds by `site`, which is a feature too, and a guarantee of its own."""
    table = mixed_table(1_500)
    schema = infer_schema(table).schema.model_copy(update={"group_by": "site"})
    config = DetectorConfig(
        name="lines", alpha=0.05, guarantee=0.8, device="cpu", steps=100, item_groups=table["site"].to_pylist(),
    )  # fmt: skip
    return fit_detector(table, schema, config)


@pytest.fixture(scope="module")
def lines(start: Callable, lines_scorer: Scorer, tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    path = tmp_path_factory.mktemp("bundles") / "lines"
    lines_scorer.save(path)
    return start(path)


def refused(response, code: str, where: str) -> str:  # type: ignore[no-untyped-def]
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["code"], error["where"]) == (code, where)
    return str(error["message"])


def test_a_guarantee_decides_by_the_conditional_p_value(server, table_scorer: Scorer, normal_rows: pa.Table) -> None:
    body = orjson.dumps(normal_rows.to_pylist())
    plain = server.score(body, JSON, **ROWS, alpha=0.2).json()
    sure = server.score(body, JSON, **ROWS, alpha=0.2, guarantee=0.9).json()
    verdict = table_scorer.calibration.verdict
    assert (plain["decided_by"], plain["guarantee"]) == ("p_value", None)
    assert (sure["decided_by"], sure["guarantee"]) == ("conditional_p_value", 0.9)
    assert sure["verdict"]["threshold"] == verdict.threshold(0.2, 0.9) > plain["verdict"]["threshold"]
    assert sure["realised_rate"]["high"] < plain["realised_rate"]["high"]
    for item in sure["items"]:
        assert item["is_anomaly"] == (item["conditional_p_value"] <= 0.2)
    assert "conditional_p_value" not in plain["items"][0]
    assert sure["summary"]["anomalies"] <= plain["summary"]["anomalies"]


def test_a_guarantee_that_the_calibration_is_too_small_for_is_said(server, table_scorer: Scorer) -> None:
    row = {**mixed_table(1).to_pylist()[0], "a": 60.0}
    answer = server.score(orjson.dumps([row]), JSON, **ROWS, alpha=0.01, guarantee=0.9).json()
    assert table_scorer.calibration.n < 230
    assert answer["resolvable"] is False
    assert answer["smallest_alpha"] == pytest.approx(1 - 0.1 ** (1 / table_scorer.calibration.n))
    assert answer["realised_rate"] is None
    assert answer["verdict"]["threshold"] is None
    assert answer["items"][0]["is_anomaly"] is False
    assert answer["items"][0]["score"] > 5
    at_smallest = server.score(
        orjson.dumps([row]), JSON, **ROWS, alpha=answer["smallest_alpha"] + 1e-9, guarantee=0.9
    ).json()
    assert at_smallest["items"][0]["is_anomaly"] is True


@pytest.mark.parametrize("layout", ["items", "columns"])
def test_fdr_decides_over_the_upload_and_shows_both_decisions(server, layout: str) -> None:
    rows = mixed_table(60, seed=31).to_pylist()
    for row in rows[:30]:
        row["a"] = 40.0
    answer = server.score(orjson.dumps(rows), JSON, **ROWS, alpha=0.3, fdr=0.1, layout=layout).json()
    assert answer["decided_by"] == "fdr"
    assert answer["fdr"] == {
        "level": 0.1, "resolvable": True, "discoveries": answer["summary"]["anomalies"],
        "least_discoveries": int(np.ceil(60 / (0.1 * (answer["n_calibration"] + 1)))),
    }  # fmt: skip
    if layout == "columns":
        columns = answer["columns"]
    else:
        columns = {name: [item[name] for item in answer["items"]] for name in ("is_anomaly", "at_fdr", "at_alpha")}
    assert columns["is_anomaly"] == columns["at_fdr"]
    assert all(columns["at_fdr"][:30])
    assert sum(columns["at_alpha"]) > sum(columns["at_fdr"])


def test_one_item_is_too_few_for_a_small_level(server, table_scorer: Scorer) -> None:
    answer = server.score(orjson.dumps(mixed_table(2).to_pylist()), JSON, **ROWS, fdr=0.001).json()
    assert answer["fdr"]["resolvable"] is False
    assert answer["fdr"]["least_discoveries"] > 2


@pytest.mark.parametrize(
    ("query", "code", "where"),
    [
        ({"guarantee": "x"}, "config_invalid", "guarantee"),
        ({"guarantee": 0.2}, "config_invalid", "guarantee"),
        ({"guarantee": "nan"}, "config_invalid", "guarantee"),
        ({"fdr": 0}, "config_invalid", "fdr"),
        ({"fdr": "nan"}, "config_invalid", "fdr"),
        ({"group": "a"}, "group_unsupported", "group"),
        ({"guarante": 0.9}, "parameter_unknown", "guarante"),
    ],
)
def test_a_bad_parameter_is_named(server, normal_rows, query: dict[str, object], code: str, where: str) -> None:
    refused(server.score(orjson.dumps(normal_rows.slice(0, 1).to_pylist()), JSON, **ROWS, **query), code, where)


def test_the_group_of_each_row_is_named_and_its_threshold_given(lines, lines_scorer: Scorer) -> None:
    table = mixed_table(50, seed=32)
    body = io.BytesIO()
    pyarrow.csv.write_csv(table, body)
    answer = lines.score(body.getvalue(), "text/csv").json()
    names = lines_scorer.calibration.item_groups.names  # type: ignore[union-attr]
    assert set(names) == {"north", "south", "east"}
    assert [item["group"] for item in answer["items"]] == table["site"].to_pylist()
    assert answer["groups"]["by"] == "site"
    assert answer["groups"]["is_feature"] is True
    assert answer["groups"]["min_items"] == 32  # (1 - 0.05)^32 < 0.2
    for i, name in enumerate(names):
        verdict = lines_scorer.calibration.by_group[i].verdict
        found = answer["groups"]["used"][name]
        assert found == {"n_calibration": verdict.n, "resolvable": True, "threshold": verdict.threshold(0.05, 0.8)}
    scored = lines_scorer.score_items(lines_scorer.to_tensor(table))
    assert [item["is_anomaly"] for item in answer["items"]] == lines_scorer.decide(scored).is_anomaly.tolist()


def test_tensors_tell_the_threshold_of_each_rows_group(lines, lines_scorer: Scorer) -> None:
    rows = mixed_table(50, seed=32).to_pylist()
    kinds = {"a": "FP64", "b": "FP64", "c": "FP64", "ok": "BOOL", "site": "BYTES"}
    inputs = [
        {"name": name, "datatype": kind, "shape": [50], "data": [row[name] for row in rows]}
        for name, kind in kinds.items()
    ]
    answer = lines.client.post("/v2/models/lines/infer", json={"inputs": inputs}).json()
    found = {one["name"]: one["data"] for one in answer["outputs"]}
    names = lines_scorer.calibration.item_groups.names  # type: ignore[union-attr]
    verdicts = dict(zip(names, lines_scorer.calibration.by_group, strict=True))
    pooled = lines_scorer.calibration.pooled
    expected = [verdicts.get(row["site"], pooled).verdict.threshold(0.05, 0.8) for row in rows]
    assert found["threshold"] == expected
    assert len(set(expected)) > 2
    scored = lines_scorer.score_items(lines_scorer.to_tensor(rows))
    assert found["is_outlier"] == lines_scorer.decide(scored).is_anomaly.tolist()
    np.testing.assert_allclose(found["p_value"], scored.p_value)


def test_the_bundle_s_guarantee_is_the_default_and_0_takes_it_away(lines) -> None:
    body = orjson.dumps(mixed_table(3).to_pylist())
    assert lines.score(body, JSON).json()["guarantee"] == 0.8
    assert lines.score(body, JSON, guarantee=0).json()["decided_by"] == "p_value"
    facts = lines.client.get("/models/lines").json()
    assert facts["guarantee"] == 0.8
    assert set(facts["groups"]) == {"north", "south", "east"}
    assert 0 < facts["realised_rate"]["low"] < facts["realised_rate"]["high"] < 0.2


def test_a_lone_upload_can_say_its_group(lines) -> None:
    row = mixed_table(1).to_pylist()[0]
    answer = lines.score(orjson.dumps([row, {**row, "a": "x"}]), JSON, group="east").json()
    assert answer["items"][0]["group"] == "east"
    assert "error" in answer["items"][1]
    assert lines.score(orjson.dumps([row]), JSON, group="west").json()["items"][0]["group"] is None


def test_fdr_and_groups_are_refused_together(lines) -> None:
    body = orjson.dumps(mixed_table(3).to_pylist())
    message = refused(lines.score(body, JSON, fdr=0.1), "fdr_with_groups", "fdr")
    assert "no proof covers both" in message


def test_metrics_count_verdicts_of_the_groups(lines, lines_scorer: Scorer) -> None:
    labels = f'{{model_name="lines",model_version="{lines_scorer.version}",verdict="anomaly"}}'
    before = lines.metric(f"elbound_items_scored_total{labels}")
    table = mixed_table(400, seed=33)
    lines.score(orjson.dumps(table.to_pylist()), JSON, alpha=0.9, guarantee=0)
    expected = lines_scorer.decide(lines_scorer.score_items(lines_scorer.to_tensor(table))).is_anomaly.sum()
    assert lines.metric(f"elbound_items_scored_total{labels}") - before == expected
