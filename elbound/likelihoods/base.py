"""The contract of a likelihood p(x|z)."""

import torch
from torch import Tensor, nn

from elbound.exporting import in_graph


class Likelihood(nn.Module):
    """A distribution over events given the decoder's output, factorised over features.

    Shapes: `parameters` `(nets, K, n, *parameter_shape)`, `x` `(nets, 1, n, *event)` in the view's units,
    NaN where a cell is missing. Terms are returned per feature and summed in `bounds.py` alone, so that
    scores, explanations and losses cannot disagree.
    """

    parameter_shape: tuple[int, ...]
    """What the decoder must emit for one item."""

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        """log p(x_j|z) in nats, shape `(nets, K, n, *event)`; 0 where `x` is missing."""
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


def where_seen(x: Tensor, terms: Tensor) -> Tensor:
    """`terms` with 0 where `x` is missing.

    On a CPU, data without gaps skip the pass over all K samples; on a GPU the question would wait for the
    device, and a graph cannot ask.
    """
    missing = torch.isnan(x)
    return terms.masked_fill(missing, 0.0) if x.is_cuda or in_graph() or bool(missing.any()) else terms
