"""The demo: real data, a real server. That the same seed gives the same weights is tested with the fit."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-m", "elbound", "demo", "--out", str(folder / "demo")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=240, env={**os.environ})
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return folder / "demo", " ".join(ended.stdout.split())


def figures(text: str) -> dict[str, tuple[float, int, int, int, int]]:
    pattern = (
        r"(\w+): AUROC ([\d.]+); at alpha = 0.05 false alarms on (\d+) of (\d+) normals never seen = [\d.]+ "
        r"\(a kept promise allows (\d+) to (\d+) in"
    )
    return {m[1]: (float(m[2]), *(int(part) for part in m.groups()[2:])) for m in re.finditer(pattern, text)}  # type: ignore[misc]


def test_anomalies_are_found_and_the_rate_holds(output: tuple[Path, str]) -> None:
    found = figures(output[1])
    assert set(found) == {"digits", "cancer"}
    for auroc, alarms, normals, low, high in found.values():
        assert auroc > 0.93
        assert normals > 100
        assert low <= alarms <= high


def test_verdicts_and_a_picture(output: tuple[Path, str]) -> None:
    folder, text = output
    assert "anomalous/5_" in text
    assert text.count("verdict: ship") == 2
    with Image.open(folder / "digits.png") as picture:
        assert picture.size[0] > 1000
