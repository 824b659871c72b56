"""The demo: real data, a real server, and the same numbers twice."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    folder = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-m", "elbound", "demo", "--out", str(folder / "demo")]
    texts = []
    for _ in range(2):
        ended = subprocess.run(command, capture_output=True, text=True, timeout=240, env={**os.environ})
        assert ended.returncode == 0, ended.stdout + ended.stderr
        texts.append(" ".join(ended.stdout.split()))
    return folder / "demo", texts


def figures(text: str) -> dict[str, tuple[float, int, int, int, int]]:
    pattern = (
        r"(\w+): AUROC ([\d.]+); at alpha = 0.05 false alarms on (\d+) of (\d+) normals never seen = [\d.]+ "
        r"\(a kept promise allows (\d+) to (\d+) in"
    )
    return {m[1]: (float(m[2]), *(int(part) for part in m.groups()[2:])) for m in re.finditer(pattern, text)}  # type: ignore[misc]


def test_the_same_numbers_come_out_twice(outputs: tuple[Path, list[str]]) -> None:
    first, second = (figures(text) for text in outputs[1])
    assert set(first) == {"digits", "cancer"}
    assert first == second


def test_anomalies_are_found_and_the_rate_holds(outputs: tuple[Path, list[str]]) -> None:
    for auroc, alarms, normals, low, high in figures(outputs[1][0]).values():
        assert auroc > 0.93
        assert normals > 100
        assert low <= alarms <= high


def test_verdicts_and_a_picture(outputs: tuple[Path, list[str]]) -> None:
    folder, texts = outputs
    assert "anomalous/5_" in texts[0]
    with Image.open(folder / "digits.png") as picture:
        assert picture.size[0] > 1000
