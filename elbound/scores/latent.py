"""Scores of where an item's code lies among those of training items."""

from collections.abc import Sequence

import torch
from torch import Tensor

from elbound.model.models.base import Model, ModelSpec
from elbound.schema import ImageSchema, TableSchema
from elbound.scores.base import Nearest, Observed, Score
from elbound.scores.neighbours import Bank, nearest_distances
from elbound.views import View
from elbound.views.table import StandardView

NEAREST = 5
SHRINKAGE = 1e-3


def codes(observed: Observed) -> Tensor:
    """The posterior means of all nets side by side, `(n, nets * latent)`."""
    return observed.posterior.mu.transpose(0, 1).flatten(1)


class LatentNeighbours(Score):
    """The mean distance of the code to its `NEAREST` nearest training codes, in standard deviations of the prior.

    Ramaswamy, Rastogi and Shim, Efficient Algorithms for Mining Outliers from Large Data Sets, 2000. The bank
    `(bank, nets * latent)` is a random part of the train part.
    """

    name = "latent_neighbours"
    unit = "standard deviations"

    codes: Tensor

    def __init__(self, spec: ModelSpec, schema: TableSchema | ImageSchema) -> None:
        super().__init__(spec, schema)
        self.register_buffer("codes", torch.zeros(spec.bank, spec.nets * spec.latent))

    def fit(self, model: Model, bank: Sequence[Observed]) -> None:  # noqa: ARG002 - the contract
        self.codes.copy_(torch.cat([codes(observed) for observed in bank]))

    def forward(self, model: Model, observed: Observed) -> Tensor:  # noqa: ARG002 - the contract
        return nearest_distances(codes(observed), self.codes, NEAREST).mean(1)

    def nearest(self, model: Model, observed: Observed, k: int) -> Nearest | None:
        """What the model decodes the nearest codes to: the training items themselves are not kept."""
        if observed.posterior.logits is not None:
            return None  # a code without its category is no item
        distances, index = Bank(self.codes).search(codes(observed), k)
        nets = len(observed.posterior.mu)
        z = self.codes[index.flatten()].unflatten(1, (nets, -1)).transpose(0, 1)[:, None]
        events = _decoded(model, observed.view, z)
        return None if events is None else Nearest(distances, events.unflatten(0, index.shape))


class LatentMahalanobis(Score):
    """[(mu - m)^T C^-1 (mu - m)]^(1/2) with mean m and covariance C of the bank's codes.

    C carries a thousandth of its mean variance on its diagonal, for codes that hardly vary. Lee, Lee, Lee and
    Shin, A Simple Unified Framework for Detecting Out-of-Distribution Samples, 2018.
    """

    name = "latent_mahalanobis"
    unit = "standard deviations"

    mean: Tensor
    whitening: Tensor

    def __init__(self, spec: ModelSpec, schema: TableSchema | ImageSchema) -> None:
        super().__init__(spec, schema)
        size = spec.nets * spec.latent
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("whitening", torch.eye(size))

    def fit(self, model: Model, bank: Sequence[Observed]) -> None:  # noqa: ARG002 - the contract
        mean, whitening = whitening_of(torch.cat([codes(observed) for observed in bank]), SHRINKAGE)
        self.mean.copy_(mean)
        self.whitening.copy_(whitening)

    def forward(self, model: Model, observed: Observed) -> Tensor:  # noqa: ARG002 - the contract
        return ((codes(observed) - self.mean) @ self.whitening).square().sum(1).sqrt()


def _decoded(model: Model, view: View, z: Tensor) -> Tensor | None:
    """What the model expects at the codes `(nets, 1, m, latent)`, `(m, *event)` in units of the data."""
    parameters = model.decode(z)
    if isinstance(view, StandardView):
        weight = z.new_full(z.shape[:3], 1 / len(z))
        return view.inverse(model.likelihood.expectation(parameters, weight)[0])
    return view.inverse(model.likelihood.prediction(parameters, parameters).mean((0, 1)))


def whitening_of(points: Tensor, shrinkage: float) -> tuple[Tensor, Tensor]:
    """Mean m `(p,)` and W `(p, p)` with W W^T = C^-1 for points `(m, p)`, float64.

    C is the covariance, drawn by `shrinkage` towards its mean variance on the diagonal.
    """
    points = points.double()
    mean = points.mean(0)
    deviation = points - mean
    covariance = deviation.mT @ deviation / max(1, len(points) - 1)
    level = covariance.diagonal().mean().clamp(min=1e-12)
    eye = torch.eye(len(mean), dtype=torch.float64, device=points.device)
    root = torch.linalg.cholesky((1 - shrinkage) * covariance + shrinkage * level * eye)
    return mean, torch.linalg.solve_triangular(root, eye, upper=False).mT
