"""Posterior collapse, model by model."""

from itertools import combinations

import numpy as np
from torch import Tensor

from elbound.detector import Detector, Member
from elbound.diagnostics.collapse import USE_ITEMS, active_units, code_worth, kl_by_dimension, posterior_of
from elbound.model.models.autoencoder import NoPrior
from elbound.schema import TableSchema
from training.report.facts import ModelUse, NetUse, NotChecked

LEAST_WORTH = 0.1
"""Nats an item: a seventh of a bit. A decoder that gains less from an item's own code does not listen to it."""
COSTLY_ITEMS = 200
MOST_ROWS, MOST_COLUMNS = 5_000, 60
"""What is searched for dependence: at most 1,770 pairs of columns."""
CELLS = 5
DEPENDENCE_P = 0.001


def latent_use(detector: Detector, x: Tensor) -> list[ModelUse]:
    """How each model of the detector uses its latent, from held-out events `(n, *event)`."""
    names = [spec.view for spec in detector.spec.models]
    return [
        ModelUse(name, _nets(member, x, chunk=detector.cpu_chunk))
        for name, member in zip(names, detector.each(), strict=True)
    ]


def is_collapsed(use: ModelUse) -> bool:
    """Whether every net has no active unit, or a decoder that does not listen to the code.

    Some inactive units are no collapse: a VAE switches off what it does not need. One net of several that collapsed
    is shown, and blocks nothing while the others work.
    """
    if isinstance(use.nets, NotChecked):
        return False
    return all(not any(net.active) or net.worth < LEAST_WORTH for net in use.nets)


def columns_depend(x: Tensor, schema: TableSchema) -> bool:
    """Whether any two columns of rows `(n, d)` depend on each other: one of all pairs has a chi-squared p < 0.001.

    Values and codes are cut into fifths, so that a pair has at most 25 cells (36 with gaps), and a pair that expects
    less than one row in a cell is left out; Bonferroni over the pairs. Where no pair depends, a latent can say nothing
    about a row beyond its columns one by one. Of more than `MOST_COLUMNS` columns some are taken to depend.
    """
    from scipy.stats import chi2_contingency

    if len(schema.columns) > MOST_COLUMNS:
        return True
    cells = [_cells(values) for values in x[:MOST_ROWS].T.double().numpy()]
    pairs = list(combinations([cell for cell in cells if cell.max() > 0], 2))
    for one, other in pairs:
        table = np.zeros((one.max() + 1, other.max() + 1))
        np.add.at(table, (one, other), 1)
        found = chi2_contingency(table, correction=False)
        if found.expected_freq.min() >= 1 and found.pvalue < DEPENDENCE_P / len(pairs):
            return True
    return False


def _cells(values: np.ndarray) -> np.ndarray:
    """The fifth in which each value `(n,)` lies, equal ones together, numbered without holes; a gap is one more."""
    seen = values[~np.isnan(values)]
    inner = np.quantile(seen, np.linspace(0, 1, CELLS + 1)[1:-1]) if len(seen) else np.empty(0)
    cells = np.where(np.isnan(values), CELLS, np.searchsorted(inner, values))
    numbered: np.ndarray = np.unique(cells, return_inverse=True)[1]
    return numbered


def _nets(member: Member, x: Tensor, *, chunk: int) -> list[NetUse] | NotChecked:
    if member.model.closed_form or isinstance(member.model.prior, NoPrior):
        return NotChecked(f"the model {member.spec.name} has no rate that could collapse")
    x = x[: COSTLY_ITEMS if member.view.costly else USE_ITEMS]
    if len(x) < 2:
        return NotChecked("it takes two held-out items")
    posterior = posterior_of(member, x, chunk=chunk)
    active = active_units(posterior.mu)
    kl = kl_by_dimension(posterior.mu, posterior.logvar)
    worth = code_worth(member, x, chunk=chunk)
    parts = zip(kl.tolist(), active.tolist(), worth.tolist(), strict=True)
    return [NetUse(k, a, w) for k, a, w in parts]
