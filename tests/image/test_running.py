"""What changes while the container runs: the pin of a store, the keys, the memory that it is left."""

import re
import shutil
import time
from functools import partial

import httpx
import pytest

from tests.image.conftest import ROOT
from tests.image.engine import INSECURE
from tests.service.stores import NAME, version_at

pytestmark = pytest.mark.timeout(2400)  # the first test waits for the build
ROWS = [{"size": 20.0, "weight": 5.0, "price": 65.0, "colour": "red"}]
SOON_SECONDS = 15


def until(holds):
    end = time.monotonic() + SOON_SECONDS
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_pin_written_outside_is_followed_without_a_failed_request(replica):
    assert replica.served() == version_at(1)
    named = []

    def scored_by(version):
        answer = replica.client.post(f"/score?model={NAME}", json=ROWS)
        assert answer.status_code == 200, answer.text
        named.append(answer.json()["model"]["version"])
        return named[-1] == version

    for version in (version_at(0), version_at(1)):
        replica.pin(version)
        until(partial(scored_by, version))
        assert replica.served() == version
    assert set(named) == {version_at(0), version_at(1)}


def test_a_pin_cannot_be_written_through_a_read_only_mount(replica):
    answer = replica.client.post(f"/models/{NAME}/activate", json={"version": version_at(0)})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "store_read_only")


def test_keys_come_and_go_while_it_runs(replica):
    def status():
        return httpx.post(f"{replica.container.url}/score", json=ROWS, headers={"Authorization": "Bearer new"})

    assert status().status_code == 401
    replica.allow(new={"scopes": ["score"]})
    until(lambda: status().status_code == 200)
    replica.allow()
    until(lambda: status().status_code == 401)


def test_memory_stays_within_its_limit_or_only_the_glutton_dies(replica, say):
    status = replica.container.exec("python", "-c", "print(open('/proc/1/status').read())").stdout
    resident = int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024
    say(f"memory of the server {resident:.0f} MiB, 1 GiB allowed")
    done = replica.container.exec("python", "-c", "x = bytearray(3 << 30); x[::4096] = b'x' * len(x[::4096])")
    assert done.returncode == 137, done.stderr
    assert replica.client.post(f"/score?model={NAME}", json=ROWS).status_code == 200


def test_a_limit_below_what_it_needs_ends_it_at_once(image, bundle):
    options = ("-v", f"{bundle}:/bundles/model:ro,z", "--memory=100m", "--memory-swap=100m", *INSECURE)
    with image.start(options=options) as container:
        assert container.wait() == 137


def test_the_page_answers_with_all_that_it_loads(server):
    static = ROOT / "service" / "page" / "static"
    if not static.is_dir():
        pytest.skip("this checkout has no page")
    page = httpx.get(f"{server.url}/")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    files = {f"/static/{file.name}" for file in static.iterdir()} - {"/static/index.html"}
    assert files
    for address in files | set(re.findall(r'(?:src|href)="([^"#:]+)"', page.text)):
        assert httpx.get(httpx.URL(f"{server.url}/").join(address)).status_code == 200, address


def test_a_folder_that_vanishes_stops_nothing(replica):
    shutil.rmtree(replica.models / NAME)
    until(lambda: replica.client.get("/models").json()["store_problems"])
    assert replica.client.post(f"/score?model={NAME}", json=ROWS).status_code == 200
