"""The clients of Triton and KServe, as they are installed from the package index, against a real server.

They pin what this project pins otherwise, so they live in an environment of their own: `make test-clients`.
"""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from elbound.scorer import Scorer

FOLDER = Path(__file__).parent
PYTHON = FOLDER.parents[1] / ".clients" / "bin" / "python"
pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="clients of peers are not installed: `make test-clients`")


@pytest.fixture(scope="module")
def rows(normal_rows: pa.Table) -> list[dict[str, object]]:
    """Rows without a gap, which no client can write in every form."""
    return [row for row in normal_rows.to_pylist() if None not in row.values()][:60]


@pytest.fixture(scope="module")
def expected(table_scorer: Scorer, rows: list[dict[str, object]]) -> dict[str, np.ndarray]:
    scored = table_scorer.score_tensor(table_scorer.to_tensor(rows).only())
    decisions = table_scorer.decide(scored)
    return {
        "score": scored.score,
        "threshold": np.full(len(rows), table_scorer.calibration.verdict.threshold(table_scorer.alpha)),
        "is_outlier": decisions.is_anomaly,
        "p_value": scored.p_value,
        "elbo": -scored.scores["negative_elbo"],
        "reconstruction": scored.scores["reconstruction"],
        "kl": scored.scores["kl"],
    }


@pytest.fixture(scope="module")
def url(start: Callable, table_bundle: Path) -> str:  # type: ignore[type-arg]
    return str(start(table_bundle).url)


@pytest.fixture(scope="module")
def keyed(start: Callable, key_file: Callable, table_bundle: Path) -> str:  # type: ignore[type-arg]
    """A server whose key `boss` may do everything: one without keys changes no models."""
    return str(start(table_bundle, api_keys_file=key_file(boss={"scopes": ["score", "read", "admin"]})).url)


def run(script: str, rows: list[dict[str, object]], *addresses: str) -> dict[str, object]:
    """What a client answered to `script`."""
    done = subprocess.run(
        [PYTHON, FOLDER / script, *addresses], input=json.dumps(rows), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def assert_scores(found: dict[str, object], names: list[str], expected: dict[str, np.ndarray]) -> None:
    for name in names:
        answer = found[name]
        assert isinstance(answer, dict)
        assert list(answer) == list(expected)
        for output, values in expected.items():
            np.testing.assert_allclose(answer[output], values, rtol=1e-5, atol=1e-5, err_msg=f"{name}: {output}")


def test_tritons_clients_score(url: str, keyed: str, rows, expected, table_scorer: Scorer) -> None:  # type: ignore[no-untyped-def]
    found = run("triton_client.py", rows, url.removeprefix("http://"), keyed.removeprefix("http://"))
    assert found["healthy"] == [True] * 3
    assert found["server"] == "elbound"
    assert found["inputs"] == ["a", "b", "c", "ok", "site"]
    assert found["ready"] == [True, False]
    assert found["index"] == [{"name": "rows", "version": table_scorer.version, "state": "READY", "reason": ""}]
    load, unload, forbidden, unknown, version = found["errors"]  # type: ignore[misc]
    assert load.startswith("400 load and unload take no parameters")
    assert unload.startswith("409 this server has no store")
    assert forbidden.startswith("403 a server without keys does not have the scope 'admin'")
    assert unknown.startswith("404 there is no model 'nothing'")
    assert version.startswith("404 rows has no version '1'")
    assert (found["id True"], found["id False"]) == ("7", "7")
    forms = [f"{form} {binary}" for form in ("binary", "gzip", "deflate") for binary in (True, False)]
    several = [f"greenlet {i}" for i in range(4)] + [f"asyncio {i}" for i in range(5)]
    assert_scores(found, ["default", *forms, *several], expected)


def test_kserves_client_scores(url: str, rows, expected) -> None:  # type: ignore[no-untyped-def]
    found = run("kserve_client.py", rows, url)
    assert found["healthy"] == [True, True, True, False]
    assert (found["id True"], found["id False"]) == ("7", "7")
    assert_scores(found, ["binary True", "binary False"], expected)
    assert "there is no model 'nothing'" in str(found["error"])
