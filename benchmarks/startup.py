"""What a command and the service cost before they do anything.

python -m benchmarks.startup [--rounds N]
"""

import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np

from benchmarks.tables import keep, rounds
from benchmarks.training import correlated, seconds
from elbound import VAEDetector

COMMAND = [sys.executable, "-m", "elbound"]


def until_ready(bundle: Path, folder: Path) -> float:
    """Seconds from the start of `elbound serve` to the first 200 of /readyz."""
    log = folder / "log"
    started = time.perf_counter()
    with log.open("wb") as sink:
        server = subprocess.Popen([*COMMAND, "serve", str(bundle), "--port", "0"], stdout=sink, stderr=sink)
    try:
        while not _ready(log):
            if server.poll() is not None:
                raise RuntimeError(log.read_text())
            time.sleep(0.01)
        return time.perf_counter() - started
    finally:
        server.terminate()
        server.wait()


def _ready(log: Path) -> bool:
    found = re.search(r"listening on (http://\S+)", log.read_text())
    if not found:
        return False
    try:
        with urllib.request.urlopen(f"{found[1]}/readyz") as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError):
        return False


def main() -> None:
    times = rounds("Measure start.", 5)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        VAEDetector(steps=50).fit(correlated(2000, 32)).save(folder / "bundle")
        ready = float(np.median([until_ready(folder / "bundle", folder) for _ in range(times)]))
    environ = {**os.environ, "NO_COLOR": "1"}
    torch_alone = seconds(lambda: subprocess.run([sys.executable, "-c", "import torch"], check=True), times)
    helping = seconds(
        lambda: subprocess.run([*COMMAND, "--help"], check=True, stdout=subprocess.DEVNULL, env=environ), times
    )
    keep(
        "startup",
        "Start",
        ["what", "seconds", "over `import torch`", "at most"],
        [
            ["`elbound --help`", f"{helping:.2f}", f"{helping / torch_alone:.2f}", "0.5"],
            ["`import torch` alone", f"{torch_alone:.2f}", "1.00", ""],
            ["`elbound serve` until /readyz, golden rows checked", f"{ready:.2f}", f"{ready / torch_alone:.2f}", "5"],
        ],
        f"The median of {times} runs with warm file caches.",
    )


if __name__ == "__main__":
    main()
