"""What every server computes: encoder, decoder passes, scores and p-values, from the bundle's own weights."""

from pathlib import Path
from typing import cast

import numpy as np
import torch

from elbound.scorer import Scorer


class Function:
    """Rows `(n, d)` to score, p-value and decision, each `(n,)`, on one thread."""

    def __init__(self, bundle: str) -> None:
        torch.set_num_threads(1)
        self.scorer = Scorer.from_bundle(Path(bundle), device="cpu")
        self.scorer.hasten_small_batches()  # as our own server does

    def __call__(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        scored = self.scorer.score_tensor(torch.from_numpy(rows))
        return {
            "score": scored.score,
            "p_value": scored.p_value,
            "is_anomaly": self.scorer.decide(scored).is_anomaly.astype(np.float64),
        }


def array(rows: object) -> np.ndarray:
    """Nested lists as float64 `(n, d)`."""
    return np.array(cast(list[list[float]], rows), dtype=np.float64)
