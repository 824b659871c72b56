"""Several small perceptrons trained and run as one batched network."""

import math

import torch
from torch import Tensor, nn

MANY_ROWS = 128
"""From here on a net of its own is worth the calls that take it out of the batch."""


class EnsembleLinear(nn.Module):
    """`nets` affine maps side by side: `y = x W + b` with `W (nets, inputs, outputs)`.

    `forward` takes `(nets, m, inputs)` and returns `(nets, m, outputs)`. Weights start uniform within
    1 / sqrt(inputs), as in `torch.nn.Linear`.
    """

    def __init__(self, nets: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.nets = nets
        bound = 1 / math.sqrt(max(1, inputs))
        self.weight = nn.Parameter(torch.empty(nets, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(nets, 1, outputs).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        if self.nets == 1 and x.shape[1] >= MANY_ROWS:  # one plain product is faster than a batch of one
            return torch.addmm(self.bias[0], x[0], self.weight[0])[None]
        return torch.baddbmm(self.bias, x, self.weight)


class ResidualMLP(nn.Module):
    """`inputs`-`width`-(+)`width`-`outputs` with ReLU: one hidden layer and one residual one.

    `forward` takes `(nets, m, inputs)` and returns `(nets, m, outputs)`.
    """

    def __init__(self, nets: int, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        self.first = EnsembleLinear(nets, inputs, width)
        self.second = EnsembleLinear(nets, width, width)
        self.last = EnsembleLinear(nets, width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu_(self.first(x))
        hidden = hidden + torch.relu_(self.second(hidden))
        last: Tensor = self.last(hidden)
        return last
