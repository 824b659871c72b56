"""Likelihood regret: zero where the posterior is exact, the gap where it is not, each item on its own."""

import numpy as np
import pytest
import torch

from elbound.detector import Detector, DetectorSpec
from elbound.diagnostics.regret import likelihood_regret
from elbound.model.bounds import Posterior, elbo, terms_at
from elbound.model.models import ModelSpec
from elbound.schema import Column, TableSchema
from elbound.scorer import Scorer

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def exact() -> tuple[Detector, torch.Tensor]:
    """Probabilistic PCA, whose encoder gives the exact posterior."""
    draw = np.random.default_rng(0)
    x = torch.from_numpy(draw.normal(size=(200, 2)) @ draw.normal(size=(2, 5)) + 0.3 * draw.normal(size=(200, 5)))
    schema = TableSchema(columns=tuple(Column(name=f"x{i}", kind="numeric") for i in range(5)))
    detector = Detector(DetectorSpec(models=(ModelSpec(name="pca", view="standard", latent=2, samples=64),)), schema)
    detector.draw_noise(seed=0)
    member = next(detector.each())
    member.view.fit(x)
    member.model.fit_closed_form(member.view(x))
    return detector.eval().requires_grad_(False), x


def test_nothing_is_regretted_where_the_posterior_is_exact(exact: tuple[Detector, torch.Tensor]) -> None:
    """Up to what 64 samples leave of the noise in the reconstruction."""
    detector, x = exact
    regret = likelihood_regret(detector, x, CPU)
    assert (regret >= 0).all()
    assert float(regret.max()) < 0.05


def test_the_gap_of_a_wrong_encoder_is_its_divergence_from_the_posterior(
    exact: tuple[Detector, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """ELBO(best) - ELBO(q) = KL(q || p(z|x)), a closed form between Gaussians, for q two deviations off."""
    detector, x = exact
    member = next(detector.each())
    encode = member.model.encode
    seen = member.view(x)[None]
    mu, logvar = encode(seen)
    expected = 0.5 * ((2 * torch.exp(0.5 * logvar)).square() / logvar.exp()).sum(-1)[0]

    def wrong(x: torch.Tensor) -> Posterior:
        mu, logvar = encode(x)
        return Posterior(mu + 2 * torch.exp(0.5 * logvar), logvar)

    monkeypatch.setattr(member.model, "encode", wrong)
    gap = elbo(terms_at(member.model, seen, Posterior(mu, logvar), member.noise)) - elbo(
        terms_at(member.model, seen, wrong(seen), member.noise)
    )
    torch.testing.assert_close(gap[0], expected, rtol=0.02, atol=0.02)
    torch.testing.assert_close(likelihood_regret(detector, x, CPU, steps=200).float(), expected, rtol=0.03, atol=0.05)


@pytest.mark.parametrize("fixture", ["table_scorer", "image_scorer"])
def test_an_item_has_its_regret_alone_and_in_a_batch(fixture: str, request: pytest.FixtureRequest) -> None:
    scorer: Scorer = request.getfixturevalue(fixture)
    scorer.score_tensor(scorer.golden)  # what scoring keeps must serve gradients, too
    together = scorer.likelihood_regret(scorer.golden)
    alone = np.concatenate([scorer.likelihood_regret(item[None]) for item in scorer.golden])
    assert together.shape == (len(scorer.golden),)
    assert (together >= 0).all()
    np.testing.assert_allclose(together, alone, rtol=1e-3, atol=1e-3)
    assert scorer.likelihood_regret(scorer.golden[:0]).shape == (0,)
