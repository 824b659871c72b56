"""The contract of a prior p(z)."""

from collections.abc import Callable

from torch import Tensor, nn


class Prior(nn.Module):
    """A distribution over the latent, `latent` dimensions for each of `nets` nets. All terms are in nats.

    `components` is the number of its parts; a prior without parts ignores it.
    """

    def __init__(self, nets: int, latent: int, components: int = 1) -> None:
        super().__init__()
        self.nets = nets
        self.latent = latent
        self.components = components

    def bind(self, encode: Callable[[Tensor], tuple[Tensor, Tensor]], inputs: tuple[int, ...]) -> None:
        """Called once, when the model is built, with its encoder behind the coding of the input.

        `encode` maps `(nets, m, *inputs)` to `mu` and `logvar` `(nets, m, latent)`. A prior that is made of the
        encoder's own posteriors keeps it; every other one ignores the call.
        """

    def absorb(self, mu: Tensor, logvar: Tensor) -> None:
        """Called once, after the fit, with the posterior of training items, both `(nets, m, latent)`.

        A prior that is made of training codes takes them here; every other one ignores the call.
        """

    def log_prob(self, z: Tensor) -> Tensor:
        """log p(z), from `(nets, K, n, latent)` to `(nets, K, n)`."""
        raise NotImplementedError

    def kl(self, mu: Tensor, logvar: Tensor) -> Tensor | None:
        """KL(N(mu, exp(logvar)) || p) for each dimension: all shapes are `(nets, n, latent)`.

        None where there is no closed form; the bounds then use the samples.
        """
        raise NotImplementedError

    def rate(self, mu: Tensor, logvar: Tensor) -> Tensor | None:
        """KL(N(mu, exp(logvar)) || p) or a bound from above, `(nets, n)`; None where only samples can tell."""
        kl = self.kl(mu, logvar)
        return None if kl is None else kl.sum(-1)
