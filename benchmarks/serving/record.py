"""What a run found, line by line, kept over runs: a line that is measured again replaces itself and no other."""

import datetime
import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from benchmarks.tables import RESULTS, commit, hardware, table

HEADER = ("what", "measured", "mark", "reached", "run")


@dataclass(frozen=True)
class Figure:
    """One number beside its mark; without a number, `why` says why it was not measured."""

    what: str
    value: float | None
    mark: float | None = None
    at_most: bool = False
    unit: str = ""
    why: str = ""

    @property
    def reached(self) -> bool | None:
        if self.value is None or self.mark is None:
            return None
        return self.value <= self.mark if self.at_most else self.value >= self.mark

    def row(self, run: str) -> list[str]:
        measured = f"not measured: {self.why}" if self.value is None else f"{self.value:.3g}{self.unit}"
        mark = "" if self.mark is None else f"{'at most' if self.at_most else 'at least'} {self.mark:g}{self.unit}"
        reached = {True: "yes", False: "**no**", None: ""}[self.reached]
        return [self.what, measured, mark, reached, run]


@dataclass
class Found:
    """What a part of the benchmark found: figures for the summary, and tables and notes behind them."""

    figures: list[Figure]
    header: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    notes: str = ""


@dataclass
class Record:
    """All parts that were ever measured, in `folder`/serving.json, and the page made of them."""

    folder: Path = RESULTS
    parts: dict[str, dict[str, object]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.path.exists():
            self.parts = json.loads(self.path.read_text())

    @property
    def path(self) -> Path:
        return self.folder / "serving.json"

    def put(self, part: str, found: Found) -> None:
        """Keep `found` in the place of what `part` found before, unless it could not be measured now and was then."""
        unmeasured = all(figure.value is None for figure in found.figures)
        if unmeasured and part in self.parts:
            return
        run = f"{datetime.datetime.now():%Y-%m-%d %H:%M} · {commit()}"
        versions = f"torch {torch.__version__}, Python {platform.python_version()}"
        self.parts[part] = {**asdict(found), "run": run, "hardware": f"{hardware()} · {versions}"}
        text = json.dumps(self.parts, indent=1)
        self.parts = json.loads(text)  # the page is the same, whoever measured
        self.folder.mkdir(exist_ok=True)
        self.path.write_text(text + "\n")

    def render(self, titles: dict[str, str], remarks: str) -> str:
        """The page: the summary, then each part's own table and notes, then what people had to remark."""
        known = [(title, self.parts[part]) for part, title in titles.items() if part in self.parts]
        machines = sorted({str(part["hardware"]) for _, part in known})
        summary = [Figure(**figure).row(str(part["run"])) for _, part in known for figure in _list(part["figures"])]
        lines = ["# Serving", "", *machines, "", *table(HEADER, summary)]
        for title, part in known:
            lines += ["", f"## {title}", "", str(part["run"]), ""]
            if part["rows"]:
                lines += [*table(_list(part["header"]), _list(part["rows"])), ""]
            lines += [str(part["notes"])]
        return "\n".join(lines) + (f"\n\n## Remarks\n\n{remarks.strip()}\n" if remarks.strip() else "\n")


def _list(value: object) -> list:  # type: ignore[type-arg]
    assert isinstance(value, list)
    return value
