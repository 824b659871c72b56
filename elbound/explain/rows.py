"""Which columns make a row odd: each one's share of `negative_elbo`, and what the model expected instead."""

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import torch
from torch import Tensor

from elbound.detector import Member
from elbound.errors import SchemaError
from elbound.schema import TableSchema
from elbound.scorer import Scorer
from elbound.views import modelled_schema
from elbound.views.table import StandardView


@dataclass(frozen=True)
class RowShares:
    """Why `n` rows score as they do, all float64.

    `shares` `(n, d)` nats of each column, 0 for a gap, and `latent` `(n,)` nats add up to the view's `negative_elbo`.
    `expected` `(n, d)` is in units of the data, the number of a level for booleans and categories; `low` and `high`
    `(n, d)` are the ends of the central 95 % of what the model expects, NaN for a column that it sees as levels;
    `probability` `(n, d)` is that of the value seen, NaN for numbers and gaps.
    """

    shares: np.ndarray
    latent: np.ndarray
    expected: np.ndarray
    low: np.ndarray
    high: np.ndarray
    probability: np.ndarray

    def part(self, start: int, stop: int) -> Self:
        """A copy of the rows from `start` to `stop`: those of other callers are not kept alive."""
        return type(self)(*(getattr(self, field.name)[start:stop].copy() for field in fields(self)))


def explain_rows(scorer: Scorer, x: Tensor) -> RowShares:
    """The shares of `negative_elbo` of events `(n, d)`. Raises SchemaError where the model scores images."""
    return member_shares(scorer, next(scorer.detector.each()), x)


@torch.inference_mode()
def member_shares(scorer: Scorer, member: Member, x: Tensor) -> RowShares:
    """The shares of one member's `negative_elbo`, that of its view, of events `(n, d)`. Raises SchemaError."""
    if not isinstance(scorer.schema, TableSchema):
        raise SchemaError(f"{scorer.name} scores images, which have no columns")
    schema = modelled_schema(scorer.schema, member.spec.typed)
    assert isinstance(schema, TableSchema)
    kinds = [column.kind in ("boolean", "categorical") for column in schema.columns]
    is_level = torch.tensor(kinds, device=scorer.device)
    chunks = [_chunk_shares(member, is_level, part.to(scorer.device)) for part in x.split(scorer.detector.cpu_chunk)]
    return RowShares(*(torch.cat(parts).double().cpu().numpy() for parts in zip(*chunks, strict=True)))


def _chunk_shares(member: Member, is_level: Tensor, x: Tensor) -> tuple[Tensor, ...]:
    """The fields of `RowShares` of one chunk."""
    assert isinstance(member.view, StandardView)
    terms = member.observe(x).terms
    expected, low, high = (
        member.view.inverse(part) for part in terms.likelihood.expectation(terms.parameters, terms.weight)
    )
    probability = terms.prediction.mean(0).masked_fill(~is_level | torch.isnan(x), torch.nan)
    return terms.feature_shares.mean(0), terms.rate.mean(0), expected, low, high, probability
