"""On a GPU: bulk rows/s of `.npy` over the bare scorer there, and what one row costs beyond an empty POST."""

import io
import time

import numpy as np
import torch

from benchmarks.serving.bundles import Material
from benchmarks.serving.closed import WITH_KEY
from benchmarks.serving.process import Server, bare_rows_per_second, own
from benchmarks.serving.record import Figure, Found
from benchmarks.serving.run import Pace
from benchmarks.serving.tails import at_rate

ROWS = 100_000
RATE = 100.0
BULK = "bulk rows/s of .npy over the bare scorer, on a GPU"
ONE = "p50 of one row minus the empty POST's, on a GPU"


def on_gpu(material: Material, pace: Pace, device: str = "cuda") -> Found:
    """Both lines, or that there is no GPU."""
    if device == "cuda" and not torch.cuda.is_available():
        why = "no GPU here"
        return Found([Figure(BULK, None, 0.5, why=why), Figure(ONE, None, 0.5, at_most=True, unit=" ms", why=why)])
    shares, extra, rows = [], [], []
    with own("ours", material.bench, device) as server:
        _upload(material, server)
        for _ in range(pace.rounds):
            bare = bare_rows_per_second(material.bench, ROWS, device)
            ours = _upload(material, server)
            one, empty = (
                at_rate(material, server, path, RATE, pace.tail_seconds).percentile_ms(0.5)
                for path in ("/score", "/empty")
            )
            shares.append(ours / bare)
            extra.append(one - empty)
            rows.append([f"{ours:,.0f}", f"{bare:,.0f}", f"{ours / bare:.2f}", f"{one:.2f}", f"{empty:.2f}"])
    figures = [
        Figure(BULK, float(np.median(shares)), 0.5),
        Figure(ONE, float(np.median(extra)), 0.5, at_most=True, unit=" ms"),
    ]
    header = ("ours, rows/s", "bare scorer, rows/s", "ratio", "one row, p50 ms", "empty POST, p50 ms")
    notes = f"{ROWS:,} rows an upload, answered by columns; one row at a constant {RATE:g} a second. A line a round."
    return Found(figures, header, rows, notes)


def _upload(material: Material, server: Server) -> float:
    """Rows/s of one upload, its answer read."""
    sink = io.BytesIO()
    np.save(sink, material.upload(ROWS))
    started = time.perf_counter()
    server.call("/score?layout=columns", sink.getvalue(), {**WITH_KEY, "content-type": "application/x-npy"})
    return ROWS / (time.perf_counter() - started)
