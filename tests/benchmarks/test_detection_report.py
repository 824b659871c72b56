"""The report of the detection benchmark, from records that are written here."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sklearn")

from benchmarks.detection import __main__ as command
from benchmarks.detection.record import Record, origin
from benchmarks.detection.report import render
from benchmarks.detection.task import Job

TABLES = {"large": (0.80, 0.90), "small": (0.95, 0.90), "even": (0.99, 0.90)}
"""AUROC of ours and of kNN."""


def _scored(**auroc: float) -> dict[str, Any]:
    return {name: {"auroc": value, "aupr": value / 2} for name, value in auroc.items()}


def _alarms(k: int) -> list[dict[str, float]]:
    return [{"alpha": 0.05, "alarms": 5, "items": 100, "calibration": 99, "k": k}]


def _line(results: dict[str, Any], **more: Any) -> dict[str, Any]:
    sizes = {"train": 10, "test": 10, "rows": 600, "columns": 3, "anomalies": 5}
    return {"sizes": sizes, "fit_s": 2.0, "score_s": 0.5, "scored": 50, "wall_s": 3.0, "results": results, **more}


@pytest.fixture
def record(tmp_path: Path) -> Record:
    """Three tables in two seeds, every image part once, one failure."""
    record, here = Record(tmp_path / "detection.jsonl"), origin()
    for name, (ours, theirs) in TABLES.items():
        for seed in (0, 1):
            scores = {"anomalies": _scored(verdict=ours, negative_elbo=ours - 0.1)}
            record.append(Job("tables", name, seed, "elbound", 100), _line(scores, alarms=_alarms(5)), here)
            record.append(Job("tables", name, seed, "kNN", 100), _line({"anomalies": _scored(score=theirs)}), here)
    kinds = {"shift": ("fashion", ("mnist", "noise")), "circuits": ("circuits", ("defects",))}
    for part, (name, odd) in kinds.items():
        scores = {kind: _scored(verdict=0.9, negative_elbo=0.8) for kind in odd}
        record.append(Job(part, name, 0, "elbound"), _line(scores, alarms=_alarms(5)), here)
        record.append(Job(part, name, 0, "pixel 1-NN"), _line({kind: _scored(score=0.7) for kind in odd}), here)
    for label in (0, 1, 10):
        scores = {"other classes": _scored(verdict=0.9 + label / 100, negative_elbo=0.5)}
        record.append(Job("one-class", f"mnist-{label}", 0, "elbound"), _line(scores, alarms=_alarms(0)), here)
    maps = {"pixel_auroc": {"defects": 0.876}}
    record.append(Job("tiles", "tiles", 0, "elbound"), _line({"defects": _scored(verdict=0.7)}, **maps), here)
    record.append(Job("patches", "mnist", 0, "elbound pixels"), {"failed": "TypeError: no mode", "wall_s": 0.1}, here)
    return record


def _row(text: str, start: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(f"| {start} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_means_of_tables(record: Record) -> None:
    text = render(record.latest())
    assert _row(text, "elbound, verdict")[1:] == ["91.3", "45.7", "2.00", "2.00", "2.00", "0.50", "3"]
    assert _row(text, "elbound, −ELBO of the first view")[1] == "81.3"
    assert _row(text, "kNN")[1] == "90.0"


def test_losses_are_named(record: Record) -> None:
    text = render(record.latest())
    assert "Behind kNN in AUROC: large -10.0." in text
    assert "with at least 500 rows: large -10.0." in text
    lead = next(line for line in text.splitlines() if line.startswith("| elbound, verdict | +1.3 ["))
    assert "2 : 1" in lead


def test_false_alarms_are_pooled(record: Record) -> None:
    assert _row(render(record.latest()), "**all sets and seeds**")[3].startswith("30 / 600 = 5.00% [")


def test_the_image_tables(record: Record) -> None:
    text = render(record.latest())
    assert _row(text, "fashion → noise")[1:] == ["90.0", "80.0", "70.0"]
    assert _row(text, "**mnist, mean of 3**")[1] == "93.7"
    assert [line.split(" |")[0] for line in text.splitlines() if line.startswith("| mnist-")] == [
        "| mnist-0",
        "| mnist-1",
        "| mnist-10",
    ]
    assert _row(text, "tiles | elbound")[2:] == ["87.6"]


def test_failures_and_origin_are_told(record: Record) -> None:
    text = render(record.latest())
    assert "- patches mnist seed 0 elbound pixels: TypeError: no mode" in text
    assert f"commit {origin()['commit']}" in text


def test_a_later_success_replaces_a_failure_and_not_the_other_way_round(record: Record) -> None:
    job = Job("patches", "mnist", 0, "elbound pixels")
    record.append(job, _line({"pasted patch": _scored(verdict=0.66)}, pixel_auroc={"pasted patch": 0.81}), origin())
    record.append(job, {"failed": "killed", "wall_s": 0.1}, origin())
    text = render(record.latest())
    assert "Not measured" not in text
    assert _row(text, "mnist | elbound pixels")[2] == "81.0"


def test_the_command_renders_without_measuring(record: Record) -> None:
    folder = record.path.parent
    assert command.main(["--report", "--out", str(folder)]) == 0
    assert (folder / "detection.md").read_text() == render(record.latest())


def test_an_empty_record_renders(tmp_path: Path) -> None:
    assert command.main(["--report", "--out", str(tmp_path)]) == 0


def test_the_plan_is_set_by_set(tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    for name in ("a", "b"):
        (tmp_path / "tables" / f"{name}.npz").touch()
    asked = command._parser().parse_args(["tables", "patches", "--seeds", "0,1", "--peers", "vae"])
    jobs = list(command.plan(asked, tmp_path))
    assert [job.set for job in jobs] == sorted(["a", "b"] * 14) + ["fashion"] * 2 + ["mnist"] * 2 + ["cifar"] * 2
    assert {job.method for job in jobs if job.part == "tables"} >= {"elbound", "elbound fast", "kNN", "PyOD VAE"}
