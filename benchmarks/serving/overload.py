"""Offered three times what the server can do: how much of its best it still answers in time."""

from collections import Counter

import numpy as np

from benchmarks.serving.bundles import Material
from benchmarks.serving.closed import WITH_KEY
from benchmarks.serving.openloop import Plan, Tally, ask, percentile, request_text
from benchmarks.serving.process import Server, own
from benchmarks.serving.record import Figure, Found
from benchmarks.serving.run import Pace
from benchmarks.serving.tails import capacity

SHARES = (0.7, 0.85, 1.0)
"""Of the closed loop's capacity: the best goodput of these is the peak."""
TIMES = 3.0
CALLERS = (512, 2048)
"""Connections, on which a caller that finds none free goes without; the second passes `max_connections`."""
DEADLINE_MS = 1_000
HEADER = (
    "offered, 1/s", "connections", "in time, 1/s", "over peak", "p50 ms", "p99 ms", "late", "refused",
    "closed unanswered", "no connection free", "without Retry-After",
)  # fmt: skip


def three_times(material: Material, pace: Pace) -> Found:
    """Goodput at three times capacity over the best goodput."""
    with own("ours", material.bench) as server:
        best = capacity(material, server, pace)
        plain: dict[float, list[Tally]] = {share: [] for share in SHARES}
        over: dict[int, list[Tally]] = {callers: [] for callers in CALLERS}
        for _ in range(pace.rounds):
            for share, kept in plain.items():
                kept.append(_offer(material, server, best * share, CALLERS[0], pace))
            for callers, kept in over.items():
                kept.append(_offer(material, server, best * TIMES, callers, pace))
    peak = max(_goodput(kept) for kept in plain.values())
    figures = []
    for callers, kept in over.items():
        what = f"goodput at {TIMES:g} times capacity over peak goodput, {callers:,} connections"
        figures.append(Figure(what, _goodput(kept) / peak, 0.8 if callers == CALLERS[0] else None))
    lacking = sum(tally.without_retry_after for kept in (*plain.values(), *over.values()) for tally in kept)
    figures.append(Figure("answers with 429 or 503 that carry no Retry-After", lacking, 0, at_most=True))
    rows = [_row(best * share, CALLERS[0], kept, peak) for share, kept in plain.items()]
    rows += [_row(best * TIMES, callers, kept, peak) for callers, kept in over.items()]
    return Found(
        figures,
        HEADER,
        rows,
        f"Open loop. Goodput is what was answered with 200 within {DEADLINE_MS:,} ms of when it was due; the header "
        "X-Request-Deadline-Ms says the same to the server. A caller that finds all connections busy goes without and "
        "counts as not answered. Medians of rounds; the peak is the best median of the rates up to capacity.",
    )


def _offer(material: Material, server: Server, rate: float, callers: int, pace: Pace) -> Tally:
    headers = {**WITH_KEY, "x-request-deadline-ms": str(DEADLINE_MS)}
    requests = [request_text("/score", headers, body) for body in material.objects]
    plan = Plan(server.port, requests, rate, pace.tail_seconds, callers, patience_s=0.0, deadline_s=DEADLINE_MS / 1e3)
    return ask(plan)


def _goodput(tallies: list[Tally]) -> float:
    return float(np.median([tally.in_time / tally.seconds for tally in tallies]))


def _row(rate: float, callers: int, tallies: list[Tally], peak: float) -> list[str]:
    latencies = [value for tally in tallies for value in tally.latencies_ms]
    refused: Counter[int] = Counter()
    for tally in tallies:
        refused.update({status: count for status, count in tally.statuses.items() if status != 200})
    shown = ", ".join(f"{status}: {count:,}" for status, count in sorted(refused.items())) or "0"
    return [
        f"{rate:,.0f}",
        f"{callers:,}",
        f"{_goodput(tallies):,.0f}",
        f"{_goodput(tallies) / peak:.2f}",
        f"{percentile(latencies, 0.5):,.1f}" if latencies else "",
        f"{percentile(latencies, 0.99):,.1f}" if latencies else "",
        f"{sum(tally.late + tally.unanswered for tally in tallies):,}",
        shown,
        f"{sum(tally.broken for tally in tallies):,}",
        f"{sum(tally.unsent for tally in tallies):,}",
        f"{sum(tally.without_retry_after for tally in tallies):,}",
    ]
