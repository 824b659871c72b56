"""The score that needs no probability."""

from torch import Tensor

from elbound.model.models.base import Model
from elbound.scores.base import Observed, Reasons, Score, over_nets


class ReconstructionError(Score):
    """Mean over observed features of the squared error in units of the training variance.

    For categories and booleans 1 - the probability of the value that was seen. 0 for an item without a
    single observed feature.
    """

    name = "reconstruction_error"
    unit = "relative"

    def forward(self, model: Model, observed: Observed) -> Tensor:
        terms = observed.terms
        features = tuple(range(2, terms.x.ndim))
        errors = model.likelihood.error(terms.prediction, terms.x).sum(features)
        cells = (~terms.x.isnan()).sum(features).clamp(min=1)
        return over_nets(errors / cells)

    def reasons(self, model: Model, observed: Observed) -> Reasons:
        terms = observed.terms
        errors = model.likelihood.error(terms.prediction, terms.x).mean(0)
        cells = (~observed.seen.isnan()).flatten(1).sum(1).clamp(min=1)
        return Reasons(errors / cells.view(-1, *(1,) * (errors.ndim - 1)))
