"""Ours over LitServe, MLServer and BentoML at their best settings, for one-row and for large requests."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import orjson

from benchmarks.serving.bundles import MANY_ROWS, SENT_ROWS, Material
from benchmarks.serving.closed import WITH_KEY, Load, Sent, alternate, ratio
from benchmarks.serving.equal import check_equal, of_ours
from benchmarks.serving.one_row import line
from benchmarks.serving.peers import PEERS, Peer, Settings
from benchmarks.serving.process import NotStarted, Server, own
from benchmarks.serving.record import Figure, Found
from benchmarks.serving.run import Pace

AT_ONCE, LARGE_AT_ONCE = (16, 64, 256), 4
CALLERS = 8
HEADER = (
    "", "at once", "ours, 1/s", "other, 1/s", "ratio", "ours, CPU us", "other, CPU us", "ratio",
    "ours, p99 ms", "other, p99 ms", "its best settings",
)  # fmt: skip


@dataclass(frozen=True)
class Match:
    """Ours against one peer at one concurrency, the peer at its best settings."""

    peer: str
    settings: Settings
    ours: Load
    other: Load

    @property
    def faster(self) -> float:
        return ratio(self.ours.per_second, self.other.per_second)

    @property
    def cheaper(self) -> float:
        """By what factor ours takes less CPU for a request."""
        return ratio(self.other.cpu_microseconds, self.ours.cpu_microseconds)

    def row(self, what: str) -> list[str]:
        return [*line(f"{what} over {self.peer}", self.ours, self.other), _said(self.settings)]


def one_row(material: Material, pace: Pace) -> Found:
    """The second line: one-row requests at 16, 64 and 256."""
    rows = material.rows[:SENT_ROWS]
    sent = Sent("/score", material.objects, WITH_KEY)
    contest = Contest(material, pace, sent, rows, 1)
    matches = contest.run({peer: peer.small for peer in PEERS}, AT_ONCE)
    figures = []
    for c in AT_ONCE:
        at_c = [match for match in matches if match.ours.concurrency == c]
        figures += [
            _least(f"one-row requests/s over the best tuned peer, {c} at once", [m.faster for m in at_c], 5.0),
            _least(f"the cheapest peer's CPU a request over ours, {c} at once", [m.cheaper for m in at_c], 8.0),
        ]
    return Found(figures, HEADER, [match.row("one row") for match in matches], _notes(pace, contest))


def large(material: Material, pace: Pace) -> Found:
    """The fourth line: 4,096 rows of JSON, answered by columns, four at once."""
    rows = material.upload(MANY_ROWS)
    body = orjson.dumps({"rows": rows.tolist()})
    contest = Contest(material, pace, Sent("/score?layout=columns", [body], WITH_KEY), rows, MANY_ROWS)
    matches = contest.run({peer: peer.large for peer in PEERS}, (LARGE_AT_ONCE,))
    by_name = {match.peer: match.faster for match in matches}
    next_ones = [faster for name, faster in by_name.items() if name != "MLServer"]
    what = f"{MANY_ROWS:,}-row JSON, {LARGE_AT_ONCE} at once, over"
    figures = [
        _least(f"{what} MLServer", [by_name[name] for name in by_name if name == "MLServer"], 1.0),
        _least(f"{what} the next", next_ones, 2.0),
    ]
    return Found(figures, HEADER, [match.row(f"{MANY_ROWS:,} rows") for match in matches], _notes(pace, contest))


def _least(what: str, ratios: Sequence[float], mark: float) -> Figure:
    """The least of the ratios, which is that over the strongest peer."""
    why = "" if ratios else "no such server is installed; `make bench-peers`"
    return Figure(what, min(ratios, default=None), mark, unit=" x", why=why)


class Contest:
    """`sent` to ours; the same `rows`, `at_once` a request, to each peer."""

    def __init__(self, material: Material, pace: Pace, sent: Sent, rows: np.ndarray, at_once: int) -> None:
        self.material = material
        self.pace = pace
        self.sent = sent
        self.rows = rows
        self.at_once = at_once
        self.failed: list[str] = []

    def run(self, tried: Mapping[type[Peer], Sequence[Settings]], concurrencies: Sequence[int]) -> list[Match]:
        """Find each peer's best settings at each concurrency, then alternate ours with it."""
        matches: list[Match] = []
        for kind, settings in tried.items():
            peer = kind(self.material.bench, self.material.folder)
            if not peer.is_installed:
                continue
            with own("ours", self.material.bench) as ours:
                self.expected = self._ask_ours(ours)
                with ours.paused():
                    best = self._best(peer, settings, concurrencies)
                for i, at in best.items():
                    with self._checked(peer, settings[i]) as other:
                        for c in at:
                            match = Match(
                                peer.name, settings[i], self._load(ours, self.sent, c), self._of(peer, other, c)
                            )
                            alternate([match.ours, match.other], self.pace.rounds, self.pace.seconds)
                            print(" | ".join(match.row("")), flush=True)
                            matches.append(match)
        return sorted(matches, key=lambda match: match.ours.concurrency)

    def _best(self, peer: Peer, tried: Sequence[Settings], concurrencies: Sequence[int]) -> dict[int, list[int]]:
        """The number of the fastest settings, and at which concurrencies they are that."""
        rates: dict[int, dict[int, float]] = {c: {} for c in concurrencies}
        for i, settings in enumerate(tried):
            try:
                with self._checked(peer, settings) as server:
                    for c in concurrencies:
                        rate = self._try(peer, settings, server, c)
                        if rate:
                            rates[c][i] = rate
            except NotStarted as error:
                self._fail(peer, settings, f"did not start: {str(error)[-200:]}")
        best: dict[int, list[int]] = defaultdict(list)
        for c, found in rates.items():
            if not found:
                raise RuntimeError(f"{peer.name} answers at {c} with no settings: {self.failed}")
            best[max(found, key=lambda i: found[i])].append(c)
        return best

    def _try(self, peer: Peer, settings: Settings, server: Server, c: int) -> float:
        """Requests/s in a short trial, 0 where any failed."""
        load = self._of(peer, server, c)
        try:
            load.measure(1, kept=False)
            load.measure(self.pace.trial_seconds)
        except RuntimeError as error:
            self._fail(peer, settings, f"at {c}: {_failure(str(error))}")
            return 0.0
        print(f"{peer.name} {_said(settings)} at {c}: {load.rate:,.0f}/s", flush=True)
        return load.rate

    def _fail(self, peer: Peer, settings: Settings, why: str) -> None:
        self.failed.append(f"{peer.name} with {_said(settings)} {why}")
        print(self.failed[-1], flush=True)

    @contextmanager
    def _checked(self, peer: Peer, settings: Settings) -> Iterator[Server]:
        """The peer, once it has answered all rows as ours, alone and several callers at a time."""
        with peer.serving(settings) as server:
            parts = [self.rows[i : i + self.at_once] for i in range(0, len(self.rows), self.at_once)]
            with ThreadPoolExecutor(CALLERS) as callers:
                for found in (
                    [peer.score(server, part) for part in parts],
                    list(callers.map(lambda part: peer.score(server, part), parts)),
                ):
                    check_equal(f"{peer.name} {dict(settings)}", self.expected, np.concatenate(found))
            yield server

    def _ask_ours(self, ours: Server) -> np.ndarray:
        return np.concatenate([of_ours(ours.call(self.sent.path, body, WITH_KEY)) for body in self.sent.bodies])

    def _of(self, peer: Peer, server: Server, c: int) -> Load:
        return self._load(server, peer.sent(self.rows, self.at_once), c)

    def _load(self, server: Server, sent: Sent, c: int) -> Load:
        return Load(server, sent, c, self.material.folder)


def _said(settings: Settings) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items())


def _failure(text: str) -> str:
    """What wrk counted as failed."""
    return "; ".join(part.strip() for part in text.splitlines() if "Non-2xx" in part or "Socket errors" in part) or text


def _notes(pace: Pace, contest: Contest) -> str:
    failed = f" Settings that failed and were not used: {'; '.join(contest.failed)}." if contest.failed else ""
    return (
        "Each peer runs in an environment of its own (`benchmarks/peers/*.txt`) and calls `Scorer.score_tensor` with "
        "the same bundle on one torch thread a worker; scores, p-values and decisions of all rows were checked to be "
        "the same to 1e-5, alone and from several callers at a time, at every setting before it was timed. It is sent "
        "the form that it reads fastest and answers scores, p-values and the decision; it has no key check. Settings "
        f"are the fastest of those in `benchmarks/serving/peers.py` in trials of {pace.trial_seconds} s. Then medians "
        f"of {pace.rounds} rounds of {pace.seconds} s, alternating with ours. A figure is the least over all peers."
        + failed
    )
