"""Bulk scoring in process over the bare forward: the same networks, the same samples, no scores.

python -m benchmarks.scoring [--rounds N]
"""

import time

import numpy as np
import pyarrow as pa
import torch

from benchmarks.tables import keep, rounds
from benchmarks.training import correlated, shapes
from elbound.data.infer import infer_schema
from elbound.data.schema import ImageSchema
from elbound.device import chunk_pool
from elbound.fit.detector import DetectorConfig, fit_detector
from elbound.scorer import Scorer

ROWS, IMAGES = 100_000, 4_000


def bare_forward(scorer: Scorer, x: torch.Tensor) -> None:
    """Encoder and decoder on the K stored samples; what no scorer can do without.

    In the scorer's own chunks and on its own threads, which is faster than torch's way of sharing cores.
    """
    member = next(scorer.detector.each())

    @torch.inference_mode()
    def forward(chunk: torch.Tensor) -> None:
        posterior = member.model.encode(chunk[None])
        z = posterior.mu[:, None] + torch.exp(0.5 * posterior.logvar)[:, None] * member.noise
        member.model.decode(z)

    list(chunk_pool(torch.get_num_threads()).map(forward, x.split(scorer.detector.cpu_chunk)))


def rows_per_second(scorer: Scorer, x: torch.Tensor, times: int) -> tuple[float, float]:
    """Of the bare forward and of the scorer, alternating; the median round of each."""
    seen = next(scorer.detector.each()).view(x)
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(times + 1):
        for kept, run in zip(taken, (lambda: bare_forward(scorer, seen), lambda: scorer.score_tensor(x)), strict=True):
            started = time.perf_counter()
            run()
            kept.append(time.perf_counter() - started)
    bare, ours = (len(x) / float(np.median(kept[1:])) for kept in taken)
    return bare, ours


def main() -> None:
    times = rounds("Measure bulk scoring.", 7)
    X = correlated(ROWS, 32)
    table = pa.table({f"c{i}": column for i, column in enumerate(X[:5000].T)})
    by_rows = fit_detector(table, infer_schema(table).schema, DetectorConfig(device="cpu", steps=200))
    pictures = torch.from_numpy(shapes(IMAGES, 28))
    by_images = fit_detector(
        pictures[:500], ImageSchema(height=28, width=28, channels=1), DetectorConfig(device="cpu", steps=20)
    )
    rows = []
    for name, scorer, x in (
        ("table, 32 columns", by_rows, torch.from_numpy(X)),
        ("images, 28 x 28", by_images, pictures),
    ):
        bare, ours = rows_per_second(scorer, x, times)
        rows.append([name, f"{len(x):,}", f"{bare:,.0f}", f"{ours:,.0f}", f"{ours / bare:.2f}", "0.70"])
    keep(
        "scoring",
        "Bulk scoring in process over the bare forward",
        ["items", "n", "bare forward, items/s", "scores and p-values, items/s", "ratio", "at least"],
        rows,
        f"{torch.get_num_threads()} threads; the median of {times} alternating rounds. The bare forward starts from "
        "standardised float32; the scorer standardises in float64 and computes five scores and their p-values.",
    )


if __name__ == "__main__":
    main()
