"""The contract of a likelihood p(x|z)."""

import torch
from torch import Tensor, nn

from elbound.torch_graph import in_graph


class Likelihood(nn.Module):
    """A distribution over events given the decoder's output, factorised over features.

    Shapes: `parameters` `(nets, K, n, *parameter_shape)`, `x` `(nets, 1, n, *event)` in the view's units,
    NaN where a cell is missing. Terms are returned per feature and summed in `bounds.py` alone, so that
    scores, explanations and losses cannot disagree.
    """

    parameter_shape: tuple[int, ...]
    """What the decoder must emit for one item."""

    log_prob_of_gap: Tensor | None
    """log p in nats of a missing cell of each feature, `(features,)`, 0 where gaps drop out; None: all drop out."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("log_prob_of_gap", None, persistent=False)

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        """log p(x_j|z) in nats, shape `(nets, K, n, *event)`; `log_prob_of_gap` where `x` is missing."""
        raise NotImplementedError

    def prediction(self, parameters: Tensor, x: Tensor) -> Tensor:
        """What the decoder says of each feature, shape `(nets, K, n, *event)`.

        The expected value for numbers, the probability of the value that was seen for categories: the
        quantity that is averaged over samples before `error`.
        """
        raise NotImplementedError

    def error(self, prediction: Tensor, x: Tensor) -> Tensor:
        """Squared error of numbers in units of the training variance, 1 - probability of categories.

        Shapes `(nets, n, *event)`; 0 where `x` is missing.
        """
        raise NotImplementedError

    def expectation(self, parameters: Tensor, weight: Tensor) -> Tensor:
        """What the mixture of nets and samples expects of a row's features: `(3, n, d)` in the view's units.

        The mean and the ends of the central 95 % interval for numbers; the most probable level and NaN for
        booleans and categories. `weight` `(nets, K, n)` sums to 1. Raises NotImplementedError for images.
        """
        raise NotImplementedError


def mixture_mean(values: Tensor, weight: Tensor) -> Tensor:
    """The mean over nets and samples, `(nets, K, n, ...)` and `(nets, K, n)` to `(n, ...)`."""
    return (values * weight.view(*weight.shape, *(1,) * (values.ndim - 3))).sum((0, 1))


def levels_alone(level: Tensor) -> Tensor:
    """An expectation `(3, n, d)` of levels `(n, d)`, which have no interval."""
    ends = level.new_full((2, *level.shape), torch.nan)
    return torch.cat([level[None], ends])


def where_seen(x: Tensor, terms: Tensor, gap: Tensor | None = None) -> Tensor:
    """`terms` with 0, or the feature's `gap` `(features,)`, where `x` is missing.

    On a CPU, data without gaps skip the pass over all K samples; on a GPU the question would wait for the
    device, and a graph cannot ask.
    """
    missing = torch.isnan(x)
    if not (x.is_cuda or in_graph() or bool(missing.any())):
        return terms
    return terms.masked_fill(missing, 0.0) if gap is None else torch.where(missing, gap, terms)
