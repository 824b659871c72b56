"""The bounds against closed forms and numerical integration."""

import math

import pytest
import torch
from scipy import integrate, stats
from torch import Tensor, nn

from elbound.model.bounds import Posterior, bound_terms, elbo, fixed_noise, iwae
from elbound.model.likelihoods.base import Likelihood
from elbound.model.likelihoods.gaussian import normal_log_prob
from elbound.model.models import ModelSpec
from elbound.model.models.vae import build_vae
from elbound.model.priors import StandardNormal
from elbound.schema import Column, TableSchema

SIGMA = 0.5


class FixedNoise(Likelihood):
    """x_j ~ N(mean_j, SIGMA^2): all that the linear Gaussian model needs."""

    parameter_shape = (3,)

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        return normal_log_prob(x, parameters, torch.full_like(parameters, 2 * math.log(SIGMA)))

    def prediction(self, parameters: Tensor, x: Tensor) -> Tensor:
        return parameters


class LinearGaussian(nn.Module):
    """z ~ N(0, I), x|z ~ N(W z + b, SIGMA^2 I) in float64; W has orthogonal columns, so q can be exact.

    `gap` moves the posterior's mean away from the exact one, which loosens every bound.
    """

    def __init__(self, gap: float = 0.0) -> None:
        super().__init__()
        self.W = torch.tensor([[1.0, 0.5], [1.0, -0.5], [0.5, 0.0]], dtype=torch.float64)
        self.W[2, 1] = -(self.W[0, 0] * self.W[0, 1] + self.W[1, 0] * self.W[1, 1]) / self.W[2, 0]
        self.b = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64)
        self.likelihood = FixedNoise()
        self.prior = StandardNormal(1, 2)
        self.gap = gap

    def encode(self, x: Tensor) -> Posterior:
        precision = 1 + (self.W.square().sum(0) / SIGMA**2)
        mu = (x - self.b) @ self.W / SIGMA**2 / precision
        return Posterior(mu + self.gap, -precision.log().expand(mu.shape))

    def decode(self, z: Tensor) -> Tensor:
        return z @ self.W.T + self.b

    def log_px(self, x: Tensor) -> Tensor:
        covariance = self.W @ self.W.T + SIGMA**2 * torch.eye(3, dtype=torch.float64)
        law = torch.distributions.MultivariateNormal(self.b, covariance)
        return law.log_prob(x)


@pytest.fixture
def x() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return 2 * torch.randn(1, 50, 3, generator=generator, dtype=torch.float64)


def draw(samples: int, seed: int) -> Tensor:
    return torch.randn(samples, 1, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_both_bounds_equal_log_px_under_the_exact_posterior(x: Tensor) -> None:
    model = LinearGaussian()
    terms = bound_terms(model, x, draw(7, 0))
    torch.testing.assert_close(iwae(terms), model.log_px(x))
    torch.testing.assert_close(elbo(terms, sampled_kl=True), model.log_px(x))


def test_elbo_is_at_most_iwae_item_by_item(x: Tensor) -> None:
    terms = bound_terms(LinearGaussian(gap=0.7), x, draw(8, 0))
    assert (elbo(terms, sampled_kl=True) <= iwae(terms) + 1e-12).all()


def test_iwae_is_at_most_log_px_in_expectation_and_tightens_with_samples(x: Tensor) -> None:
    model = LinearGaussian(gap=0.3)
    draws = 400
    means = {}
    for samples in (1, 4, 16):
        bounds = torch.stack([iwae(bound_terms(model, x, draw(samples, seed)))[0] for seed in range(draws)])
        error = 4 * bounds.std(0) / math.sqrt(draws)  # four standard errors: one in 16,000 items fails by chance
        assert (bounds.mean(0) <= model.log_px(x)[0] + error).all()
        means[samples] = bounds.mean()
    assert means[1] < means[4] < means[16] < model.log_px(x).mean()


def test_closed_form_kl_gives_the_elbo_in_expectation(x: Tensor) -> None:
    """ELBO = log p(x) - KL(q || posterior), both known for the shifted posterior."""
    model = LinearGaussian(gap=0.4)
    precision = 1 + model.W.square().sum(0) / SIGMA**2
    expected = model.log_px(x)[0] - 0.5 * (precision * 0.4**2).sum()
    bounds = torch.stack([elbo(bound_terms(model, x, draw(8, seed)))[0] for seed in range(500)])
    assert ((bounds.mean(0) - expected).abs() <= 4 * bounds.std(0) / math.sqrt(500)).all()


def test_iwae_with_one_sample_is_the_sampled_elbo(x: Tensor) -> None:
    terms = bound_terms(LinearGaussian(gap=0.7), x, draw(1, 3))
    torch.testing.assert_close(iwae(terms), elbo(terms, sampled_kl=True))


@pytest.mark.parametrize(("mu", "logvar"), [(0.0, 0.0), (1.5, -2.0), (-0.3, 1.0), (4.0, -6.0)])
def test_kl_against_numerical_integration(mu: float, logvar: float) -> None:
    q, p = stats.norm(mu, math.exp(logvar / 2)), stats.norm()
    width = 12 * q.std()
    integral, _ = integrate.quad(
        lambda z: q.pdf(z) * (q.logpdf(z) - p.logpdf(z)), mu - width, mu + width, epsabs=1e-11, limit=200
    )
    closed = StandardNormal(1, 1).kl(*(torch.tensor([[[value]]], dtype=torch.float64) for value in (mu, logvar)))
    assert float(closed) == pytest.approx(integral, abs=1e-8)


def test_stored_noise_is_antithetic_standard_and_repeatable() -> None:
    noise = fixed_noise(256, 5, seed=3)
    assert noise.shape == (256, 1, 5)
    torch.testing.assert_close(noise, fixed_noise(256, 5, seed=3), rtol=0, atol=0)
    assert float(noise.sum(0).abs().max()) < 1e-4
    torch.testing.assert_close(noise.std(0), torch.ones(1, 5), rtol=0.05, atol=0)
    with pytest.raises(ValueError, match="even"):
        fixed_noise(7, 5, seed=0)


def tiny_vae() -> nn.Module:
    columns = (
        Column(name="a", kind="numeric"),
        Column(name="b", kind="numeric", nullable=True),
        Column(name="yes", kind="boolean"),
        Column(name="site", kind="categorical", levels=("x", "y")),
    )
    torch.manual_seed(0)
    spec = ModelSpec(view="standard", nets=2, latent=2, width=4, samples=2)
    return build_vae(spec, TableSchema(columns=columns)).double()


ROWS = torch.tensor([[0.5, 1.5, 1, 0], [-1.0, torch.nan, 0, 2], [0.1, 0.2, torch.nan, 1]], dtype=torch.float64)


def test_gradients_of_the_loss_agree_with_finite_differences() -> None:
    model = tiny_vae()
    x = ROWS.expand(2, 3, 4)
    noise = torch.randn(2, 1, 3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    names, parameters = zip(*model.named_parameters(), strict=True)

    def loss(*values: Tensor) -> Tensor:
        state = dict(zip(names, values, strict=True))
        return torch.func.functional_call(
            Loss(model), {f"model.{name}": value for name, value in state.items()}, (x, noise)
        )

    assert torch.autograd.gradcheck(loss, tuple(p.detach().requires_grad_() for p in parameters), atol=1e-6)


class Loss(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        loss: Tensor = self.model.loss(x, noise, kl_weight=0.6).loss
        return loss


def test_a_missing_cell_contributes_nothing() -> None:
    """Its terms are zero and no gradient reaches the decoder's numbers for it."""
    model = tiny_vae()
    x = ROWS.expand(2, 3, 4)[:, None]
    z = torch.zeros(2, 1, 3, 2, dtype=torch.float64)
    parameters = model.decode(z).detach().requires_grad_()
    terms = model.likelihood.log_prob(parameters, x)
    missing = x.isnan().expand(terms.shape)
    assert (terms[missing] == 0).all()
    assert (terms[~missing] != 0).all()
    terms[..., 1, 1].sum().backward()
    assert parameters.grad is not None
    assert (parameters.grad == 0).all()
    assert torch.isfinite(bound_terms(model, ROWS.expand(2, 3, 4), fixed_noise(2, 2, seed=0).double()).log_px).all()


def test_likelihood_of_a_row_is_the_sum_over_its_seen_columns() -> None:
    model = tiny_vae()
    terms = bound_terms(model, ROWS.expand(2, 3, 4), fixed_noise(2, 2, seed=0).double())
    posterior = model.encode(ROWS.expand(2, 3, 4))
    z = posterior.mu[:, None] + torch.exp(0.5 * posterior.logvar[:, None]) * fixed_noise(2, 2, seed=0)
    features = model.likelihood.log_prob(model.decode(z), ROWS.expand(2, 1, 3, 4))
    torch.testing.assert_close(terms.log_px, features.sum(-1))
