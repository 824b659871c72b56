"""The variational mixture of posteriors."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from elbound.model.priors.base import Prior
from elbound.model.priors.mixture import mixture_log_prob


class VampPrior(Prior):
    """p(z) = (1 / C) sum_c q(z|u_c) with C = `components` learned pseudo-inputs u_c.

    The pseudo-inputs live where the encoder's weights begin: behind the one-hot coding of a row, or as images.
    They are encoded again at each call, C rows more for the encoder. Tomczak and Welling, VAE with a VampPrior,
    2018.
    """

    pseudo_inputs: nn.Parameter

    def bind(self, encode: Callable[[Tensor], tuple[Tensor, Tensor]], inputs: tuple[int, ...]) -> None:
        self.encode = encode
        self.pseudo_inputs = nn.Parameter(torch.randn(self.nets, self.components, *inputs))

    def log_prob(self, z: Tensor) -> Tensor:
        mu, logvar = self.encode(self.pseudo_inputs)
        return mixture_log_prob(z, mu, logvar, mu.new_zeros(mu.shape[:2]).log_softmax(-1))

    def kl(self, mu: Tensor, logvar: Tensor) -> None:  # noqa: ARG002 - the contract
        return None
