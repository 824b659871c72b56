"""--group-by, --guarantee and `elbound calibrate`, as a user runs them."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from PIL import Image

from elbound.scorer import Scorer
from tests.conftest import mixed_table
from tests.training.test_commands import fail, run, succeed


def csv_of(path: Path, table: pa.Table) -> Path:
    pyarrow.csv.write_csv(table, path)
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A bundle with groups and a guarantee, and what the command said."""
    folder = tmp_path_factory.mktemp("trained")
    data = csv_of(folder / "normal.csv", mixed_table(900))
    out = folder / "bundle"
    text = succeed(
        "train",
        data,
        "--out",
        out,
        "--alpha",
        0.05,
        "--guarantee",
        0.8,
        "--group-by",
        "site",
        "--steps",
        60,
        "--no-report",
    )
    return out, text


def test_training_says_what_is_promised_to_whom(trained: tuple[Path, str]) -> None:
    out, text = trained
    assert "at alpha = 0.05, with 80 % confidence: with these items the realised false-alarm rate lies between" in text
    assert "groups by 'site', which is a feature too: thresholds of their own for east (" in text
    assert "groups with fewer than 32 calibration items share the pooled ones" in text
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["verdict"]["guarantee"] == 0.8
    assert manifest["item"]["group_by"] == "site"
    assert "groups by 'site'" in succeed("inspect", out)


def test_bulk_results_name_the_group_and_what_decided(trained: tuple[Path, str], tmp_path: Path) -> None:
    table = mixed_table(80, seed=41)
    succeed("score", trained[0], csv_of(tmp_path / "new.csv", table), "--out", tmp_path / "r.parquet")
    found = pyarrow.parquet.read_table(tmp_path / "r.parquet")
    groups = [site if site in ("north", "south", "east") else None for site in table["site"].to_pylist()]
    assert found["group"].to_pylist() == groups
    decided = np.array(found["conditional_p_value"]) <= 0.05
    assert (decided == np.array(found["is_anomaly"])).all()


def test_fresh_calibration_is_a_new_version_beside_the_old(trained: tuple[Path, str], tmp_path: Path) -> None:
    old = trained[0]
    before = {path: path.read_bytes() for path in old.rglob("*") if path.is_file()}
    fresh = csv_of(tmp_path / "fresh.csv", mixed_table(500, seed=42))
    text = succeed("calibrate", old, "--normal", fresh, "--alpha", 0.1)
    found = [path for path in old.parent.iterdir() if path.name.startswith("bundle-")]
    assert len(found) == 1
    assert f"wrote {found[0]}" in text
    scorer = Scorer.from_bundle(found[0], device="cpu")
    assert scorer.calibration.n == 500
    assert scorer.alpha == 0.1
    assert scorer.guarantee == 0.8
    assert scorer.calibration.item_groups is not None
    assert {path: path.read_bytes() for path in old.rglob("*") if path.is_file()} == before
    assert "exists already" in fail("calibrate", old, "--normal", fresh, "--out", found[0])
    assert "lies in the old bundle" in fail("calibrate", old, "--normal", fresh, "--out", old / "new")


def test_calibrating_on_something_else_is_refused_until_trusted(trained: tuple[Path, str], tmp_path: Path) -> None:
    table = mixed_table(100, seed=43)
    odd = csv_of(tmp_path / "odd.csv", table.set_column(0, "a", pa.array(table["a"].to_numpy() + 5)))
    out = tmp_path / "new"
    assert "look nothing like what calibrated bundle before" in fail(
        "calibrate", trained[0], "--normal", odd, "--out", out
    )
    assert not out.exists()
    text = succeed("calibrate", trained[0], "--normal", odd, "--out", out, "--trust")
    assert "what is normal has moved" in text
    few = csv_of(tmp_path / "few.csv", table.slice(0, 10))
    assert "10 readable items; at least 20" in fail("calibrate", trained[0], "--normal", few)
    other = csv_of(tmp_path / "other.csv", table.select(["a", "b"]))
    assert "missing: 'c', 'ok', 'site'" in fail("calibrate", trained[0], "--normal", other)


def test_images_are_grouped_by_a_pattern_of_their_names(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for camera in ("left", "right"):
        (tmp_path / "data" / camera).mkdir(parents=True)
        for i in range(60):
            pixels = draw.normal(120, 10, (12, 12)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / camera / f"{i}.png")
    out = tmp_path / "bundle"
    words = ("train", tmp_path / "data", "--out", out, "--alpha", 0.2, "--steps", 5, "--no-report")
    text = succeed(*words, "--group-by", r"^(\w+)/")
    assert "groups by '^(\\w+)/', which is no feature: thresholds of their own for" in text
    assert "is not a regular expression" in fail(*words, "--force", "--group-by", "(")
    assert "matches no file name" in fail(*words, "--force", "--group-by", "camera(x)")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--guarantee", "0.2"), "calibration.guarantee: Input should be greater than or equal to 0.5"),
        (("--group-by", "nothing"), "--group-by: there is no column 'nothing'"),
        (("--alpha", "nan"), "calibration.alpha"),
    ],
)
def test_a_setting_that_cannot_be_is_named(tmp_path: Path, words: tuple[str, str], message: str) -> None:
    data = csv_of(tmp_path / "normal.csv", mixed_table(60))
    assert message in fail("train", data, "--out", tmp_path / "bundle", *words)
    assert run("inspect", tmp_path / "bundle").returncode != 0
