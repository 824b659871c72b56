"""What a function must do otherwise while its graph is taken: neither loop over open sizes nor ask the data.

An exported graph has no searches either. Everywhere else these are torch's own.
"""

import torch
from torch import Tensor
from torch.compiler import is_exporting

__all__ = ["blocks", "gaps_as_zero", "in_graph", "places"]


def in_graph() -> bool:
    """Whether a graph is taken: for another engine, or by torch itself for small batches."""
    return is_exporting() or torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]


def blocks(x: Tensor, size: int, dim: int = 0) -> tuple[Tensor, ...]:
    """`x` in blocks that fit the cache; in a graph all of it, whose caller keeps batches small."""
    return (x,) if in_graph() else x.split(size, dim)


def gaps_as_zero(x: Tensor) -> Tensor:
    """`x`, finite but for gaps, with 0 for these; torch's own way takes a dozen operations of a graph."""
    return x.masked_fill(torch.isnan(x), 0.0) if is_exporting() else torch.nan_to_num(x)


def places(rising: Tensor, values: Tensor) -> Tensor:
    """How many of each row of `rising` `(rows, m)` lie below each of `values` `(rows, n)`: `searchsorted`."""
    if is_exporting():
        return (rising[:, None] < values[..., None]).sum(-1)
    return torch.searchsorted(rising, values)
