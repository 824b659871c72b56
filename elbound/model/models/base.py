"""The contract of a model and the plain values that rebuild it."""

from typing import ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from elbound.model.bounds import Posterior
from elbound.model.likelihoods.base import Likelihood
from elbound.model.priors import Prior


class ModelSpec(BaseModel):
    """Everything but the weights that is needed to rebuild a model and its scores; kept in the manifest.

    `categories` is the size of a categorical latent beside the Gaussian one, 0 for none; `likelihood` is that of
    numbers or pixels; `variance_floor` is in units of the view; `novelty` is the probability of a
    category that training never saw. With `odd_gaps` a gap in a column that had none in training has that
    probability too; older bundles have no `odd_gaps`, and such a gap costs them nothing. `typed` are the values of
    numeric columns that are constant (one value) or are modelled as booleans (two) or categories; `samples` is the
    K of the stored noise; `components` the size of a prior that has components; `bank` the number of training
    items that the scores remember. `scores` are names of the registry, in the order of the member's answer.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = "vae"
    view: str
    nets: int = Field(default=1, ge=1, le=64)
    latent: int = Field(ge=1, le=4096)
    categories: int = Field(default=0, ge=0, le=64)
    width: int = Field(default=128, ge=1, le=65_536)
    samples: int = Field(default=8, ge=1, le=1024)
    prior: str = "standard_normal"
    components: int = Field(default=1, ge=1, le=100_000)
    likelihood: str = "gaussian"
    variance_floor: float = Field(default=0.01, gt=0)
    novelty: float = Field(default=0.01, gt=0, lt=1)
    odd_gaps: bool = False
    typed: dict[int, tuple[float, ...]] = Field(default_factory=dict)
    scores: tuple[str, ...] = Field(default=("negative_elbo",), max_length=32)
    bank: int = Field(default=0, ge=0, le=100_000)


class LossTerms(NamedTuple):
    """`loss` to minimise, and its halves in nats an item averaged over batch and nets (scalars)."""

    loss: Tensor
    reconstruction: Tensor
    kl: Tensor


class Model(nn.Module):
    """A variational model of events; every tensor has the nets first."""

    closed_form: ClassVar[bool] = False
    likelihood: Likelihood
    prior: Prior

    def encode(self, x: Tensor) -> Posterior:
        """q(z|x) for `x` `(nets, n, *event)`, NaN where a cell is missing."""
        raise NotImplementedError

    def decode(self, z: Tensor) -> Tensor:
        """The likelihood's parameters for `z` `(nets, K, n, latent)`."""
        raise NotImplementedError

    def loss(self, x: Tensor, noise: Tensor, *, kl_weight: float) -> LossTerms:
        """What training minimises on a batch `(nets, n, *event)` with noise `(nets, 1, n, latent)`."""
        raise NotImplementedError

    def fit_closed_form(self, x: Tensor) -> None:
        """Fit at once to all training events of the view, `(n, *event)`; where `closed_form`, there is no loop."""
        raise NotImplementedError
