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
from elbound.device import chunk_pool
from elbound.fit.detector import DetectorConfig, fit_detector
from elbound.schema import ImageSchema
from elbound.scorer import Scorer

ROWS, IMAGES = 100_000, 4_000


def bare_forward(scorer: Scorer, seen: list[torch.Tensor]) -> None:
    """Encoders and decoders of all members on the K stored samples; what no scorer can do without.

    In the scorer's own chunks and on its own threads, which is faster than torch's way of sharing cores.
    """

    @torch.inference_mode()
    def forward(start: int) -> None:
        for member, x in zip(scorer.detector.each(), seen, strict=True):
            chunk = x[start : start + scorer.detector.cpu_chunk]
            posterior = member.model.encode(chunk.expand(member.spec.nets, *chunk.shape))
            z = posterior.mu[:, None] + torch.exp(0.5 * posterior.logvar)[:, None] * member.noise
            member.model.decode(z)

    list(chunk_pool(torch.get_num_threads()).map(forward, range(0, len(seen[0]), scorer.detector.cpu_chunk)))


def rows_per_second(scorer: Scorer, x: torch.Tensor, times: int) -> tuple[float, float]:
    """Of the bare forward and of the scorer, alternating; the median round of each."""
    seen = [member.view(x) for member in scorer.detector.each()]
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(times + 1):
        for kept, run in zip(taken, (lambda: bare_forward(scorer, seen), lambda: scorer.score_tensor(x)), strict=True):
            started = time.perf_counter()
            run()
            kept.append(time.perf_counter() - started)
    bare, ours = (len(x) / float(np.median(kept[1:])) for kept in taken)
    return bare, ours


def microseconds_on_one_core(scorer: Scorer, x: torch.Tensor, times: int) -> float:
    """For one item of many, scores and p-values, the other cores left idle; the median round."""
    threads, workers = torch.get_num_threads(), scorer.detector.workers
    torch.set_num_threads(1)
    scorer.detector.workers = 1
    taken = []
    for _ in range(times + 1):
        started = time.perf_counter()
        scorer.score_tensor(x)
        taken.append(time.perf_counter() - started)
    torch.set_num_threads(threads)
    scorer.detector.workers = workers
    return float(np.median(taken[1:])) / len(x) * 1e6


def main() -> None:
    times = rounds("Measure bulk scoring.", 5)
    X = correlated(ROWS, 32)
    table = pa.table({f"c{i}": column for i, column in enumerate(X[:5000].T)})
    pictures = torch.from_numpy(shapes(IMAGES, 28))
    fits = {
        profile: fit_detector(
            table, infer_schema(table).schema, DetectorConfig(device="cpu", steps=100, profile=profile)
        )
        for profile in ("fast", "default")
    }
    images = fit_detector(
        pictures[:500], ImageSchema(height=28, width=28, channels=1), DetectorConfig(device="cpu", steps=20)
    )
    rows = []
    for name, scorer, x, most in (
        ("rows of 32 columns, fast", fits["fast"], torch.from_numpy(X), "15"),
        ("rows of 32 columns, default", fits["default"], torch.from_numpy(X), "100"),
        ("images of 28 x 28, pixels", images, pictures, ""),
    ):
        bare, ours = rows_per_second(scorer, x, times)
        alone = microseconds_on_one_core(scorer, x[: len(x) // 4], times)
        rows.append([name, f"{len(x):,}", f"{bare:,.0f}", f"{ours:,.0f}", f"{ours / bare:.2f}", f"{alone:.1f}", most])
    keep(
        "scoring",
        "Bulk scoring in process over the bare forward",
        [
            "items",
            "n",
            "bare forward, items/s",
            "scores and p-values, items/s",
            "ratio",
            "one core, us an item",
            "most",
        ],
        rows,
        f"{torch.get_num_threads()} threads; the median of {times} alternating rounds. The bare forward is that of all "
        "nets and starts from standardised float32; the scorer standardises in float64. The default detector also "
        "searches 2,000 training rows in both views and compares each code with 2,000 codes.",
    )


if __name__ == "__main__":
    main()
