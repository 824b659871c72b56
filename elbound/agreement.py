"""How far two computations of the same scores may be apart."""

import torch
from torch import Tensor

AGREEMENT = 1e-5
"""Largest difference between two engines, relative to a score's own size or to 1: the noise of a batch's shape."""


def worst_difference(found: Tensor, expected: Tensor) -> float:
    """The largest difference of scores `(n, scores)`, relative to their own size or to 1; infinite for other shapes."""
    if found.shape != expected.shape:
        return torch.inf
    difference = (found - expected).abs() / expected.abs().clamp(min=1.0)
    return float(difference.nan_to_num(nan=torch.inf).max()) if len(expected) else 0.0
