"""deploy/compose.yaml, started: the service with its keys and folders, and the Prometheus that finds it by its name.

Grafana is left out. Prometheus is the released image or, where that cannot be had, this machine's own in its place.
"""

import shutil
import socket
import subprocess
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import yaml

from tests.image.conftest import ROOT
from tests.image.engine import READY_SECONDS
from tests.service.conftest import write_keys

pytestmark = pytest.mark.timeout(2400)  # the first test waits for the build
PODMAN_COMPOSE = ROOT / ".compose" / "bin" / "podman-compose"
NAMES = Path("/usr/lib/podman/aardvark-dns")
STAND_IN = "localhost/elbound-image-test-prometheus"
STAND_IN_FILE = """
ARG BASE
FROM ${BASE}
COPY prometheus /bin/prometheus
RUN mkdir /prometheus && chown 65534 /prometheus
USER 65534
WORKDIR /prometheus
ENTRYPOINT ["/bin/prometheus"]
"""
ROW = [{"size": 20.0, "weight": 5.0, "price": 65.0, "colour": "red"}]


@pytest.fixture(scope="module")
def prometheus_image(engine, base, say, tmp_path_factory):
    document = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
    released = document["services"]["prometheus"]["image"]
    if engine.has(released) or engine.pull(f"docker.io/{released}"):
        return released
    found = shutil.which("prometheus")
    if not found:
        pytest.skip(f"{released} cannot be pulled, and no prometheus is installed here")
    folder = tmp_path_factory.mktemp("prometheus-image")
    shutil.copy2(found, folder / "prometheus")
    (folder / "Dockerfile").write_text(STAND_IN_FILE)
    own = ("--format=docker", "--isolation=chroot") if engine.name == "podman" else ()
    engine.output("build", *own, f"--build-arg=BASE={base}", "-t", STAND_IN, str(folder), timeout=300)
    say(f"Prometheus: a STAND-IN made of this machine's, since {released} cannot be pulled")
    return STAND_IN


@dataclass(frozen=True)
class Stack:
    """What compose started, and the folder of keys that it was given."""

    keys: Path
    service: httpx.Client
    prometheus: httpx.Client

    def score(self):
        return self.service.post("/score", json=ROW, headers={"Authorization": "Bearer me"}).status_code

    def query(self, expression):
        answer = self.prometheus.get("/api/v1/query", params={"query": expression}).json()
        return [one["value"][1] for one in answer["data"]["result"]]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(holds):
    end = time.monotonic() + READY_SECONDS
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.2)


def answers(call):
    try:
        return call()
    except httpx.TransportError:
        return None


def adapted(file, project, images, ports):
    """The compose file with other images, free ports and this machine's limits; all else is as shipped."""
    document = yaml.safe_load(file.read_text())
    document["name"] = project
    services = {name: one for name, one in document["services"].items() if name != "grafana"}
    for name, service in services.items():
        service["image"] = images.get(name, images["elbound"])
        service["ulimits"] = {"nofile": 4096, "nproc": 4096}
        if name in ports:
            (published,) = service["ports"]
            service["ports"] = [f"127.0.0.1:{ports[name]}:{published.rpartition(':')[2]}"]
    file.write_text(yaml.safe_dump(document | {"services": services}))


@pytest.fixture(scope="module")
def stack(image, bundle, prometheus_image, tmp_path_factory):
    podman = image.engine.name == "podman"
    if podman and not (PODMAN_COMPOSE.exists() and NAMES.exists()):
        pytest.skip("podman-compose (`make image-test`) or aardvark-dns is not installed")
    folder, project = tmp_path_factory.mktemp("compose"), f"elbound-{uuid.uuid4().hex[:8]}"
    folder.chmod(0o755)
    deploy = shutil.copytree(ROOT / "deploy", folder / "deploy")
    shutil.copytree(bundle, folder / "bundles" / "model")
    (folder / "secrets").mkdir()
    write_keys(folder / "secrets" / "keys.json", me={})
    often = deploy / "prometheus" / "prometheus.yml"
    often.write_text(often.read_text().replace(" 15s", " 1s").replace(" 30s", " 1s"))
    ports = {"elbound": free_port(), "prometheus": free_port()}
    adapted(deploy / "compose.yaml", project, {"elbound": image.name, "prometheus": prometheus_image}, ports)
    program = [str(PODMAN_COMPOSE)] if podman else ["docker", "compose"]
    environ = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "BUNDLES": str(folder / "bundles"), "SECRETS": str(folder / "secrets"),
    }  # fmt: skip

    def compose(*arguments):
        command = [*program, "-f", str(deploy / "compose.yaml"), *arguments]
        return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=300)

    try:
        started = compose("up", "-d", "--no-build")
        assert started.returncode == 0, started.stdout + started.stderr
        urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
        with httpx.Client(base_url=urls["elbound"]) as service, httpx.Client(base_url=urls["prometheus"]) as prometheus:
            running = Stack(folder / "secrets", service, prometheus)
            until(lambda: answers(lambda: service.get("/readyz").is_success))
            until(lambda: answers(lambda: prometheus.get("/-/ready").is_success))
            yield running
    finally:
        compose("down", "-v")


def test_who_has_a_key_is_served_and_nobody_else(stack):
    assert stack.score() == 200
    assert stack.service.post("/score", json=ROW).status_code == 401


def test_prometheus_finds_the_service_and_evaluates_every_rule(stack):
    until(lambda: stack.query('up{job="elbound"}') == ["1"])
    until(lambda: stack.query("sum(elbound:items_scored:increase)"))
    groups = stack.prometheus.get("/api/v1/rules").json()["data"]["groups"]
    shipped = yaml.safe_load((ROOT / "deploy" / "prometheus" / "elbound.rules.yml").read_text())["groups"]
    assert [len(group["rules"]) for group in groups] == [len(group["rules"]) for group in shipped]
    until(lambda: all(rule["health"] == "ok" for rule in rules(stack)))


def rules(stack):
    return [rule for group in stack.prometheus.get("/api/v1/rules").json()["data"]["groups"] for rule in group["rules"]]


def test_a_key_that_is_revoked_on_this_machine_is_revoked_in_there(stack):
    write_keys(stack.keys / "keys.json", other={})
    until(lambda: stack.score() == 401)
