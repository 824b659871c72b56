"""A bundle with an export is served by onnxruntime, says so, and answers as one without."""

from collections.abc import Callable
from pathlib import Path

import orjson
import pyarrow as pa
import pytest

from elbound.engines.engine import AGREEMENT
from elbound.scorer import Scorer
from tests.service.conftest import Server


def test_a_bundle_with_an_export_is_served_by_onnxruntime(
    exported_bundle: Path, table_scorer: Scorer, normal_rows: pa.Table, start: Callable[..., Server]
) -> None:
    server: Server = start(exported_bundle)
    reason = "the bundle's export agrees with torch on the golden rows"
    for model in (server.client.get("/models").json()["models"][0], server.client.get("/models/rows").json()):
        assert model["engine"] == {"name": "onnxruntime", "reason": reason}
    assert f"by onnxruntime ({reason})" in server.log.read_text()
    rows = normal_rows.to_pylist()
    expected = table_scorer.score_tensor(table_scorer.to_tensor(rows).only()).scores
    answers = [server.score(orjson.dumps({"rows": part}), "application/json") for part in (rows, rows[:1])]
    for answer in answers:
        for item in answer.json()["items"]:
            for name, facts in item["scores"].items():
                value = expected[name][item["index"]]
                assert facts["value"] == pytest.approx(value, rel=AGREEMENT, abs=AGREEMENT)
