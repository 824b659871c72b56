"""What the documents say is what the code does."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from elbound.scores import SCORES
from service.app import create_app
from service.settings import PREFIX, Settings

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
        "SECURITY.md",
        "deploy/README.md",
        *(
            f"docs/{name}.md"
            for name in (
                "api",
                "bundle",
                "counterfactual",
                "dependencies",
                "explain",
                "operations",
                "page",
                "report",
                "runbook",
                "scores",
            )
        ),
    ],
)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", (ROOT / page).read_text()):
        assert ((ROOT / page).parent / target).exists(), target
