"""A staged incident: a real server, scraped by a real Prometheus with the rules and queries of `deploy/`."""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
LOOK = "500ms"
PATIENCE_SECONDS = 40
OF_A_STORE = ("elbound_model_swaps", "elbound_model_refused", "elbound_shadow_items", "elbound_store_unreadable")
"""Series that only a server has that serves from a store."""
FILLED_IN = {"$job": ".+", "$model": ".+", "$__rate_interval": "10s"}
DASHBOARD = json.loads((DEPLOY / "grafana" / "elbound.json").read_text())
QUERIES = {
    f"{panel['title']}, {target['refId']}": target["expr"]
    for panel in DASHBOARD["panels"]
    for target in panel.get("targets", [])
}

pytestmark = pytest.mark.skipif(not shutil.which("prometheus"), reason="prometheus is not installed")


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus that looks at one server, and that server."""

    client: httpx.Client
    server: Any

    def query(self, expression: str) -> list[dict[str, Any]]:
        answer = self.client.get("/api/v1/query", params={"query": expression}).json()
        assert answer["status"] == "success", (expression, answer)
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def alerts(self, state: str) -> set[tuple[str, str | None]]:
        found = self.query(f'ALERTS{{alertstate="{state}"}}')
        return {(one["metric"]["alertname"], one["metric"].get("model_name")) for one in found}

    def until(self, holds: Callable[[], object], *, shift: float = 0.0) -> None:
        """Send what a server sees every day, the rows of `numbers` moved by `shift`, and wait until `holds`."""
        end = time.monotonic() + PATIENCE_SECONDS
        while not holds():
            assert time.monotonic() < end, self.server.client.get("/metrics").text
            every_day(self.server, shift=shift)


def rows(n: int, *, shift: float) -> bytes:
    """Like the numeric columns of `mixed_table`."""
    draw = np.random.default_rng()
    z = draw.normal(size=n)
    table = np.column_stack(
        [z + 0.1 * draw.normal(size=n) + shift, 2 * z + 0.2 * draw.normal(size=n), draw.gamma(2.0, size=n)]
    )
    return orjson.dumps(table.tolist())


def every_day(server: Any, *, shift: float) -> None:
    """Rows, judged at whatever alpha their callers like, and what callers send by mistake."""
    for alpha in (0.05, 0.9):
        sent = server.score(rows(100, shift=shift), "application/json", model="numbers", alpha=alpha)
        assert sent.status_code == 200
    odd = b'[{"a": 0, "b": 0, "c": 1, "ok": true, "site": "atlantis"}, {"a": "x", "b": 0, "c": 1, "ok": true}]'
    assert server.score(odd, "application/json", model="rows").status_code == 200
    assert server.score(b"no JSON", "application/json", model="rows").status_code == 400
    headers = {"content-type": "text/csv", "accept": "text/csv"}
    assert server.client.post("/score?model=numbers", content=b"a,b,c\n0,0,1\n", headers=headers).status_code == 200


@pytest.fixture(scope="module")
def prometheus(start, numeric_bundle: Path, table_bundle: Path, tmp_path_factory) -> Iterator[Prometheus]:  # type: ignore[no-untyped-def]
    """The configuration of `deploy/`, which looks more often and waits less."""
    server, folder = start(numeric_bundle, table_bundle), tmp_path_factory.mktemp("prometheus")
    rules = yaml.safe_load((DEPLOY / "prometheus" / "elbound.rules.yml").read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            if "for" in rule:
                rule["for"] = LOOK
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": LOOK, "evaluation_interval": LOOK}
    config["rule_files"] = ["rules.yml"]
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [server.url.removeprefix("http://")]
    (folder / "rules.yml").write_text(yaml.safe_dump(rules))
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    options = (f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(["prometheus", *options, f"--web.listen-address={address}"], stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://{address}", transport=httpx.HTTPTransport(retries=8)) as client:
            yield Prometheus(client, server)
    finally:
        process.terminate()
        process.wait(30)


def test_normal_items_fire_nothing_whatever_alpha_is_asked_for(prometheus: Prometheus) -> None:
    prometheus.until(lambda: prometheus.query('elbound:items_scored:increase{model_name="numbers"} > 1000'))
    ratio = prometheus.query('elbound:anomaly_ratio{model_name="numbers", window="15m"}')
    assert float(ratio[0]["value"][1]) < 0.15
    assert ("ElboundAnomalyRateHigh", "numbers") not in prometheus.alerts("pending") | prometheus.alerts("firing")


@pytest.mark.parametrize("panel", QUERIES)
def test_a_panel_of_the_dashboard_shows_something(prometheus: Prometheus, panel: str) -> None:
    expression = QUERIES[panel]
    if any(name in expression for name in OF_A_STORE):
        pytest.skip("only a server with a store has these series")
    for name, value in FILLED_IN.items():
        expression = expression.replace(name, value)
    assert "$" not in expression

    def shown() -> bool:
        return any(one["value"][1] != "NaN" for one in prometheus.query(expression))

    prometheus.until(shown)


def test_an_incident_fires_its_alerts_and_none_of_the_server(prometheus: Prometheus) -> None:
    prometheus.until(lambda: ("ElboundAnomalyRateHigh", "numbers") in prometheus.alerts("firing"), shift=4.0)
    evidence = prometheus.query('elbound:anomaly_evidence{model_name="numbers", window="15m"}')
    assert float(evidence[0]["value"][1]) > 16
    assert ("ElboundDrift", "numbers") in prometheus.alerts("firing")
    server_alerts = {
        name for name, model in prometheus.alerts("firing") | prometheus.alerts("pending") if model is None
    }
    assert not server_alerts, "the service itself is well"
