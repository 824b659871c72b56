"""Active units and KL by dimension against closed forms; the worth of a code."""

import pyarrow as pa
import pytest
import torch

from elbound.detector import Member
from elbound.diagnostics.collapse import active_units, code_worth, kl_by_dimension, posterior_of
from elbound.scorer import Scorer


def first_member(scorer: Scorer) -> Member:
    return next(scorer.detector.each())


def test_a_unit_is_active_where_its_mean_varies_by_more_than_a_hundredth() -> None:
    spread = torch.tensor([0.0, 0.099, 0.101, 2.0])
    mu = torch.stack([-spread, spread])[None]  # two items: the variance is spread^2
    assert active_units(mu).tolist() == [[False, False, True, True]]


def test_kl_by_dimension_is_the_closed_form() -> None:
    mu = torch.tensor([[[0.0, 1.0, 0.0], [0.0, -1.0, 0.0]]])
    logvar = torch.tensor([[[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]]])
    expected = [0.0, 0.5, 0.5 * (torch.e - 2)]
    assert kl_by_dimension(mu, logvar)[0].tolist() == pytest.approx(expected, abs=1e-6)


def test_kl_by_dimension_agrees_with_torch(table_scorer: Scorer) -> None:
    posterior = posterior_of(first_member(table_scorer), table_scorer.golden, chunk=3)
    normal = torch.distributions.Normal
    law = normal(posterior.mu, (0.5 * posterior.logvar).exp())
    expected = torch.distributions.kl_divergence(law, normal(0.0, 1.0)).mean(1)
    torch.testing.assert_close(kl_by_dimension(*posterior).float(), expected, rtol=1e-4, atol=1e-5)


def test_the_worth_of_a_code_is_zero_where_the_decoder_ignores_it(table_scorer: Scorer, normal_rows: pa.Table) -> None:
    x = table_scorer.to_tensor(normal_rows).x
    member = first_member(table_scorer)
    assert (code_worth(member, x, chunk=64) > 1).all()
    kept = member.model.decode
    member.model.decode = lambda z: kept(torch.zeros_like(z))  # type: ignore[method-assign]
    try:
        worth = code_worth(member, x, chunk=64)
    finally:
        del member.model.decode
    torch.testing.assert_close(worth, torch.zeros_like(worth), atol=1e-6, rtol=0)
