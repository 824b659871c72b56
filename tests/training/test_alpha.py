"""The rate that training chooses, and one that nothing can alarm at: what each command says of it."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pytest

from tests.conftest import mixed_table
from tests.forked import run
from tests.training.test_commands import succeed

pytestmark = pytest.mark.slow

SILENT = (
    "at alpha = 0.01 nothing can ever be an anomaly: 30 calibration items decide nothing finer than 0.0323; "
    "ask for alpha = 0.05, or train on at least 396 items, or calibrate with at least 99 normal items"
)


def csv_of(path: Path, table: pa.Table) -> Path:
    pyarrow.csv.write_csv(table, path)
    return path


@pytest.mark.parametrize(
    ("n", "alpha", "sentence"),
    [
        (120, 0.05, "alpha = 0.05, one false alarm in 20: 120 rows decide no finer one; 396 would decide 0.01"),
        (225, 0.02, "alpha = 0.02, one false alarm in 50: 225 rows decide no finer one; 396 would decide 0.01"),
        (400, 0.01, "alpha = 0.01, one false alarm in 100\n"),
    ],
)
def test_training_takes_the_smallest_rate_that_the_rows_decide(
    tmp_path: Path, n: int, alpha: float, sentence: str
) -> None:
    data, out = csv_of(tmp_path / "normal.csv", mixed_table(n)), tmp_path / "bundle"
    text = succeed("train", data, "--out", out, "--steps", 5, "--no-report")
    assert sentence in text
    assert "nothing can ever be an anomaly" not in text
    assert json.loads((out / "manifest.json").read_text())["verdict"]["alpha"] == alpha


def test_a_rate_that_was_asked_for_and_does_not_resolve_is_never_shipped(tmp_path: Path) -> None:
    data, out = csv_of(tmp_path / "normal.csv", mixed_table(120)), tmp_path / "bundle"
    ended = run("train", data, "--out", out, "--steps", 5, "--alpha", 0.01, "--strict", "--report-budget", 0.01)
    assert ended.returncode == 3
    assert f"verdict: do not ship, because {SILENT}" in ended.stderr
    assert f"  - {SILENT}" in ended.stdout
    assert (out / "manifest.json").is_file()
    assert f"warning: {SILENT}\n" in succeed("inspect", out)
    for command in (("score", out, data, "--out", tmp_path / "results.csv"), ("explain", out, data)):
        assert f"warning: {SILENT}\n" in succeed(*command)
        assert "nothing can ever be an anomaly" not in succeed(*command, "--alpha", 0.05)


def test_without_a_report_it_is_a_warning(tmp_path: Path) -> None:
    data = csv_of(tmp_path / "normal.csv", mixed_table(120))
    text = succeed("train", data, "--out", tmp_path / "b", "--steps", 5, "--alpha", 0.01, "--no-report")
    assert f"warning: {SILENT}\n" in text
