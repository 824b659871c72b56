"""Every model with every prior and likelihood: bounds in order, independent of the batch, whole in its state."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from elbound.errors import ConfigError
from elbound.model.bounds import BoundTerms, bound_terms, categorical_kl, elbo, fixed_noise, iwae
from elbound.model.likelihoods import IMAGE_LIKELIHOODS, NUMERIC_LIKELIHOODS
from elbound.model.models import MODELS, Model, ModelSpec
from elbound.model.models.autoencoder import DenoisingAutoencoder
from elbound.model.models.pca import ProbabilisticPCA
from elbound.model.priors import PRIORS
from elbound.schema import Column, ImageSchema, TableSchema

ROWS = TableSchema(
    columns=(
        Column(name="a", kind="numeric"),
        Column(name="b", kind="numeric", nullable=True),
        Column(name="yes", kind="boolean"),
        Column(name="site", kind="categorical", levels=("x", "y")),
    )
)
NUMBERS = TableSchema(columns=tuple(Column(name=name, kind="numeric") for name in "abcde"))
IMAGES = ImageSchema(height=8, width=6, channels=1)
SAMPLES = {"vae": 4, "pca": 4}
PLAIN = [name for name in MODELS if name != "patch_vae"]  # it reads features: tests/elbound/test_features.py


def spec(name: str = "vae", **settings: object) -> ModelSpec:
    plain = {"view": "standard", "nets": 2, "latent": 2, "width": 16, "samples": SAMPLES.get(name, 1), "components": 4}
    return ModelSpec.model_validate({"name": name, **plain, **settings})


@dataclass(frozen=True)
class Case:
    spec: ModelSpec
    schema: TableSchema | ImageSchema

    def model(self, seed: int = 0) -> Model:
        torch.manual_seed(seed)
        return MODELS[self.spec.name](self.spec, self.schema)

    def events(self, n: int) -> Tensor:
        """Items in the view's units with a common cause, `(n, *event)`."""
        generator = torch.Generator().manual_seed(1)
        z = torch.randn(n, 1, generator=generator)
        if isinstance(self.schema, ImageSchema):
            x = z.view(-1, 1, 1, 1) + 0.3 * torch.randn(n, *self.schema.event, generator=generator)
            return torch.round(torch.sigmoid(x) * 255) / 255 if self.spec.view == "unit" else x
        x = z + 0.3 * torch.randn(n, len(self.schema.columns), generator=generator)
        if self.schema is ROWS:
            x[:, 2], x[:, 3] = (x[:, 2] > 0).float(), (x[:, 3] > 0).float() + (x[:, 3] > 1)
            x[::7, 1] = torch.nan
        return x

    def noise(self) -> Tensor:
        return fixed_noise(self.spec.samples, self.spec.latent, seed=0)

    def terms(self, model: Model, x: Tensor) -> BoundTerms:
        return bound_terms(model, x.expand(self.spec.nets, *x.shape), self.noise())


CASES = {
    **{f"{name}-rows": Case(spec(name), ROWS) for name in PLAIN},
    **{f"{name}-images": Case(spec(name, view="pixels"), IMAGES) for name in PLAIN},
    **{f"{name}-prior": Case(spec(prior=name), ROWS) for name in PRIORS},
    "vampprior-images": Case(spec(prior="vampprior", view="pixels"), IMAGES),
    **{f"{name}-categories": Case(spec(prior=name, categories=3), ROWS) for name in PRIORS},
    "images-categories": Case(spec(categories=3, view="pixels"), IMAGES),
    **{f"{name}-numbers": Case(spec(likelihood=name), ROWS) for name in NUMERIC_LIKELIHOODS},
    **{
        f"{name}-pixels": Case(spec(likelihood=name, view=kind.view or "pixels", variance_floor=1e-4), IMAGES)
        for name, kind in IMAGE_LIKELIHOODS.items()
    },
}  # fmt: skip
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def fitted(case: Case, x: Tensor, steps: int = 50) -> tuple[Model, list[float]]:
    """The model after a few steps, or its closed form, and the losses on the way."""
    model = case.model().train()
    losses = []
    if model.closed_form:
        model.fit_closed_form(x)
        return model.eval(), losses
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(2)
    for _ in range(steps):
        noise = torch.randn(case.spec.nets, 1, len(x), case.spec.latent, generator=generator)
        loss = model.loss(x.expand(case.spec.nets, *x.shape), noise, kl_weight=1.0).loss
        optimizer.zero_grad()
        loss.backward()
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        assert all(torch.isfinite(gradient).all() for gradient in gradients)
        optimizer.step()
        losses.append(float(loss.detach()))
    return model.eval(), losses


@every_case
def test_training_helps_and_the_bounds_are_in_order(case: Case) -> None:
    """The sampled ELBO is at most IWAE item by item; an item alone scores as in its batch."""
    x = case.events(64)
    model, losses = fitted(case, x, steps=50 if isinstance(case.schema, TableSchema) else 15)
    if losses:
        assert sum(losses[-5:]) < sum(losses[:5])
    with torch.no_grad():
        model.prior.absorb(*case.terms(model, x).posterior)
        terms = case.terms(model, x)
        assert terms.prediction.shape == (2, *x.shape)
        bound, tighter = elbo(terms, sampled_kl=True), iwae(terms)
        assert bound.shape == (2, 64)
        assert torch.isfinite(bound).all()
        assert (bound <= tighter + 1e-4 * tighter.abs().clamp(min=1)).all()
        alone = torch.cat([elbo(case.terms(model, x[i : i + 1])) for i in range(5)], 1)
        torch.testing.assert_close(alone, elbo(terms)[:, :5], rtol=1e-5, atol=1e-4)
        other = case.model(seed=1).eval()
        other.load_state_dict(model.state_dict())
        assert torch.equal(elbo(case.terms(other, x)), elbo(terms))
        shares = terms.feature_shares
        assert shares.shape == (2, *x.shape)
        assert (shares[terms.x.isnan()] == 0).all()
        torch.testing.assert_close(shares.flatten(2).sum(-1) + terms.rate, -elbo(terms), rtol=1e-5, atol=1e-4)
        torch.testing.assert_close(terms.weight.sum((0, 1)), torch.ones(64))
        if isinstance(case.schema, TableSchema):
            expected, low, high = model.likelihood.expectation(terms.parameters, terms.weight)
            assert expected.shape == x.shape
            assert torch.isfinite(expected).all()
            assert (low[:, :2] < high[:, :2]).all()
            assert torch.isnan(low[:, 2:]).all()
            assert torch.isnan(high[:, 2:]).all()
        errors = model.likelihood.error(terms.prediction, terms.x)
        assert errors.shape == terms.x.shape
        assert (errors >= 0).all()


@every_case
def test_wild_items_have_finite_bounds(case: Case) -> None:
    x = case.events(8)
    if case.spec.view != "unit":
        x = torch.where(x.isnan(), x, 1e5) if case.schema is not ROWS else torch.tensor([[1e5, -1e5, 1.0, 2.0]])
    model, _ = fitted(case, case.events(32), steps=5)
    assert torch.isfinite(elbo(case.terms(model, x))).all()
    assert torch.isfinite(iwae(case.terms(model, x))).all()


def test_a_categorical_latent_is_summed_out_exactly() -> None:
    """Against a loop over the categories, in float64."""
    case = CASES["standard_normal-categories"]
    model, _ = fitted(case, case.events(64), steps=20)
    x, noise = case.events(9).double().expand(2, 9, 4), case.noise().double()
    terms = bound_terms(model.double(), x, noise)
    posterior = terms.posterior
    assert posterior.logits is not None
    z = posterior.mu[:, None] + torch.exp(0.5 * posterior.logvar[:, None]) * noise
    q = torch.softmax(posterior.logits, -1)
    reconstruction, joint = torch.zeros(2, 9).double(), []
    for c in range(3):
        one_hot = torch.nn.functional.one_hot(torch.tensor(c), 3).double().expand(*z.shape[:3], 3)
        log_px = model.likelihood.log_prob(model.decode(torch.cat([z, one_hot], -1)), x[:, None]).sum(-1)
        reconstruction -= q[..., c] * log_px.mean(1)
        joint.append(log_px - math.log(3))
    torch.testing.assert_close(terms.reconstruction, reconstruction)
    q_z = torch.distributions.Normal(posterior.mu[:, None], torch.exp(0.5 * posterior.logvar[:, None]))
    weights = torch.stack(joint).logsumexp(0) + model.prior.log_prob(z) - q_z.log_prob(z).sum(-1)
    torch.testing.assert_close(iwae(terms), weights.logsumexp(1) - math.log(len(noise)))
    uniform = torch.distributions.Categorical(logits=torch.zeros(3).double())
    kl = torch.distributions.kl_divergence(torch.distributions.Categorical(logits=posterior.logits), uniform)
    torch.testing.assert_close(categorical_kl(posterior.logits), kl)
    gaussian = model.prior.kl(posterior.mu, posterior.logvar)
    assert gaussian is not None
    torch.testing.assert_close(terms.rate, gaussian.sum(-1) + kl)


def test_the_elbo_of_ppca_is_its_log_likelihood() -> None:
    case = Case(spec("pca", variance_floor=1e-3), NUMBERS)
    x = case.events(400).double()
    model = case.model().double()
    model.fit_closed_form(x)
    assert isinstance(model, ProbabilisticPCA)
    covariance = model.W @ model.W.mT + model.variance * torch.eye(5)
    expected = torch.distributions.MultivariateNormal(model.mean, covariance).log_prob(x)
    with torch.no_grad():
        terms = bound_terms(model, x.expand(2, *x.shape), case.noise().double())
        torch.testing.assert_close(elbo(terms, sampled_kl=True), expected.expand(2, -1))
        torch.testing.assert_close(iwae(terms), expected.expand(2, -1))


def test_ppca_is_the_maximum_of_the_likelihood() -> None:
    """Its covariance keeps the two largest eigenvalues of the sample's and the mean of the others."""
    case = Case(spec("pca", variance_floor=1e-6), NUMBERS)
    x = case.events(400).double()
    model = case.model().double()
    model.fit_closed_form(x)
    assert isinstance(model, ProbabilisticPCA)
    wanted = torch.linalg.eigvalsh(torch.cov(x.mT, correction=0))
    found = torch.linalg.eigvalsh(model.W @ model.W.mT + model.variance * torch.eye(5))
    torch.testing.assert_close(found, torch.cat([wanted[:3].mean().expand(3), wanted[3:]]), rtol=1e-5, atol=1e-6)


def test_a_large_image_has_the_components_of_the_exact_decomposition(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(spec("pca", latent=1), IMAGES)
    x = case.events(200)
    exact, projected = case.model(), case.model()
    exact.fit_closed_form(x)
    monkeypatch.setattr("elbound.model.models.pca.MAX_EXACT", 8)
    projected.fit_closed_form(x)
    with torch.no_grad():
        torch.testing.assert_close(elbo(case.terms(projected, x)), elbo(case.terms(exact, x)), rtol=1e-3, atol=1e-3)


def test_an_autoencoder_has_neither_rate_nor_noise() -> None:
    case = CASES["autoencoder-rows"]
    model, _ = fitted(case, case.events(64))
    with torch.no_grad():
        terms = case.terms(model, case.events(8))
    assert (terms.rate == 0).all()
    torch.testing.assert_close(elbo(terms), -terms.reconstruction)
    with pytest.raises(ConfigError, match="samples must be 1"):
        MODELS["autoencoder"](spec("autoencoder", samples=4), ROWS)


def test_corruption_follows_the_noise_and_takes_a_fifth_of_the_features_from_other_items() -> None:
    case = CASES["denoising_autoencoder-rows"]
    model = case.model()
    assert isinstance(model, DenoisingAutoencoder)
    x = torch.arange(4000.0).view(1, 1000, 4).expand(2, -1, -1)
    noise = torch.randn(3, 2, 1, 1000, 2, generator=torch.Generator().manual_seed(0))
    first, again, other = (model.corrupt(x, noise[i]) for i in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert float((first != x).float().mean()) == pytest.approx(0.2, abs=0.03)
    assert (first.remainder(4) == x.remainder(4)).all(), "a feature of another column"


def test_a_likelihood_of_other_units_than_the_view_is_refused() -> None:
    with pytest.raises(ConfigError, match="reads the view 'unit'"):
        MODELS["vae"](spec(likelihood="bernoulli", view="pixels"), IMAGES)
