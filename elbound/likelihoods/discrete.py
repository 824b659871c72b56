"""Yes or no, and one of several levels."""

import torch
from torch import Tensor
from torch.nn import functional

from elbound.likelihoods.base import Likelihood, where_seen


class Bernoulli(Likelihood):
    """x_j in {0, 1} with P(x_j = 1) = sigmoid(logit_j(z)). The decoder emits one logit a feature."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.parameter_shape = (features,)

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        sign = 1 - 2 * torch.nan_to_num(x)
        return where_seen(x, -functional.softplus(sign * parameters))

    def prediction(self, parameters: Tensor, x: Tensor) -> Tensor:
        return torch.sigmoid((2 * torch.nan_to_num(x) - 1) * parameters)

    def error(self, prediction: Tensor, x: Tensor) -> Tensor:
        return where_seen(x, 1 - prediction)


class Categorical(Likelihood):
    """x_j is one of `levels[j]` known levels, or `other` (numbered `levels[j]`).

    p = (1 - novelty) softmax(logits) + novelty on `other`: a value that training never saw has at least
    the probability `novelty` (1 / (n + 1): the next of n + 1 draws is new), so its surprise is bounded by
    log(n + 1) nats and is its own, whatever the network says of a class without examples.

    The decoder emits `levels[j] + 1` logits for each column, one column after the other.
    """

    place: Tensor
    is_padding: Tensor
    other: Tensor

    def __init__(self, levels: tuple[int, ...], novelty: float) -> None:
        super().__init__()
        widths = [count + 1 for count in levels]
        self.parameter_shape = (sum(widths),)
        self.novelty = novelty
        place = torch.zeros(len(levels), max(widths), dtype=torch.long)
        is_padding = torch.ones(len(levels), max(widths), dtype=torch.bool)
        start = 0
        for j, width in enumerate(widths):
            place[j, :width] = torch.arange(start, start + width)
            is_padding[j, :width] = False
            start += width
        self.register_buffer("place", place, persistent=False)
        self.register_buffer("is_padding", is_padding, persistent=False)
        self.register_buffer("other", torch.tensor(levels), persistent=False)

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        logits = parameters[..., self.place].masked_fill(self.is_padding, -torch.inf)  # (nets, K, n, d, levels)
        level = torch.nan_to_num(x).long().expand(logits.shape[:-1])
        chosen = torch.log_softmax(logits, -1).gather(-1, level[..., None])[..., 0]
        known = chosen + torch.log1p(chosen.new_tensor(-self.novelty))
        novel = torch.logaddexp(known, chosen.new_tensor(self.novelty).log())
        return where_seen(x, torch.where(level == self.other, novel, known))

    def prediction(self, parameters: Tensor, x: Tensor) -> Tensor:
        return self.log_prob(parameters, x).exp()

    def error(self, prediction: Tensor, x: Tensor) -> Tensor:
        return where_seen(x, 1 - prediction)
