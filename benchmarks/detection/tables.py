"""Tables of ADBench under protocol *clean*: no row is in two parts and none is drawn twice."""

from pathlib import Path

import numpy as np

from benchmarks.detection.task import Task

MAX_TRAIN = 50_000
MAX_TEST = 10_000
ANOMALIES = "anomalies"


def clean_split(
    y: np.ndarray, *, seed: int, max_train: int = MAX_TRAIN, max_test: int = MAX_TEST
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places of the training normals, the test normals and the anomalies, all disjoint.

    The normals are shuffled; half of them (at most `max_train`) train. The other half and all anomalies
    test; beyond `max_test` both are cut at random to the same share.
    """
    draw = np.random.default_rng(seed)
    normals = draw.permutation(np.flatnonzero(y == 0))
    anomalies = draw.permutation(np.flatnonzero(y == 1))
    half = len(normals) // 2
    train, normal = normals[: min(half, max_train)], normals[half:]
    total = len(normal) + len(anomalies)
    if total > max_test:
        kept = min(max(1, round(max_test * len(anomalies) / total)), len(anomalies))
        normal, anomalies = normal[: max_test - kept], anomalies[:kept]
    return np.sort(train), np.sort(normal), np.sort(anomalies)


def names(data: Path) -> list[str]:
    """Every table of the folder."""
    return sorted(path.stem for path in (data / "tables").glob("*.npz"))


def load(data: Path, name: str, *, seed: int, max_test: int) -> Task:
    """The task of one table and seed."""
    with np.load(data / "tables" / f"{name}.npz") as arrays:
        X, y = arrays["X"].astype(np.float64), arrays["y"]
    train, normal, anomalies = clean_split(y, seed=seed, max_test=max_test)
    facts = {"rows": len(X), "columns": X.shape[1], "anomalies": int((y == 1).sum())}
    return Task(X[train], X[normal], {ANOMALIES: X[anomalies]}, facts=facts)
