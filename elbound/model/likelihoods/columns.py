"""One likelihood for each column of a table, by its kind."""

import math

import torch
from torch import Tensor, nn

from elbound.model.likelihoods import NUMERIC_LIKELIHOODS
from elbound.model.likelihoods.base import Likelihood
from elbound.model.likelihoods.discrete import Bernoulli, Categorical
from elbound.schema import Column, TableSchema


class ColumnsLikelihood(Likelihood):
    """Numbers and datetimes have the law called `numeric`, booleans are Bernoulli, categories categorical.

    The event keeps the schema's order of columns; inside, the columns are taken kind by kind. With `odd_gaps` a gap in
    a column that is not `nullable` costs what an unseen level costs, log(levels + 1) - log(novelty) nats, where a
    boolean has 2 levels and a number counts as 1 (seen or not seen). Without it every gap drops out, as a gap in a
    nullable column always does.
    """

    order: Tensor
    inverse: Tensor

    def __init__(
        self,
        schema: TableSchema,
        *,
        variance_floor: float,
        novelty: float,
        numeric: str = "gaussian",
        odd_gaps: bool = False,
    ) -> None:
        super().__init__()
        kinds = ["numeric" if column.kind == "datetime" else column.kind for column in schema.columns]
        places = {kind: [i for i, k in enumerate(kinds) if k == kind] for kind in ("numeric", "boolean", "categorical")}
        self.parts = nn.ModuleList()
        self.widths: list[int] = []
        if places["numeric"]:
            numbers = NUMERIC_LIKELIHOODS[numeric](len(places["numeric"]), variance_floor)
            self._add(numbers, len(places["numeric"]))
        if places["boolean"]:
            self._add(Bernoulli(len(places["boolean"]), novelty), len(places["boolean"]))
        if places["categorical"]:
            levels = tuple(len(schema.columns[i].levels) for i in places["categorical"])
            self._add(Categorical(levels, novelty), len(levels))
        self.parameter_shape = (sum(self.parameter_widths),)
        if odd_gaps:
            self._charge_gaps(schema, novelty, [i for kind in places.values() for i in kind])
        order = torch.tensor([*places["numeric"], *places["boolean"], *places["categorical"]])
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("inverse", torch.argsort(order), persistent=False)

    @property
    def parameter_widths(self) -> list[int]:
        return [part.parameter_shape[0] for part in self._likelihoods()]

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        if len(self.parts) == 1:
            return self._likelihoods()[0].log_prob(parameters, x)
        return self._join([part.log_prob(p, v) for part, p, v in self._pieces(parameters, x)])

    def prediction(self, parameters: Tensor, x: Tensor) -> Tensor:
        if len(self.parts) == 1:
            return self._likelihoods()[0].prediction(parameters, x)
        return self._join([part.prediction(p, v) for part, p, v in self._pieces(parameters, x)])

    def error(self, prediction: Tensor, x: Tensor) -> Tensor:
        if len(self.parts) == 1:
            return self._likelihoods()[0].error(prediction, x)
        predictions = prediction.index_select(-1, self.order).split(self.widths, -1)
        values = x.index_select(-1, self.order).split(self.widths, -1)
        return self._join(
            [part.error(p, v) for part, p, v in zip(self._likelihoods(), predictions, values, strict=True)]
        )

    def expectation(self, parameters: Tensor, weight: Tensor) -> Tensor:
        pieces = parameters.split(self.parameter_widths, -1)
        return self._join(
            [part.expectation(piece, weight) for part, piece in zip(self._likelihoods(), pieces, strict=True)]
        )

    def _add(self, part: Likelihood, width: int) -> None:
        self.parts.append(part)
        self.widths.append(width)

    def _charge_gaps(self, schema: TableSchema, novelty: float, order: list[int]) -> None:
        """Give each part the log p of a gap in each of its columns, which are those of `schema` in `order`."""
        gaps = torch.tensor([_log_prob_of_gap(schema.columns[i], novelty) for i in order])
        for part, of_part in zip(self._likelihoods(), gaps.split(self.widths), strict=True):
            part.log_prob_of_gap = of_part.clone()

    def _likelihoods(self) -> list[Likelihood]:
        return [part for part in self.parts if isinstance(part, Likelihood)]

    def _pieces(self, parameters: Tensor, x: Tensor) -> list[tuple[Likelihood, Tensor, Tensor]]:
        values = x.index_select(-1, self.order).split(self.widths, -1)
        pieces = parameters.split(self.parameter_widths, -1)
        return list(zip(self._likelihoods(), pieces, values, strict=True))

    def _join(self, terms: list[Tensor]) -> Tensor:
        return torch.cat(terms, -1).index_select(-1, self.inverse)


def _log_prob_of_gap(column: Column, novelty: float) -> float:
    """0 where training saw gaps; else what one of the values that it never saw has."""
    if column.nullable:
        return 0.0
    known = {"boolean": 2, "categorical": len(column.levels)}.get(column.kind, 1)
    return math.log(novelty / (known + 1))
