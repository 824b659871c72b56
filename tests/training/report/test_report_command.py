"""`elbound train` with its report, as a user runs it."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from PIL import Image

from elbound.bundle import load_bundle
from tests.conftest import squares
from tests.forked import ENVIRON, run

pytestmark = pytest.mark.slow


def train(*arguments: object) -> subprocess.CompletedProcess[str]:
    ended = run("train", *arguments)
    assert "Traceback" not in ended.stderr
    return ended


@pytest.fixture
def factors(tmp_path: Path) -> Path:
    """Ten columns with two common causes: what two steps cannot learn and PCA can."""
    draw = np.random.default_rng(0)
    rows = draw.normal(size=(400, 2)) @ draw.normal(size=(2, 10)) + 0.05 * draw.normal(size=(400, 10))
    path = tmp_path / "normal.csv"
    pyarrow.csv.write_csv(pa.table({f"c{i}": column for i, column in enumerate(rows.T)}), path)
    return path


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    """Images in MVTec's layout: squares on noise, and defects that are bright in a corner."""
    images = squares(150)
    images[140:, :4, :4] = 255
    parts = {"train/good": images[:110], "test/good": images[110:140], "test/corner": images[140:]}
    for part, members in parts.items():
        (tmp_path / "part" / part).mkdir(parents=True)
        for i, pixels in enumerate(members):
            Image.fromarray(pixels).save(tmp_path / "part" / part / f"{i:03}.png")
    return tmp_path / "part"


def test_mvtecs_layout_is_trained_on_and_evaluated(layout: Path, tmp_path: Path) -> None:
    out = tmp_path / "b"
    settings = ("--out", out, "--steps", 60, "--alpha", 0.1, "--mode", "pixels", "--report-budget", 8)
    ended = train(layout, *settings)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith(
        "MVTec layout: 110 images of train/good train; 10 defects in 1 kind and 30 good ones of test evaluate"
    )
    assert "110 images, scored as 12 x 12 pixels" in ended.stdout
    assert "corner" in ended.stdout
    assert "false alarms among the good pictures of test: " in ended.stdout
    document = report_of(out)
    assert isinstance(document["defects"], dict)
    assert document["defects"]["items"] == 10
    assert isinstance(document["baselines"], dict)
    assert not document["baselines"]["synthetic"]


def test_a_doubtful_folder_ends_before_the_training(layout: Path, tmp_path: Path) -> None:
    out = tmp_path / "b"
    settings = ("--out", out, "--steps", 5, "--mode", "pixels", "--no-report")
    ended = train(layout / "test", *settings)
    assert ended.returncode == 1
    assert "beside the folder good lie 10 pictures in others (corner), which would train as normal" in ended.stderr
    assert f"train on {layout / 'test' / 'good'}" in ended.stderr
    assert "--anyway trains on them all the same" in ended.stderr
    assert not out.exists()
    ended = train(layout / "test", *settings, "--anyway")
    assert ended.returncode == 0, ended.stderr
    assert "warning: beside the folder good lie 10 pictures" in ended.stderr


def report_of(out: Path) -> dict[str, object]:
    files = load_bundle(out).report
    assert files["index.html"].startswith(b"<!doctype html>")
    found: dict[str, object] = json.loads(files["report.json"])
    return found


def test_a_bad_model_is_written_and_ends_with_status_3_under_strict(factors: Path, tmp_path: Path) -> None:
    out = tmp_path / "b"
    ended = train(factors, "--out", out, "--steps", 2, "--profile", "fast", "--strict", "--report-budget", 8)
    assert ended.returncode == 3
    assert "verdict: do not ship, because" in ended.stdout
    assert "PCA" in ended.stdout
    assert ended.stderr.startswith("--strict: verdict: do not ship, because ")
    verdict = report_of(out)["verdict"]
    assert isinstance(verdict, dict)
    assert not verdict["ship"]


def test_a_good_model_is_ship_under_strict(factors: Path, tmp_path: Path) -> None:
    ended = train(factors, "--out", tmp_path / "b", "--alpha", 0.1, "--strict")
    assert ended.returncode == 0, ended.stdout
    assert "verdict: ship" in ended.stdout
    assert str(tmp_path / "b" / "report" / "index.html") in ended.stdout


def test_anomalies_are_read_before_the_training(factors: Path, tmp_path: Path) -> None:
    out = tmp_path / "b"
    (tmp_path / "other.csv").write_text("x,y\n1,2\n")
    (tmp_path / "text.csv").write_text(",".join(f"c{i}" for i in range(10)) + "\n" + ",".join(["red"] * 10) + "\n")
    (tmp_path / "image.png").write_bytes(b"no image")
    for name, message in (
        ("other.csv", "columns are not those of the model; missing: 'c0'"),
        ("text.csv", "no row of"),
        ("image.png", "holds images; the training data are a table"),
    ):
        ended = train(factors, "--out", out, "--anomalous", tmp_path / name)
        assert ended.returncode == 1
        assert message in ended.stderr
        assert "step" not in ended.stdout
        assert not out.exists()


def test_no_report_has_no_verdict_and_no_use_for_its_settings(factors: Path, tmp_path: Path) -> None:
    ended = train(factors, "--out", tmp_path / "b", "--steps", 5, "--no-report")
    assert ended.returncode == 0
    assert "verdict: " not in ended.stdout
    assert load_bundle(tmp_path / "b").report == {}
    ended = train(factors, "--out", tmp_path / "c", "--no-report", "--strict")
    assert ended.returncode == 1
    assert "strict needs the report, which is switched off" in ended.stderr


def test_an_interrupt_of_the_report_keeps_the_model(factors: Path, tmp_path: Path) -> None:
    out = tmp_path / "b"
    command = [sys.executable, "-u", "-m", "elbound", "train", str(factors), "--out", str(out), "--steps", "600"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENVIRON)
    assert process.stdout is not None
    until, text = time.monotonic() + 100, ""
    while "report: autoencoder" not in text and time.monotonic() < until:
        text += process.stdout.readline()
    process.send_signal(signal.SIGINT)
    text += process.communicate(timeout=60)[0]
    assert process.returncode == 0, text
    assert "was interrupted" in text
    assert load_bundle(out).manifest.training.steps == 600
    assert not (tmp_path / "b.checkpoint").exists()
