"""Staged incidents against the container, seen by a real Prometheus that scrapes it with a key of its own."""

import shutil
from functools import partial

import numpy as np
import pytest

from elbound import Scorer
from tests.prometheus import QUERIES, prometheus_watching
from tests.service.stores import NAME, put, version_at

pytestmark = [
    pytest.mark.timeout(2400),  # the first test waits for the build
    pytest.mark.skipif(not shutil.which("prometheus"), reason="prometheus is not installed"),
]
REFUSED = "Versions that came, B"
"""The panel of versions that are refused, which is empty while there is none."""


def rows(n, shift):
    """Like `items`, with a price that is `shift` too high."""
    draw = np.random.default_rng()
    size, weight = draw.normal(20, 2, n), draw.normal(5, 1, n)
    colour = draw.choice(["red", "green", "blue"], n)
    columns = (size.tolist(), weight.tolist(), (3 * size + weight + shift).tolist(), colour.tolist())
    return [dict(zip(("size", "weight", "price", "colour"), row, strict=True)) for row in zip(*columns, strict=True)]


def send_day(replica, shift=0.0):
    """What a server sees every day, and what callers send by mistake."""
    (odd, bad) = rows(2, 0.0)
    post = partial(replica.client.post, f"/score?model={NAME}")
    assert post(json=rows(200, shift)).status_code == 200
    assert post(json=[odd | {"colour": "ultraviolet"}, bad | {"size": "large"}]).status_code == 200
    assert post(content=b"no JSON", headers={"Content-Type": "application/json"}).status_code == 400
    streamed = {"Content-Type": "text/csv", "Accept": "text/csv"}
    assert post(content=b"size,weight,price,colour\n20,5,65,red\n", headers=streamed).status_code == 200


@pytest.fixture(scope="module")
def prometheus(replica, tmp_path_factory):
    """A key of its own that may read and nothing else, as deploy/kubernetes gives it one."""
    replica.allow(prometheus={"scopes": ["read"]})
    folder = tmp_path_factory.mktemp("prometheus")
    with prometheus_watching(replica.container.url.removeprefix("http://"), folder, key="prometheus") as running:
        yield running


@pytest.fixture(scope="module")
def shadowed(replica, prometheus):
    """A swap has been seen, and the version before it scores beside the one that is served."""
    prometheus.until(lambda: prometheus.query("elbound_store_unreadable == 0"), lambda: None)
    put(replica.models, Scorer.from_bundle(replica.models / NAME / version_at(1), device="cpu"), 2)
    prometheus.until(lambda: replica.served() == version_at(2), lambda: None)
    answer = replica.client.post(f"/models/{NAME}/shadow", json={"version": version_at(1)})
    assert answer.status_code == 200, answer.text


@pytest.mark.usefixtures("shadowed")
@pytest.mark.parametrize("panel", [panel for panel in QUERIES if panel != REFUSED])
def test_a_panel_of_the_dashboard_shows_something(replica, prometheus, panel):
    prometheus.until(lambda: prometheus.shows(panel), partial(send_day, replica))


def test_an_ordinary_day_fires_nothing(prometheus):
    assert prometheus.query('sum(elbound:items_scored:increase{window="15m"}) > 100')
    assert prometheus.alerts("firing") == set()


def test_odd_items_fire_the_alerts_of_their_model_alone(replica, prometheus):
    expected = {("ElboundAnomalyRateHigh", NAME), ("ElboundDrift", NAME)}
    prometheus.until(lambda: prometheus.alerts("firing") >= expected, partial(send_day, replica, 15.0))
    assert prometheus.alerts("firing") == expected


def test_a_broken_version_fires_while_the_one_before_it_serves(replica, prometheus):
    scorer = Scorer.from_bundle(replica.models / NAME / version_at(1), device="cpu")
    put(replica.models, scorer, 3, broken=True)
    prometheus.until(lambda: ("ElboundModelRefused", NAME) in prometheus.alerts("firing"), partial(send_day, replica))
    assert prometheus.shows(REFUSED)
    assert replica.served() == version_at(2)


def test_a_server_that_is_gone_fires(replica, prometheus):
    assert replica.container.stop() in (0, 143)
    prometheus.until(lambda: ("ElboundDown", None) in prometheus.alerts("firing"), lambda: None)
