"""Which items of a file are explained: the anomalies, all of them, or those at some places."""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from elbound.calibration.calibration import POOLED, Decisions, ScoredItems
from elbound.data.items import TensorItems
from elbound.errors import ConfigError, DataError
from elbound.scorer import Scorer
from training.score.pieces import all_items


@dataclass(frozen=True)
class Verdict:
    """One item, its event `(*event)` and what was decided about it; `place` is counted from 0 over all items."""

    place: int
    name: str
    event: Tensor
    is_anomaly: bool
    score: float
    p_value: float
    severity: float | None
    fired: str
    group: str | None


@dataclass(frozen=True)
class Which:
    """The anomalies, or `every` item, or those at `places` alone; of more than `most` those with the largest scores.

    Raises ConfigError for what cannot be meant.
    """

    every: bool
    places: tuple[int, ...]
    most: int

    def __post_init__(self) -> None:
        if self.places and self.every:
            raise ConfigError("--index and --all exclude each other", where="index")
        if any(place < 0 for place in self.places):
            raise ConfigError(f"--index counts from 0. Got {min(self.places)} instead", where="index")
        if self.most < 1:
            raise ConfigError(f"--most must be at least 1. Got {self.most} instead", where="most")


@dataclass(frozen=True)
class Rate:
    """At which an item is an anomaly."""

    alpha: float
    guarantee: float | None


@dataclass(frozen=True)
class Chosen:
    """`verdicts` in the order of the file, of `wanted` items that the choice asked for among `items` in all."""

    verdicts: list[Verdict]
    wanted: int
    items: int


def choose_items(scorer: Scorer, path: Path, which: Which, rate: Rate) -> Chosen:
    """Score all items at `path`, some thousands at a time, and keep those of the which.

    Raises DataError where nothing could be read, ConfigError for a place that no item or an unreadable one has.
    """
    failures: list[DataError] = []
    kept: list[tuple[float, int, Verdict]] = []
    wanted = start = readable = 0
    missing = set(which.places)
    for items in all_items(scorer, path, failures):
        readable += len(items.x)
        for one in _verdicts(scorer, items, which, rate, start):
            wanted += 1
            missing.discard(one.place)
            heapq.heappush(kept, (one.score, -one.place, one))
            if len(kept) > which.most:
                heapq.heappop(kept)
        start += items.n
        for place in sorted(place for place in missing if start - items.n <= place < start):
            error = items.errors[place - (start - items.n)]
            raise ConfigError(f"--index {place}: the item cannot be read: {error.message}", where="index")
    if not readable:
        raise failures[0] if failures else DataError(f"{path} holds no readable items", where=str(path))
    if missing:
        raise ConfigError(f"--index {min(missing)}: {path} holds {start:,} items, counted from 0", where="index")
    return Chosen(sorted((one for *_, one in kept), key=lambda one: one.place), wanted, start)


def _verdicts(scorer: Scorer, items: TensorItems, which: Which, rate: Rate, start: int) -> Iterator[Verdict]:
    """Those of the choice among `items`, whose first one has the place `start`."""
    scored = scorer.score_items(items)
    decisions = scorer.calibration.decide(scored, rate.alpha, rate.guarantee)
    fired = scorer.calibration.rule.fired(scored.scores) if len(scored) else []
    for i, place in enumerate(items.index.tolist()):
        if which.places and start + place not in which.places:
            continue
        if which.places or which.every or decisions.is_anomaly[i]:
            name = str(start + place) if items.names is None else items.names[place]
            yield _verdict(start + place, name, items.x[i], _Decided(scorer, scored, decisions, fired), i)


@dataclass(frozen=True)
class _Decided:
    scorer: Scorer
    scored: ScoredItems
    decisions: Decisions
    fired: list[str]

    def group(self, i: int) -> str | None:
        """By which calibration group the item was ranked."""
        groups, number = self.scorer.calibration.item_groups, int(self.scored.group[i])
        return None if groups is None or number == POOLED else groups.names[number]


def _verdict(place: int, name: str, event: Tensor, decided: _Decided, i: int) -> Verdict:
    severity = float(decided.decisions.severity[i])
    conditional = decided.decisions.conditional_p_value
    return Verdict(
        place=place,
        name=name,
        event=event.clone(),
        is_anomaly=bool(decided.decisions.is_anomaly[i]),
        score=float(decided.scored.score[i]),
        p_value=float((decided.scored.p_value if conditional is None else conditional)[i]),
        severity=None if severity != severity else severity,
        fired=decided.fired[i],
        group=decided.group(i),
    )


def events_of(verdicts: list[Verdict]) -> Tensor:
    """`(n, *event)`; at least one."""
    return torch.stack([one.event for one in verdicts])
