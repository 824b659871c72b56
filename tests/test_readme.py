"""The README's example runs as it is written."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow

README = (Path(__file__).parents[1] / "README.md").read_text()


def write_rows(path: Path, n: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    width = draw.normal(5, 0.2, n)
    lines = [f"{w:.3f},{4 * w + draw.normal(0, 0.1):.3f},{draw.choice(['north', 'south'])}" for w in width]
    path.write_text("\n".join(["width,weight,line", *lines]) + "\n")


def test_the_example_of_train_serve_and_curl(tmp_path: Path) -> None:
    block = re.search(r"run by tests/test_readme.py -->\n```sh\n(.*?)```", README, re.DOTALL)
    assert block is not None
    write_rows(tmp_path / "normal.csv", 500, seed=0)
    write_rows(tmp_path / "upload.csv", 20, seed=1)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("ELBOUND_")}
    (tmp_path / ".venv").symlink_to(sys.prefix)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    script = "set -em\n" + block[1].replace("8000", str(port))
    ended = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=240
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert '"summary":{"items":20,"scored":20,' in ended.stdout
    assert '"alpha":0.05' in ended.stdout
    assert "elbound_items_scored_total{" in ended.stdout


def test_the_python_example(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    block = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert block is not None
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    names = {"X_normal": draw.normal(size=(500, 3)), "X_new": draw.normal(size=(5, 3))}
    exec(block[1], names)
    assert (tmp_path / "bundles" / "widgets" / "manifest.json").exists()
