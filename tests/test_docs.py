"""What the documents say is what the code does."""

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

import elbound
from elbound import explain
from elbound.scores import SCORES
from service.app import create_app
from service.settings import PREFIX, Settings
from tests.test_dependencies import FLOORS

ROOT = Path(__file__).parents[1]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
API = (ROOT / "docs" / "api.md").read_text()


@pytest.mark.parametrize("setting", fields(Settings), ids=lambda one: one.name)
def test_every_setting_is_documented_with_its_default_and_text(setting) -> None:  # type: ignore[no-untyped-def]
    row = next(line for line in OPERATIONS.splitlines() if line.startswith(f"| `{PREFIX}{setting.name.upper()}`"))
    assert setting.metadata["help"] in row
    assert f"| {setting.default if setting.default != '' else 'none'} |" in row


def test_no_setting_is_documented_that_is_not_there() -> None:
    named = set(re.findall(rf"{PREFIX}([A-Z_]+)", OPERATIONS))
    assert named <= {one.name.upper() for one in fields(Settings)}


def test_every_metric_is_documented(table_bundle: Path) -> None:
    app = create_app(Settings(), [table_bundle])
    names = set(re.findall(r"^# TYPE (elbound_\w+)", app.state.elbound.metrics.render().decode(), re.MULTILINE))
    for name in names:
        assert name.removesuffix("_created") in OPERATIONS or name.endswith("_created"), name


def test_every_route_and_media_type_is_documented(table_bundle: Path) -> None:
    document = create_app(Settings(), [table_bundle]).openapi()
    for path in document["paths"]:
        assert f" {path}`" in API, path
    for media_type in document["paths"]["/score"]["post"]["requestBody"]["content"]:
        assert f"`{media_type}`" in API, media_type
    for parameter in document["paths"]["/score"]["post"]["parameters"]:
        assert f"| `{parameter['name']}` |" in API


def test_every_score_is_documented_with_its_unit() -> None:
    text = (ROOT / "docs" / "scores.md").read_text()
    for name, score in SCORES.items():
        row = next(line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
        assert row.endswith(f"| {score.unit} |")


def test_the_pictures_are_those_that_the_code_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = pytest.importorskip("docs.draw")
    monkeypatch.setattr(draw, "FOLDER", tmp_path)
    draw.main()
    drawn = {path.name for path in tmp_path.iterdir()}
    shown = set(re.findall(r"\(pictures/(\w+\.png)\)", (ROOT / "docs" / "scores.md").read_text()))
    assert drawn == shown == {path.name for path in (ROOT / "docs" / "pictures").iterdir()}


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "deploy/README.md",
        *(
            f"docs/{name}.md"
            for name in (
                "api",
                "architecture",
                "bundle",
                "counterfactual",
                "dependencies",
                "explain",
                "operations",
                "page",
                "python",
                "report",
                "results",
                "runbook",
                "scores",
            )
        ),
    ],
)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", (ROOT / page).read_text()):
        assert ((ROOT / page).parent / target).exists(), target


def test_the_examples_of_the_library_run_and_name_every_public_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "docs" / "python.md").read_text()
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(block, names)
    public = {*elbound.__all__, *explain.__all__, "NearestNormal", "has_counterfactuals"}
    assert {name for name in public if name not in text} <= {"FiredReasons", "ImageShares", "RowShares"}


@pytest.mark.parametrize("package", FLOORS)
def test_the_architecture_names_every_folder_in_its_order(package: str) -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    table = text.partition(f"### {package}\n")[2].partition("\n#")[0]
    assert tuple(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == FLOORS[package]


def test_the_architecture_counts_the_files_of_a_request(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    row, csv = map(int, re.findall(r"(\d+) for one row of JSON, (\d+) for a streamed CSV", text)[0])
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.paths"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    found = [int(count) for count in re.findall(r": (\d+) files$", done.stdout, re.MULTILINE)]
    assert found[0] <= row
    assert found[1] <= csv
