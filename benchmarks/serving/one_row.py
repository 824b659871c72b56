"""One-row requests in a closed loop: over an empty POST, over a naive scorer, and what metrics cost."""

from contextlib import ExitStack

import numpy as np

from benchmarks.serving.bundles import Material
from benchmarks.serving.closed import WITH_KEY, Load, Sent, alternate, ratio
from benchmarks.serving.process import bare_rows_per_second, own
from benchmarks.serving.record import Figure, Found
from benchmarks.serving.run import Pace

HEADER = (
    "", "at once", "ours, 1/s", "other, 1/s", "ratio", "ours, CPU us", "other, CPU us", "ratio",
    "ours, p99 ms", "other, p99 ms",
)  # fmt: skip
EMPTY = {"plain ASGI": "/empty", "FastAPI route": "/empty-fastapi"}
FAST, EXPORTED = "fast", "fast by onnxruntime"
MARKS = {64: 0.40, 1: 0.25}
BARE_AT_ONCE = 64


def line(what: str, ours: Load, other: Load) -> list[str]:
    """Medians, and the medians of the ratios of rounds."""
    return [
        what,
        str(ours.concurrency),
        f"{ours.rate:,.0f}",
        f"{other.rate:,.0f}",
        f"{ratio(ours.per_second, other.per_second):.2f}",
        f"{ours.cpu:,.0f}",
        f"{other.cpu:,.0f}",
        f"{ratio(other.cpu_microseconds, ours.cpu_microseconds):.2f}",
        f"{ours.p99:,.1f}",
        f"{other.p99:,.1f}",
    ]


def over_empty(material: Material, pace: Pace) -> Found:
    """Lines of all bundles at 64 and 1 over the same server's empty POSTs; the default detector's bare scorer too."""
    figures, rows = [], []
    for name, bundle in (
        (FAST, material.bench),
        (EXPORTED, material.exported),
        ("default", material.default),
    ):
        with own("ours", bundle) as server:
            loads = {
                (path, c): Load(server, Sent(path, material.objects, WITH_KEY), c, material.folder)
                for c in MARKS
                for path in ("/score", *EMPTY.values())
            }
            alternate(list(loads.values()), pace.rounds, pace.seconds)
        for c, mark in MARKS.items():
            for kind, path in EMPTY.items():
                ours, other = loads["/score", c], loads[path, c]
                what = f"one-row requests/s over an empty POST ({kind}), {c} at once, {name}"
                value = ratio(ours.per_second, other.per_second)
                figures.append(Figure(what, value, None if name == "default" else mark))
                rows.append(line(f"{name}, over {kind}", ours, other))
        if name == "default":
            for c, at_once in ((64, BARE_AT_ONCE), (1, 1)):
                bare = bare_rows_per_second(bundle, at_once)
                value = loads["/score", c].rate / bare
                figures.append(
                    Figure(f"one-row requests/s over rows/s of the bare scorer, {c} at once, default", value)
                )
    return Found(
        figures,
        HEADER,
        rows,
        f"Medians of {pace.rounds} alternating rounds of {pace.seconds} s with wrk; ratios are medians of the rounds' "
        "ratios. CPU is that of the server's process tree for one request. Key check, validation and metrics are on, "
        "logs off. The empty POST is a route of the same server behind the same protocol class and "
        "middleware: an ordinary FastAPI route, and, the stricter reading, plain ASGI. The bare scorer is "
        f"`Scorer.score_tensor` in a process of its own, with {BARE_AT_ONCE} rows or one at once.",
    )


def over_naive(material: Material, pace: Pace) -> Found:
    """All bundles at 64 over a naive FastAPI scorer of the same bundle, after both have said the same."""
    figures, rows = [], []
    for name, bundle, mark in (
        (FAST, material.bench, 5.0),
        (EXPORTED, material.exported, 5.0),
        ("default", material.default, None),
    ):
        with ExitStack() as servers:
            loads = []
            for kind in ("ours", "naive"):
                server = servers.enter_context(own(kind, bundle))
                loads.append(Load(server, Sent("/score", material.objects, WITH_KEY), 64, material.folder))
            check_naive(*loads)
            alternate(loads, pace.rounds, pace.seconds)
        value = ratio(loads[0].per_second, loads[1].per_second)
        figures.append(Figure(f"one-row requests/s over naive FastAPI, 64 at once, {name}", value, mark, unit=" x"))
        rows.append(line(f"{name}, over naive FastAPI", *loads))
    return Found(
        figures,
        HEADER,
        rows,
        "The naive scorer is a `def` endpoint with a pydantic body that calls `Scorer.score_tensor`, without a key, "
        "metrics, limits or drift; scores and verdicts of all bodies were checked to be the same.",
    )


def check_naive(ours: Load, naive: Load) -> None:
    """Raise RuntimeError unless both servers say the same of every row."""
    from benchmarks.serving.equal import check_equal, of_ours, scores_of_naive

    for body in ours.sent.bodies:
        found = of_ours(ours.server.call("/score", body, WITH_KEY))
        check_equal("naive FastAPI", found, scores_of_naive(naive.server.call("/score", body, WITH_KEY)))


def over_no_metrics(material: Material, pace: Pace) -> Found:
    """CPU a request with metrics over that without, at 64 and 1."""
    figures, rows = [], []
    with ExitStack() as servers:
        with_them, without = (servers.enter_context(own(kind, material.bench)) for kind in ("ours", "quiet"))
        pairs = [
            [
                Load(server, Sent("/score", material.objects, WITH_KEY), c, material.folder)
                for server in (with_them, without)
            ]
            for c in MARKS
        ]
        alternate([load for pair in pairs for load in pair], pace.rounds, pace.seconds)
    for loads in pairs:
        value = float(np.median(np.array(loads[0].cpu_microseconds) / np.array(loads[1].cpu_microseconds)))
        what = f"CPU a request, metrics on over off, {loads[0].concurrency} at once"
        figures.append(Figure(what, value, 1.1, at_most=True))
        rows.append(line("metrics on, over off", *loads))
    return Found(figures, HEADER, rows, "Off: an application of the benchmark's own, without counters and timers.")


def idle(material: Material, pace: Pace) -> Found:
    """CPU of a server that has answered and has nothing to do."""
    import time

    used = []
    with own("ours", material.bench) as server:
        Load(server, Sent("/score", material.objects, WITH_KEY), 64, material.folder).measure(pace.seconds)
        for _ in range(pace.rounds):
            before, started = server.cpu(), time.perf_counter()
            time.sleep(pace.idle_seconds)
            used.append((server.cpu() - before) / (time.perf_counter() - started))
    value = float(np.median(used)) * 100
    return Found(
        [Figure("idle CPU, of one core", value, 1.0, at_most=True, unit=" %")],
        notes=f"The median of {pace.rounds} spans of {pace.idle_seconds} s after a load; the clock ticks every 10 ms.",
    )
