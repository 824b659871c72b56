"""What is in `deploy/` for Kubernetes, KServe and compose is valid, hardened, and fits the service."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.app import create_app
from service.server import STOP_MARGIN_S
from service.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
SCHEMAS = {path.stem: json.loads(path.read_text()) for path in (DEPLOY / "schemas").glob("*.json")}
KUBERNETES = "1.31"
HEALTH = {"/healthz", "/readyz"}


def documents(folder: str) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{path.name}:{document.get('kind')}", document)
        for path in sorted((DEPLOY / folder).glob("*.yaml"))
        for document in yaml.safe_load_all(path.read_text())
        if path.name != "prometheus-adapter.yaml"
    ]


MANIFESTS = dict(documents("kubernetes") + documents("kserve"))
KIND = {document["kind"]: document for document in MANIFESTS.values()}
PODS = {
    "Deployment": KIND["Deployment"]["spec"]["template"]["spec"],
    "ServingRuntime": KIND["ServingRuntime"]["spec"],
}


def check(document: dict[str, Any]) -> None:
    """Raise where `document` is not what Kubernetes, or the schema of the custom resource, takes."""
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    api, _, version = document["apiVersion"].rpartition("/")
    schema = SCHEMAS.get(f"{document['kind'].lower()}_{version}")
    if schema is not None:
        jsonschema.validate(document, schema)
    elif api != "kustomize.config.k8s.io":
        validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
        validate.validate(document, KUBERNETES, strict=True)


def pod(spec: dict[str, Any]) -> dict[str, Any]:
    own = {name: spec[name] for name in ("containers", "volumes", "securityContext") if name in spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": own}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_is_valid(name: str) -> None:
    check(MANIFESTS[name])


def test_the_check_refuses_what_kubernetes_would() -> None:
    for kind, where, what in (
        ("Deployment", ("spec", "template", "spec", "containers", 0), {"image": "x", "name": "x", "prots": []}),
        ("ServiceMonitor", ("spec", "endpoints", 0, "interval"), "15 seconds"),
        ("InferenceService", ("spec", "predictor", "model", "storageURI"), "pvc://x"),
    ):
        bad = json.loads(json.dumps(KIND[kind]))
        inner = bad
        for key in where[:-1]:
            inner = inner[key]
        inner[where[-1]] = what
        with pytest.raises(Exception, match=r"prots|does not match|storageURI"):
            check(bad)


@pytest.mark.parametrize("kind", PODS)
def test_a_pod_is_valid_and_may_do_nothing_more_than_score(kind: str) -> None:
    check(pod(PODS[kind]))
    (container,) = PODS[kind]["containers"]
    security = PODS[kind].get("securityContext", {}) | container["securityContext"]
    assert (security["runAsNonRoot"], security["runAsUser"]) == (True, 10_001)
    assert security["readOnlyRootFilesystem"] is True
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert {"memory", "cpu"} <= container["resources"]["limits"].keys()
    names = {volume["name"] for volume in PODS[kind]["volumes"]}
    for mount in container["volumeMounts"]:
        assert mount["name"] in names | {"bundles"}
    for probe in ("readinessProbe", "livenessProbe", "startupProbe"):
        assert container.get(probe, {"httpGet": {"path": "/readyz"}})["httpGet"]["path"] in HEALTH


def test_whatever_stops_a_server_leaves_it_the_time_that_it_takes() -> None:
    """Its grace, the time in which uvicorn ends the rest, and some for what it writes and closes after that."""
    after = STOP_MARGIN_S + 5
    needed = Settings().shutdown_grace_s + after
    deployment = PODS["Deployment"]
    pause = deployment["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert deployment["terminationGracePeriodSeconds"] >= pause + needed
    env = {one["name"]: one.get("value") for one in PODS["ServingRuntime"]["containers"][0]["env"]}
    assert int(env["ELBOUND_SHUTDOWN_GRACE_S"]) + after <= 30, "the default of Kubernetes"
    assert int(compose()["services"]["elbound"]["stop_grace_period"].removesuffix("s")) >= needed
    (documented,) = re.findall(r"docker stop -t (\d+)", (ROOT / "docs" / "operations.md").read_text())
    assert int(documented) >= needed


def test_selectors_find_the_pods_and_ports_have_the_name() -> None:
    labels = KIND["Deployment"]["spec"]["template"]["metadata"]["labels"]
    for selector in (
        KIND["Deployment"]["spec"]["selector"]["matchLabels"],
        KIND["Service"]["spec"]["selector"],
        KIND["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        KIND["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()
    service = KIND["Service"]
    assert KIND["ServiceMonitor"]["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert service["metadata"]["name"] == "elbound", "the rules count on it as the job"
    (named,) = PODS["Deployment"]["containers"][0]["ports"]
    assert named["containerPort"] == Settings().port
    ports = {service["spec"]["ports"][0]["targetPort"], KIND["NetworkPolicy"]["spec"]["ingress"][0]["ports"][0]["port"]}
    assert ports == {named["name"]}
    target = KIND["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", KIND["Deployment"]["metadata"]["name"])
    assert (
        KIND["HorizontalPodAutoscaler"]["spec"]["minReplicas"] > KIND["PodDisruptionBudget"]["spec"]["maxUnavailable"]
    )
    assert (
        KIND["InferenceService"]["spec"]["predictor"]["model"]["runtime"] == KIND["ServingRuntime"]["metadata"]["name"]
    )


def test_the_queue_scales_by_a_metric_that_the_adapter_makes_of_one_of_ours(table_bundle: Path) -> None:
    queue = KIND["HorizontalPodAutoscaler"]["spec"]["metrics"][0]["pods"]["metric"]["name"]
    (rule,) = yaml.safe_load((DEPLOY / "kubernetes" / "prometheus-adapter.yaml").read_text())["rules"]
    assert rule["name"]["as"] == queue
    assert queue in rule["seriesQuery"]
    assert queue in rule["metricsQuery"]
    exposition = create_app(Settings(), [table_bundle]).state.elbound.metrics.render().decode()
    assert re.search(rf"^{queue} \d", exposition, re.MULTILINE), "one series a server, without a label of its own"


def test_kustomize_takes_all_manifests_as_they_are() -> None:
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not installed")
    done = subprocess.run(
        ["kubectl", "kustomize", str(DEPLOY / "kubernetes")], capture_output=True, text=True, check=True
    )
    built = {document["kind"]: document for document in yaml.safe_load_all(done.stdout)}
    own = {name.partition(":")[2] for name in MANIFESTS if not name.startswith("elbound.yaml")} - {"Kustomization"}
    assert built.keys() == own
    for kind, document in built.items():
        assert (
            document["spec" if kind != "Namespace" else "metadata"]
            == KIND[kind]["spec" if kind != "Namespace" else "metadata"]
        )


def test_the_rules_are_those_of_a_prometheusrule_too() -> None:
    head = "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata: {name: elbound}\nspec:\n"
    rules = (DEPLOY / "prometheus" / "elbound.rules.yml").read_text()
    check(yaml.safe_load(head + "".join(f"  {line}\n" for line in rules.splitlines())))


def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return document


def test_compose_publishes_on_loopback_alone_and_hardens_the_service() -> None:
    services = compose()["services"]
    for service in services.values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
    assert services["elbound"]["read_only"] is True


def test_every_file_and_volume_of_compose_is_there() -> None:
    for service in compose()["services"].values():
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            if source.startswith("."):
                assert (DEPLOY / source).exists(), source
            elif not source.startswith("$"):
                assert source in compose()["volumes"]


def test_every_setting_named_is_one() -> None:
    named = {variable["name"] for spec in PODS.values() for variable in spec["containers"][0]["env"]} | compose()[
        "services"
    ]["elbound"]["environment"].keys()
    known = {PREFIX + name.upper() for name in Settings.__dataclass_fields__}
    assert {name for name in named if name.startswith(PREFIX)} <= known
