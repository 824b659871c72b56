"""A staged incident: a real server, scraped by a real Prometheus with the rules and queries of `deploy/`."""

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from tests.prometheus import QUERIES, Prometheus, prometheus_watching

OF_A_STORE = ("elbound_model_swaps", "elbound_model_refused", "elbound_shadow_items", "elbound_store_unreadable")
"""Series that only a server has that serves from a store; `tests/image` looks at their panels."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("prometheus"), reason="prometheus is not installed"),
]


def rows(n: int, *, shift: float) -> bytes:
    """Like the numeric columns of `mixed_table`."""
    draw = np.random.default_rng()
    z = draw.normal(size=n)
    table = np.column_stack(
        [z + 0.1 * draw.normal(size=n) + shift, 2 * z + 0.2 * draw.normal(size=n), draw.gamma(2.0, size=n)]
    )
    return orjson.dumps(table.tolist())


def send_day(server: Any, shift: float = 0.0) -> None:
    """What a server sees every day: rows of `numbers` moved by `shift`, judged at whatever alpha their callers like,
    and what callers send by mistake."""
    for alpha in (0.05, 0.9):
        sent = server.score(rows(100, shift=shift), "application/json", model="numbers", alpha=alpha)
        assert sent.status_code == 200
    odd = b'[{"a": 0, "b": 0, "c": 1, "ok": true, "site": "atlantis"}, {"a": "x", "b": 0, "c": 1, "ok": true}]'
    assert server.score(odd, "application/json", model="rows").status_code == 200
    assert server.score(b"no JSON", "application/json", model="rows").status_code == 400
    headers = {"content-type": "text/csv", "accept": "text/csv"}
    assert server.client.post("/score?model=numbers", content=b"a,b,c\n0,0,1\n", headers=headers).status_code == 200


@pytest.fixture(scope="module")
def watched(start, numeric_bundle: Path, table_bundle: Path) -> Any:  # type: ignore[no-untyped-def]
    return start(numeric_bundle, table_bundle)


@pytest.fixture(scope="module")
def prometheus(watched: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    with prometheus_watching(watched.url.removeprefix("http://"), tmp_path_factory.mktemp("prometheus")) as running:
        yield running


@pytest.fixture
def every_day(watched: Any) -> Callable[[], None]:
    return partial(send_day, watched)


def test_normal_items_fire_nothing_whatever_alpha_is_asked_for(
    prometheus: Prometheus, every_day: Callable[[], None]
) -> None:
    prometheus.until(lambda: prometheus.query('elbound:items_scored:increase{model_name="numbers"} > 1000'), every_day)
    ratio = prometheus.query('elbound:anomaly_ratio{model_name="numbers", window="15m"}')
    assert float(ratio[0]["value"][1]) < 0.15
    assert ("ElboundAnomalyRateHigh", "numbers") not in prometheus.alerts("pending") | prometheus.alerts("firing")


@pytest.mark.parametrize("panel", QUERIES)
def test_a_panel_of_the_dashboard_shows_something(
    prometheus: Prometheus, every_day: Callable[[], None], panel: str
) -> None:
    if any(name in QUERIES[panel] for name in OF_A_STORE):
        pytest.skip("only a server with a store has these series")
    prometheus.until(lambda: prometheus.shows(panel), every_day)


def test_an_incident_fires_its_alerts_and_none_of_the_server(prometheus: Prometheus, watched: Any) -> None:
    def fired() -> bool:
        return ("ElboundAnomalyRateHigh", "numbers") in prometheus.alerts("firing")

    prometheus.until(fired, partial(send_day, watched, 4.0))
    evidence = prometheus.query('elbound:anomaly_evidence{model_name="numbers", window="15m"}')
    assert float(evidence[0]["value"][1]) > 16
    assert ("ElboundDrift", "numbers") in prometheus.alerts("firing")
    server_alerts = {
        name for name, model in prometheus.alerts("firing") | prometheus.alerts("pending") if model is None
    }
    assert not server_alerts, "the service itself is well"
