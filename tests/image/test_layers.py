"""What is in which layer of the image, and in its bill of materials."""

import json
import shutil

import pytest

from tests.image.conftest import IMAGE, ROOT

pytestmark = pytest.mark.timeout(2400)  # the first test waits for the build
CHECKOUT = ("Dockerfile", ".dockerignore", "constraints.txt", "torch-cpu.txt", "pyproject.toml", "README.md", "LICENSE")
CODE = ("elbound", "training", "service")
SAY_NO_LICENCE = {"pysimdjson"}
"""Packages whose metadata name none."""
BILL = ROOT / "elbound.cdx.json"


def test_another_commit_without_a_change_has_the_same_layers(image, build, labels):
    again = build(f"{IMAGE}-relabelled", ROOT, {**labels, "revision": "1" * 40})
    assert again.layers == image.layers
    assert again.labels["revision"] == "1" * 40


def test_a_change_of_the_code_changes_the_last_layer_alone(image, build, labels, tmp_path):
    for name in CHECKOUT:
        shutil.copy2(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "supply", tmp_path / "supply")
    for name in CODE:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "service" / "__init__.py").open("a") as file:
        file.write("# changed\n")
    changed = build(f"{IMAGE}-changed", tmp_path, labels)
    assert changed.layers[:-1] == image.layers[:-1]
    assert changed.layers[-1] != image.layers[-1]


def test_the_bill_of_materials_is_of_what_the_image_holds(server):
    if not BILL.exists():
        pytest.skip("no elbound.cdx.json: `make sbom`")
    code = "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"
    found = json.loads(server.exec("python", "-c", code).stdout)
    bill = {one["name"]: one for one in json.loads(BILL.read_text())["components"]}
    canonical = {name.lower().replace("_", "-"): version for name, version in found.items() if name != "elbound"}
    assert {name.lower().replace("_", "-"): one["version"] for name, one in bill.items()} == canonical
    assert {name for name, one in bill.items() if not one.get("licenses")} <= SAY_NO_LICENCE
