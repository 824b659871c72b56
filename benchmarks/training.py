"""How long training takes: a table beside PyOD's VAE in the same run, and images.

python -m benchmarks.training [--rounds N]
"""

import time
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import torch

from benchmarks.tables import keep, rounds
from elbound.data.infer import infer_schema
from elbound.fit.detector import DetectorConfig, fit_detector
from elbound.schema import ImageSchema

ROWS, COLUMNS = 20_000, 32
IMAGES, SIDE = 6_000, 28


def correlated(n: int, columns: int) -> np.ndarray:
    """Rows with eight common causes."""
    draw = np.random.default_rng(0)
    return draw.normal(size=(n, 8)) @ draw.normal(size=(8, columns)) + draw.normal(size=(n, columns))


def shapes(n: int, side: int) -> np.ndarray:
    """Grey pictures of a bright rectangle on noise, `(n, 1, side, side)`."""
    draw = np.random.default_rng(0)
    pictures = draw.integers(0, 60, (n, 1, side, side))
    for picture, (top, left, height, width) in zip(pictures, draw.integers(3, side // 2, (n, 4)), strict=True):
        picture[0, top : top + height, left : left + width] += 150
    return pictures.astype(np.uint8)


def seconds(run: Callable[[], object], times: int) -> float:
    """The median wall time."""
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        run()
        taken.append(time.perf_counter() - started)
    return float(np.median(taken))


def train_table(X: np.ndarray) -> None:
    table = pa.table({f"c{i}": column for i, column in enumerate(X.T)})
    fit_detector(table, infer_schema(table).schema, DetectorConfig(device="cpu"))


def train_images(x: torch.Tensor) -> None:
    fit_detector(x, ImageSchema(height=SIDE, width=SIDE, channels=1), DetectorConfig(device="cpu"))


def train_pyod(X: np.ndarray) -> None:
    from pyod.models.vae import VAE

    VAE(verbose=0, device="cpu").fit(X)


def main() -> None:
    times = rounds("Measure training.", 3)
    X = correlated(ROWS, COLUMNS)
    ours = seconds(lambda: train_table(X), times)
    peer = seconds(lambda: train_pyod(X), 1)
    images = seconds(lambda: train_images(torch.from_numpy(shapes(IMAGES, SIDE))), 1)
    keep(
        "training",
        "Training time",
        ["what", "seconds", "over ours", "at most"],
        [
            [f"elbound, {ROWS:,} x {COLUMNS} rows: split, fit, calibrate", f"{ours:.1f}", "1.0", "30"],
            ["PyOD VAE at its defaults, the same rows", f"{peer:.1f}", f"{peer / ours:.1f}", ""],
            [f"elbound, {IMAGES:,} images of {SIDE} x {SIDE}", f"{images:.1f}", "", "120"],
        ],
        f"elbound's rows: the median of {times} runs; the others: one run.",
    )


if __name__ == "__main__":
    main()
