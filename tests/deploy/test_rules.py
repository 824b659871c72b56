"""The alerts: what they count exists, chance does not fire them, and each has its paragraph in the runbook."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from service.app import create_app
from service.http.error_answers import STATUS
from service.monitoring.metrics import ALERTED
from service.settings import Settings

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus" / "elbound.rules.yml"
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
ALL = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
ALERTS: dict[str, dict[str, Any]] = {rule["alert"]: rule for rule in ALL if "alert" in rule}
EVIDENCE = 16
"""What ElboundAnomalyRateHigh asks for."""


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    if not shutil.which("promtool"):
        pytest.skip("promtool is not installed")
    return subprocess.run(["promtool", *arguments], capture_output=True, text=True)


@pytest.mark.parametrize("file", sorted(RULES.parent.glob("*.test.yml")), ids=lambda path: path.name)
def test_rules_fire_when_they_should(file: Path) -> None:
    done = promtool("test", "rules", str(file))
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested_both_ways() -> None:
    cases = [
        case
        for file in RULES.parent.glob("*.test.yml")
        for test in yaml.safe_load(file.read_text())["tests"]
        for case in test.get("alert_rule_test", [])
    ]
    silent = {case["alertname"] for case in cases if not case["exp_alerts"]}
    fired = {case["alertname"] for case in cases if case["exp_alerts"]}
    assert fired == ALERTS.keys()
    assert silent == ALERTS.keys() - {"ElboundModelRefused"}, "that one asks for a series, which is there or not"


def test_the_rules_and_the_exposition_are_what_prometheus_reads(table_bundle: Path) -> None:
    done = promtool("check", "rules", "--lint-fatal", str(RULES))
    assert done.returncode == 0, done.stdout + done.stderr
    exposition = create_app(Settings(), [table_bundle]).state.elbound.metrics.render()
    checked = subprocess.run(["promtool", "check", "metrics"], input=exposition, capture_output=True)
    complaints = (checked.stdout + checked.stderr).decode().splitlines()
    assert not [line for line in complaints if "elbound" in line]


def test_each_alert_has_its_paragraph_and_no_other_has_one() -> None:
    assert re.findall(r"^## (\w+)$", RUNBOOK, re.MULTILINE) == list(ALERTS)
    for name, alert in ALERTS.items():
        assert alert["annotations"]["runbook"] == f"docs/runbook.md#{name.lower()}"
        assert f"## {name}\n\n*{alert['labels']['severity']}.*" in RUNBOOK


def test_every_reason_that_a_rule_names_is_a_code_and_starts_at_zero() -> None:
    text = RULES.read_text()
    named = {reason for group in re.findall(r'reason=~"([^"]+)"', text) for reason in group.split("|")}
    assert named == set(ALERTED)
    assert named <= {kind.default_code for kind in STATUS} | {"internal_error"}


def test_every_series_of_the_rules_is_documented() -> None:
    operations = (ROOT / "docs" / "operations.md").read_text()
    named = set(re.findall(r"\belbound_[a-z_]+", "".join(rule["expr"] for rule in ALL)))
    of_a_store = {"elbound_model_refused", "elbound_store_unreadable"}
    for name in named - of_a_store:
        assert re.sub(r"_(bucket|count)$", "", name) in operations, name


@pytest.mark.parametrize(("n_calibration", "alpha"), [(99, 0.05), (2_000, 0.01)])
@pytest.mark.parametrize("items_a_look", [1, 30, 3_000])
def test_chance_does_not_fire_the_anomaly_rate_in_a_year(n_calibration: int, alpha: float, items_a_look: int) -> None:
    """A year of looks, 30 s apart, at 15 min and 1 h, with as many false alarms as are allowed for."""
    from scipy.stats import beta

    k = int(alpha * (n_calibration + 1) + 1e-9)
    bound = beta.ppf(0.999, k, n_calibration + 1 - k)
    draw = np.random.default_rng(items_a_look)
    looks = 2 * 60 * 24 * 365
    n = draw.poisson(items_a_look, looks)
    for width in (30, 120):
        items, anomalies = (np.convolve(counts, np.ones(width), "valid") for counts in (n, draw.binomial(n, bound)))
        assert not (evidence(items, anomalies, bound) > EVIDENCE).any()


def evidence(items: np.ndarray, anomalies: np.ndarray, bound: float) -> np.ndarray:
    """`elbound:anomaly_evidence`."""
    with np.errstate(all="ignore"):
        share = anomalies / items
        found: np.ndarray = items * (
            share * np.log(share / bound) + (1 - share) * np.log((1 - np.minimum(share, 0.999999)) / (1 - bound))
        )
    return np.where(share > bound, found, 0.0)


def test_the_evidence_bounds_the_probability_of_a_binomial() -> None:
    from scipy.stats import binom

    for n in (1, 5, 40, 1_000):
        for bound in (0.0183, 0.14):
            anomalies = np.arange(n + 1)
            chance = binom.sf(anomalies - 1, n, bound)
            assert (chance <= np.exp(-evidence(np.full(n + 1, n), anomalies, bound)) * (1 + 1e-4)).all()


def test_the_threshold_is_that_of_the_rule() -> None:
    assert f"elbound:anomaly_evidence > {EVIDENCE})" in ALERTS["ElboundAnomalyRateHigh"]["expr"]
