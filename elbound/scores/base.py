"""The contract of a score."""

from typing import ClassVar

from torch import Tensor, nn

from elbound.bounds import BoundTerms
from elbound.models.base import Model


class Score(nn.Module):
    """Maps the bound terms of `n` items to `(n,)`; **larger is more anomalous**, always.

    `name` is the same in code, API, metrics and docs; `unit` is declared. A score of several nets is their
    arithmetic mean, so that the shares of an explanation add up. What a score must remember is a buffer.
    """

    name: ClassVar[str]
    unit: ClassVar[str]

    def forward(self, model: Model, terms: BoundTerms) -> Tensor:
        raise NotImplementedError
