"""The record as arrays: what every table of the report is taken from."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.detection.ours import BOTH_ELBOS, OURS, VERDICT
from benchmarks.detection.record import Line
from benchmarks.detection.statistics import Alarms

ELBOS = {"elbound, −ELBO of the first view": "negative_elbo", "elbound, −ELBO of all views": BOTH_ELBOS}


@dataclass(frozen=True)
class Shown:
    """A row or column of the report: one score of one method."""

    title: str
    method: str
    score: str


def shown_of(lines: Sequence[Line]) -> list[Shown]:
    """What was measured, ours first: the verdict of each of ours, the ELBO of the first, then the peers."""
    methods = list(dict.fromkeys(line["method"] for line in lines if "results" in line))
    found = []
    for method in [name for name in OURS if name in methods]:
        found.append(Shown(f"{method}, verdict", method, VERDICT))
        if method == "elbound":
            found += [
                Shown(title, method, score)
                for title, score in ELBOS.items()
                if any(_has(line, score, None) for line in lines if line["method"] == method and "results" in line)
            ]
    return found + [Shown(method, method, "score") for method in methods if method not in OURS]


def measured(lines: Sequence[Line], part: str) -> list[Line]:
    """The lines of a part that hold results."""
    return [line for line in lines if line["part"] == part and "results" in line]


def sets_of(lines: Iterable[Line]) -> list[str]:
    """The sets, in alphabetical order; numbers at the end in theirs."""
    names = {line["set"] for line in lines}
    return sorted(names, key=lambda name: (name.rpartition("-")[0] or name.lower(), len(name), name))


def per_set(lines: Sequence[Line], shown: Shown, metric: str, kind: str | None = None) -> dict[str, float]:
    """The mean over seeds of a metric on one kind of anomaly (the first by default), by set."""
    return _mean_by_set(
        (line["set"], line["results"][kind or next(iter(line["results"]))][shown.score][metric])
        for line in lines
        if line["method"] == shown.method and _has(line, shown.score, kind)
    )


def seconds(lines: Sequence[Line], shown: Shown, name: str) -> dict[str, float]:
    """The mean over seeds of `fit_s` or `score_s`, by set."""
    return _mean_by_set((line["set"], line[name]) for line in lines if line["method"] == shown.method)


def common(left: dict[str, float], right: dict[str, float]) -> tuple[list[str], list[float], list[float]]:
    """The sets that both have, and both values of each."""
    names = [name for name in left if name in right]
    return names, [left[name] for name in names], [right[name] for name in names]


def alarms_of(line: Line) -> list[Alarms]:
    """False alarms of one line of ours."""
    return [Alarms(**one) for one in line.get("alarms", [])]


def _has(line: Line, score: str, kind: str | None) -> bool:
    results = line["results"]
    kind = kind or next(iter(results))
    return kind in results and score in results[kind]


def _mean_by_set(pairs: Iterable[tuple[str, float]]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return {name: float(np.mean(values)) for name, values in found.items()}
