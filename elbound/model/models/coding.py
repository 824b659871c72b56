"""Rows as plain numbers, for models that are linear in them."""

import torch
from torch import Tensor, nn

from elbound.model.likelihoods.base import levels_alone, mixture_mean, where_seen
from elbound.model.likelihoods.gaussian import GAUSSIAN_REACH, normal_log_prob
from elbound.model.likelihoods.scale import ScaledLikelihood, mixture_interval
from elbound.schema import TableSchema


class RowCoding(nn.Module):
    """Events `(..., d)` as numbers `(..., size)`: columns as they are, levels one-hot, NaN for a gap.

    `column` is the column that each number belongs to, `level` the level that it stands for, or -1.
    """

    column: Tensor
    level: Tensor
    is_discrete: Tensor

    def __init__(self, schema: TableSchema) -> None:
        super().__init__()
        places = [
            (i, level)
            for i, column in enumerate(schema.columns)
            for level in (range(len(column.levels) + 1) if column.kind == "categorical" else (-1,))
        ]
        kinds = [column.kind for column in schema.columns]
        self.size = len(places)
        self.only_plain = "categorical" not in kinds
        self.register_buffer("column", torch.tensor([i for i, _ in places]), persistent=False)
        self.register_buffer("level", torch.tensor([level for _, level in places]), persistent=False)
        discrete = torch.tensor([kind in ("boolean", "categorical") for kind in kinds])
        self.register_buffer("is_discrete", discrete, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.only_plain:
            return x
        values = x[..., self.column]
        one_hot = (values == self.level).to(x.dtype).masked_fill(values.isnan(), torch.nan)
        return torch.where(self.level < 0, values, one_hot)

    def by_column(self, values: Tensor) -> Tensor:
        """Sums over the numbers of each column, `(..., size)` to `(..., d)`."""
        if self.only_plain:
            return values
        zeros = values.new_zeros(*values.shape[:-1], len(self.is_discrete))
        return zeros.index_add(-1, self.column, values)

    def expectation(self, coded: Tensor) -> Tensor:
        """Mean and ends `(3, n, size)` by column, `(3, n, d)`: a discrete column has its largest level and no ends."""
        firsts = (self.column[:, None] == torch.arange(len(self.is_discrete), device=coded.device)).int().argmax(0)
        plain = coded.index_select(-1, firsts)
        belongs = self.column == torch.arange(len(self.is_discrete), device=coded.device)[:, None]  # (d, size)
        largest = coded[0, :, None].masked_fill(~belongs, -torch.inf).argmax(-1)
        level = torch.where(self.level[firsts] < 0, (plain[0] >= 0.5).long(), self.level[largest])
        return torch.where(self.is_discrete, levels_alone(level.to(coded.dtype)), plain)


class CodedGaussian(ScaledLikelihood):
    """u_j ~ N(mean_j(z), sigma^2) for the coded row u, one sigma a net; the terms are summed by column.

    Its prediction of a boolean or a category is the mean of what was seen, held within [0, 1].
    """

    def __init__(self, coding: RowCoding, nets: int, variance_floor: float) -> None:
        super().__init__(variance_floor)
        self.coding = coding
        self.parameter_shape = (coding.size,)
        self.logvar = nn.Parameter(torch.zeros(nets))

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        logvar = self.clamp(self.logvar).view(-1, 1, 1, 1)
        terms = normal_log_prob(torch.nan_to_num(self.coding(x)), parameters, logvar)
        return where_seen(x, self.coding.by_column(terms))

    def prediction(self, parameters: Tensor, x: Tensor) -> Tensor:
        seen = torch.nan_to_num(self.coding(x))
        boolean = seen * parameters + (1 - seen) * (1 - parameters)
        chosen = torch.where(self.coding.level < 0, boolean, seen * parameters)
        probability = self.coding.by_column(chosen).clamp(0, 1)
        plain = self.coding.by_column(torch.where(self.coding.level < 0, parameters, 0.0))
        return torch.where(self.coding.is_discrete, probability, plain)

    def expectation(self, parameters: Tensor, weight: Tensor) -> Tensor:
        scale = torch.exp(0.5 * self.clamp(self.logvar)).view(-1, 1, 1, 1).expand_as(parameters)
        ends = mixture_interval(torch.special.ndtr, GAUSSIAN_REACH, parameters, scale, weight)
        mean = mixture_mean(parameters, weight)
        return self.coding.expectation(torch.cat([mean[None], ends]))

    def error(self, prediction: Tensor, x: Tensor) -> Tensor:
        value = torch.nan_to_num(x)
        error = torch.where(self.coding.is_discrete, 1 - prediction, (value - prediction).square())
        return where_seen(x, error)
