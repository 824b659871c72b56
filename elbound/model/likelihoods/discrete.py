"""Yes or no, and one of several levels: each smoothed, so that the surprise of a single value is bounded."""

import torch
from torch import Tensor

from elbound.model.likelihoods.base import Likelihood, levels_alone, mixture_mean, where_seen
from elbound.torch_graph import gaps_as_zero


class Bernoulli(Likelihood):
    """x_j in {0, 1}, or 2 for another value than the two that training knows.

    p = (1 - novelty) [1 - s, s, 0] + novelty / 3 with s = sigmoid(logit_j(z)): a distribution over {0, 1, 2}
    whose surprise is at most log(3 / novelty) nats, which is that of the value 2. The decoder emits one
    logit a feature.
    """

    def __init__(self, features: int, novelty: float) -> None:
        super().__init__()
        self.parameter_shape = (features,)
        self.novelty = novelty

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        return where_seen(x, self.prediction(parameters, x).log(), self.log_prob_of_gap)

    def prediction(self, parameters: Tensor, x: Tensor) -> Tensor:
        value = gaps_as_zero(x)
        weight = (1 - self.novelty) * (value < 2).to(parameters.dtype)
        chosen = torch.sigmoid((2 * value - 1) * parameters)
        return torch.addcmul(parameters.new_tensor(self.novelty / 3), weight, chosen)

    def error(self, prediction: Tensor, x: Tensor) -> Tensor:
        return where_seen(x, 1 - prediction)

    def expectation(self, parameters: Tensor, weight: Tensor) -> Tensor:
        return levels_alone((mixture_mean(torch.sigmoid(parameters), weight) >= 0.5).to(parameters.dtype))


class Categorical(Likelihood):
    """x_j is one of `levels[j]` known levels, or `other` (numbered `levels[j]`).

    p = (1 - novelty) softmax(logits) + novelty / (levels[j] + 1): no value, `other` among them, surprises by
    more than log(1 / novelty) + log(levels[j] + 1) nats, whatever the network says of a level without
    examples. With novelty = 1 / (n + 1) the next of n + 1 draws is new.

    The decoder emits `levels[j] + 1` logits for each column, one column after the other.
    """

    place: Tensor
    is_padding: Tensor
    uniform: Tensor

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
        self.register_buffer("uniform", 1 / torch.tensor(widths, dtype=torch.float32), persistent=False)

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        return where_seen(x, self.prediction(parameters, x).log(), self.log_prob_of_gap)

    def prediction(self, parameters: Tensor, x: Tensor) -> Tensor:
        known = self._known(parameters)
        level = gaps_as_zero(x).long().expand(known.shape[:-1])
        chosen = known.gather(-1, level[..., None])[..., 0]
        return torch.lerp(chosen, self.uniform, self.novelty)

    def error(self, prediction: Tensor, x: Tensor) -> Tensor:
        return where_seen(x, 1 - prediction)

    def expectation(self, parameters: Tensor, weight: Tensor) -> Tensor:
        return levels_alone(mixture_mean(self._known(parameters), weight).argmax(-1).to(parameters.dtype))

    def _known(self, parameters: Tensor) -> Tensor:
        """What the network says of each level, `(nets, K, n, d, levels)`."""
        logits = parameters[..., self.place].masked_fill(self.is_padding, -torch.inf)
        return torch.softmax(logits, -1)
