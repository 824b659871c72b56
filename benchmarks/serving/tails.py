"""Latency at a constant rate, from an open loop: over an empty POST, and while a bulk upload runs."""

import io
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.csv

from benchmarks.serving.bundles import NAMES, Material
from benchmarks.serving.closed import WITH_KEY, Load, Sent
from benchmarks.serving.one_row import EXPORTED, FAST
from benchmarks.serving.openloop import Plan, Tally, ask, percentile, request_text
from benchmarks.serving.process import Server, own
from benchmarks.serving.record import Figure, Found
from benchmarks.serving.run import Pace

SHARE, SHARE_BESIDE_BULK = 0.5, 0.25
"""Of our own capacity at 64 at once, offered."""
CALLERS = 256
DEADLINE_S = 10.0
UPLOAD_ROWS = {"fast": 100_000, "default": 20_000}
"""So that one takes about a second or two on one core."""
FORMS: dict[str, tuple[str, dict[str, str]]] = {
    "answered as Arrow": ("/score", {"accept": "application/vnd.apache.arrow.stream"}),
    "answered as JSON": ("/score?layout=columns", {}),
}
"""Of a bulk upload: scored while it arrives, or buffered."""
HEADER = ("", "rate, 1/s", "p50 ms", "p99 ms", "p99.9 ms", "sent late by, p99 ms")


def over_empty(material: Material, pace: Pace) -> Found:
    """The p99 of one-row requests over that of the empty POST at the same rate, by both engines."""
    figures, rows = [], []
    for name, bundle in ((FAST, material.bench), (EXPORTED, material.exported)):
        tallies: dict[str, list[Tally]] = {"/score": [], "/empty": []}
        with own("ours", bundle) as server:
            rate = SHARE * capacity(material, server, pace)
            for _ in range(pace.rounds):
                for path, kept in tallies.items():
                    kept.append(at_rate(material, server, path, rate, pace.tail_seconds))
        value = _ratio_of_p99(tallies["/score"], tallies["/empty"])
        what = f"p99 of one-row requests over the empty POST's at the same rate, {name}"
        figures.append(Figure(what, value, 4.0, at_most=True, unit=" x"))
        rows += [_row(f"{name}, {path}", rate, kept) for path, kept in tallies.items()]
    return Found(
        figures,
        HEADER,
        rows,
        f"Open loop: requests leave at evenly spaced times over {CALLERS} connections, at {SHARE:g} of what wrk got "
        "out of `/score` at 64 at once in the same run, and latency counts from when a request was due. The empty POST "
        f"is the plain ASGI one. Medians of {pace.rounds} alternating rounds of {pace.tail_seconds} s.",
    )


def beside_bulk(material: Material, pace: Pace) -> Found:
    """The p99 of one-row requests while uploads of many rows run, over that without."""
    figures, rows = [], []
    for name, bundle, form, mark in (
        ("fast", material.bench, "answered as Arrow", 3.0),
        ("fast", material.bench, "answered as JSON", None),
        ("default", material.default, "answered as Arrow", None),
    ):
        alone, beside, uploads = [], [], 0
        with own("ours", bundle) as server:
            rate = SHARE_BESIDE_BULK * capacity(material, server, pace)
            for _ in range(pace.rounds):
                alone.append(at_rate(material, server, "/score", rate, pace.tail_seconds))
                with uploading(material, server, UPLOAD_ROWS[name], form) as counted:
                    beside.append(at_rate(material, server, "/score", rate, pace.tail_seconds))
                uploads += counted[0]
        value = _ratio_of_p99(beside, alone)
        what = f"p99 of one-row requests while a bulk upload {form} runs, over without, {name}"
        figures.append(Figure(what, value, mark, at_most=True, unit=" x"))
        rows += [
            _row(f"{name}, alone", rate, alone),
            _row(f"{name}, beside {uploads} uploads of {UPLOAD_ROWS[name]:,} rows {form}", rate, beside),
        ]
    return Found(
        figures,
        HEADER,
        rows,
        "One caller uploads CSV again and again; the open loop sends "
        f"{SHARE_BESIDE_BULK:g} of what wrk got out of `/score` at 64 at once.",
    )


def capacity(material: Material, server: Server, pace: Pace) -> float:
    """One-row requests/s in a closed loop of 64."""
    load = Load(server, Sent("/score", material.objects, WITH_KEY), 64, material.folder)
    load.measure(1, kept=False)
    for _ in range(min(3, pace.rounds)):
        load.measure(pace.seconds)
    return load.rate


def at_rate(material: Material, server: Server, path: str, rate: float, seconds: float) -> Tally:
    """One round of the open loop. Raises RuntimeError unless everything is answered with 200."""
    requests = [request_text(path, dict(WITH_KEY), body) for body in material.objects]
    tally = ask(Plan(server.port, requests, rate, seconds, CALLERS, patience_s=DEADLINE_S, deadline_s=DEADLINE_S))
    if tally.statuses != {200: tally.offered}:
        raise RuntimeError(f"not all of {tally.offered} requests to {path} were answered: {tally.statuses}")
    return tally


@contextmanager
def uploading(material: Material, server: Server, n: int, form: str) -> Iterator[list[int]]:
    """Upload after upload of `n` rows until the end of the block; how many were answered. Raises what one raised."""
    body, (path, headers) = csv_of(material, n), FORMS[form]
    answered, failed, stop = [0], [], threading.Event()

    def work() -> None:
        request = urllib.request.Request(server.url + path, body, {**WITH_KEY, "content-type": "text/csv", **headers})
        while not stop.is_set():
            try:
                with urllib.request.urlopen(request, timeout=120) as answer:
                    while answer.read(1 << 20):
                        pass
            except (urllib.error.URLError, OSError) as error:
                failed.append(error)
                return
            answered[0] += 1

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield answered
    finally:
        stop.set()
        thread.join()
    if failed:
        raise failed[0]


def csv_of(material: Material, n: int) -> bytes:
    """`n` rows as CSV."""
    sink = io.BytesIO()
    pyarrow.csv.write_csv(pa.table(dict(zip(NAMES, material.upload(n).T, strict=True))), sink)
    return sink.getvalue()


def _ratio_of_p99(ours: list[Tally], other: list[Tally]) -> float:
    both = zip(ours, other, strict=True)
    return float(np.median([a.percentile_ms(0.99) / b.percentile_ms(0.99) for a, b in both]))


def _row(what: str, rate: float, tallies: list[Tally]) -> list[str]:
    medians = [np.median([tally.percentile_ms(share) for tally in tallies]) for share in (0.5, 0.99, 0.999)]
    late = np.median([percentile(tally.lateness_ms, 0.99) for tally in tallies])
    return [what, f"{rate:,.0f}", *(f"{value:,.2f}" for value in medians), f"{late:,.2f}"]
