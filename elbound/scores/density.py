"""Scores from the bounds on log p(x)."""

from torch import Tensor

from elbound.model.bounds import iwae
from elbound.model.models.base import Model
from elbound.scores.base import Observed, Reasons, Score, over_nets


class NegativeELBO(Score):
    """-ELBO = reconstruction + kl, in nats: the verdict's score."""

    name = "negative_elbo"
    unit = "nats"

    def forward(self, model: Model, observed: Observed) -> Tensor:  # noqa: ARG002 - the contract
        return over_nets(observed.terms.negative_elbo)

    def reasons(self, model: Model, observed: Observed) -> Reasons:  # noqa: ARG002 - the contract
        return Reasons(observed.terms.feature_shares.mean(0), over_nets(observed.terms.rate))


class Reconstruction(Score):
    """-E_q[log p(x|z)] in nats: how badly the item is explained by its own latent."""

    name = "reconstruction"
    unit = "nats"

    def forward(self, model: Model, observed: Observed) -> Tensor:  # noqa: ARG002 - the contract
        return over_nets(observed.terms.reconstruction)

    def reasons(self, model: Model, observed: Observed) -> Reasons:  # noqa: ARG002 - the contract
        return Reasons(observed.terms.feature_shares.mean(0))


class KL(Score):
    """KL(q(z|x) || p(z)) in nats: how unusual the latent is."""

    name = "kl"
    unit = "nats"

    def forward(self, model: Model, observed: Observed) -> Tensor:  # noqa: ARG002 - the contract
        return over_nets(observed.terms.rate)


class NegativeIWAE(Score):
    """-IWAE_K in nats: a tighter bound on -log p(x) from the same K samples."""

    name = "negative_iwae"
    unit = "nats"

    def forward(self, model: Model, observed: Observed) -> Tensor:  # noqa: ARG002 - the contract
        return -over_nets(iwae(observed.terms))
