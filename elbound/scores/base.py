"""The contract of a score."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from elbound.model.bounds import BoundTerms, Posterior, terms_at
from elbound.model.models.base import Model, ModelSpec
from elbound.schema import ImageSchema, TableSchema
from elbound.scores.codelength import code_length
from elbound.views import View


@dataclass(frozen=True)
class Observed:
    """One chunk of `n` items as the scores of a member see it, computed once for all of them.

    `x` `(n, *event)` is in the units of the data, `seen` `(n, *event)` is what the view made of it and
    `posterior` q(z|x). The rest is computed when it is asked for: what a bank needs is not decoded.
    """

    view: View
    model: Model
    noise: Tensor
    x: Tensor
    seen: Tensor
    posterior: Posterior

    @cached_property
    def terms(self) -> BoundTerms:
        """The pieces of the bounds, by the stored noise."""
        return terms_at(self.model, for_nets(self.seen, self.posterior.mu.shape[0]), self.posterior, self.noise)

    @cached_property
    def coordinates(self) -> Tensor:
        """Where the items lie for a search of neighbours, `(n, coordinates)`."""
        return self.view.coordinates(self.x)

    @cached_property
    def code_length(self) -> Tensor:
        """How many bits a lossless code of the images takes, float64 `(n,)`."""
        return code_length(self.x)


class Reasons(NamedTuple):
    """Why a score is high, as far as it can tell.

    `features` `(n, *event)` add up to the score, with `latent` `(n,)` where there is one; `places` `(n, height, width)`
    is a map in the score's own unit.
    """

    features: Tensor | None = None
    latent: Tensor | None = None
    places: Tensor | None = None


class Nearest(NamedTuple):
    """The training items that items were found to be nearest to, the first the nearest of all.

    `distances` `(n, k)` are in the score's unit, `events` `(n, k, *event)` in units of the data; images may be smaller.
    """

    distances: Tensor
    events: Tensor


def for_nets(seen: Tensor, nets: int) -> Tensor:
    """What every net sees, `(n, *event)` to `(nets, n, *event)`, without a copy."""
    return seen[None] if nets == 1 else seen.expand(nets, *seen.shape)


def over_nets(values: Tensor) -> Tensor:
    """The arithmetic mean, `(nets, n)` to `(n,)`, so that the shares of an explanation add up."""
    return values[0] if values.shape[0] == 1 else values.mean(0)


class Score(nn.Module):
    """Maps observed items to `(n,)`; **larger is more anomalous**, always.

    `name` is the same in code, API, metrics and docs; `unit` is declared. A score of several nets is their
    arithmetic mean, so that the shares of an explanation add up. What a score must remember is a buffer whose
    shape follows from the spec and the schema, so that it reaches the bundle by itself.
    """

    name: ClassVar[str]
    unit: ClassVar[str]

    def __init__(self, spec: ModelSpec, schema: TableSchema | ImageSchema) -> None:  # noqa: ARG002 - the contract
        super().__init__()

    def fit(self, model: Model, bank: Sequence[Observed]) -> None:
        """Called once, after the model's fit, with chunks of `spec.bank` training items in all."""

    def forward(self, model: Model, observed: Observed) -> Tensor:
        raise NotImplementedError

    def reasons(self, model: Model, observed: Observed) -> Reasons:  # noqa: ARG002 - the contract
        """Which features or places make the score; empty where it cannot tell."""
        return Reasons()

    def nearest(self, model: Model, observed: Observed, k: int) -> Nearest | None:  # noqa: ARG002 - the contract
        """The `k` nearest training items, for a score that knows what they looked like; else None."""
        return None
