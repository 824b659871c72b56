"""Printing a table of measurements and keeping it with date, hardware and commit."""

import argparse
import datetime
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path

import torch

RESULTS = Path(__file__).parent / "results"


def hardware() -> str:
    """The processor, the cores that this process may use, and the GPU where there is one."""
    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor(),
    )
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ", no GPU"
    return f"{model}, {len(os.sched_getaffinity(0))} cores{gpu}"


def keep(name: str, title: str, header: Sequence[str], rows: Sequence[Sequence[str]], notes: str = "") -> None:
    """Print the table and write it to `results/NAME.md`."""
    lines = [
        f"# {title}",
        "",
        f"{datetime.date.today()} · {hardware()} · torch {torch.__version__}, Python {platform.python_version()} · "
        f"commit {commit()}",
        "",
        *table(header, rows),
    ]
    text = "\n".join(lines) + "\n" + (f"\n{notes}\n" if notes else "")
    print(text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def rounds(description: str, default: int) -> int:
    """`--rounds N` of the command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=default)
    return int(parser.parse_args().rounds)


def commit() -> str:
    """The commit that is checked out, short."""
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
