"""Whether two servers say the same: scores, p-values and decisions of the same rows."""

import numpy as np
import orjson

TOLERANCE = 1e-5


def of_ours(answer: bytes) -> np.ndarray:
    """Score, p-value and decision, `(n, 3)`, from our answer in either layout."""
    found = orjson.loads(answer)
    if "columns" in found:
        columns = found["columns"]
        return np.array([columns["score"], columns["p_value"], columns["is_anomaly"]], dtype=np.float64).T
    return np.array([[one["score"], one["p_value"], one["is_anomaly"]] for one in found["items"]], dtype=np.float64)


def scores_of_naive(answer: bytes) -> np.ndarray:
    """The same of the naive scorer's."""
    found = orjson.loads(answer)
    return np.array([found["score"], found["p_value"], found["is_anomaly"]], dtype=np.float64).T


def check_equal(name: str, ours: np.ndarray, other: np.ndarray) -> None:
    """Raise RuntimeError unless both are the same to `TOLERANCE`, relative to a number's size or to 1."""
    if ours.shape != other.shape:
        raise RuntimeError(f"{name} answers {other.shape} numbers where ours answers {ours.shape}")
    apart = np.abs(ours - other) / np.maximum(np.abs(ours), 1)
    if not np.all(apart <= TOLERANCE):
        raise RuntimeError(f"{name} does not compute the same function: {np.max(apart):.2g} apart")
