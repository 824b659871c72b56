"""A real Prometheus with the rules of `deploy/`, which looks more often and waits less, and the dashboard's queries."""

import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

DEPLOY = Path(__file__).parents[1] / "deploy"
LOOK = "500ms"
PATIENCE_SECONDS = 40
FILLED_IN = {"$job": ".+", "$model": ".+", "$__rate_interval": "10s"}
DASHBOARD = json.loads((DEPLOY / "grafana" / "elbound.json").read_text())
QUERIES = {
    f"{panel['title']}, {target['refId']}": target["expr"]
    for panel in DASHBOARD["panels"]
    for target in panel.get("targets", [])
}


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus that looks at one server."""

    client: httpx.Client

    def query(self, expression: str) -> list[dict[str, Any]]:
        answer = self.client.get("/api/v1/query", params={"query": expression}).json()
        assert answer["status"] == "success", (expression, answer)
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def alerts(self, state: str) -> set[tuple[str, str | None]]:
        """Names of alerts with their models: None for those of the server."""
        found = self.query(f'ALERTS{{alertstate="{state}"}}')
        return {(one["metric"]["alertname"], one["metric"].get("model_name")) for one in found}

    def shows(self, panel: str) -> bool:
        """Whether the query of a panel of the dashboard has a value."""
        expression = QUERIES[panel]
        for name, value in FILLED_IN.items():
            expression = expression.replace(name, value)
        assert "$" not in expression
        return any(one["value"][1] != "NaN" for one in self.query(expression))

    def until(self, holds: Callable[[], object], meanwhile: Callable[[], object]) -> None:
        """Do `meanwhile` again and again until `holds`."""
        end = time.monotonic() + PATIENCE_SECONDS
        while not holds():
            meanwhile()
            assert time.monotonic() < end, (self.alerts("pending"), self.alerts("firing"), self.query("up"))


@contextmanager
def prometheus_watching(target: str, folder: Path, *, key: str | None = None) -> Iterator[Prometheus]:
    """Prometheus as `deploy/` configures it, on `target` (HOST:PORT), with `key` where its metrics ask for one.

    Expressions are as shipped; only the times between looks and the times that an alert waits (`for`) are shorter.
    """
    rules = yaml.safe_load((DEPLOY / "prometheus" / "elbound.rules.yml").read_text())
    for rule in (rule for group in rules["groups"] for rule in group["rules"]):
        if "for" in rule:
            rule["for"] = LOOK
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": LOOK, "evaluation_interval": LOOK}
    config["rule_files"] = ["rules.yml"]
    (scrape,) = config["scrape_configs"]
    scrape["static_configs"][0]["targets"] = [target]
    if key is not None:
        scrape["authorization"] = {"type": "Bearer", "credentials": key}
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
            end = time.monotonic() + PATIENCE_SECONDS
            while not client.get("/-/ready").is_success:
                assert time.monotonic() < end, (folder / "log").read_text()
                time.sleep(0.05)
            yield Prometheus(client)
    finally:
        process.terminate()
        process.wait(30)
