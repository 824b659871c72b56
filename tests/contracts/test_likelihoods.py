"""Every likelihood: it integrates to one, is finite at hard values, and its error is what it says."""

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from elbound.model.likelihoods import IMAGE_LIKELIHOODS, NUMERIC_LIKELIHOODS
from elbound.model.likelihoods.base import Likelihood
from elbound.model.likelihoods.columns import ColumnsLikelihood
from elbound.model.likelihoods.discrete import Bernoulli, Categorical
from elbound.model.likelihoods.gaussian import PixelGaussian, PredictedGaussian, SharedGaussian, normal_log_prob
from elbound.model.likelihoods.laplace import PredictedLaplace, SharedLaplace, laplace_log_prob
from elbound.model.likelihoods.pixels import DiscretisedLogistic, PixelBernoulli
from elbound.model.likelihoods.scale import ImageLikelihood
from elbound.model.likelihoods.student_t import PredictedStudentT, SharedStudentT, student_t_log_prob
from elbound.schema import Column, TableSchema

SCHEMA = TableSchema(
    columns=(
        Column(name="site", kind="categorical", levels=("x", "y", "z")),
        Column(name="a", kind="numeric"),
        Column(name="yes", kind="boolean"),
        Column(name="when", kind="datetime"),
    )
)
GREYS = [i / 255 for i in range(256)]
CASES: dict[type[Likelihood], tuple[Likelihood, list[list[float] | None]]] = {
    PredictedGaussian: (PredictedGaussian(2, 0.01), [None, None]),
    PredictedLaplace: (PredictedLaplace(2, 0.01), [None, None]),
    PredictedStudentT: (PredictedStudentT(2, 0.01), [None, None]),
    SharedGaussian: (SharedGaussian((1, 1, 2), 1, 0.01), [None, None]),
    SharedLaplace: (SharedLaplace((1, 1, 2), 1, 0.01), [None, None]),
    SharedStudentT: (SharedStudentT((1, 1, 2), 1, 0.01), [None, None]),
    PixelGaussian: (PixelGaussian((1, 1, 2), 1, 0.01), [None, None]),
    PixelBernoulli: (PixelBernoulli((1, 1, 2), 1, 0.01), [[0, 1], [0, 1]]),
    DiscretisedLogistic: (DiscretisedLogistic((1, 1, 2), 1, 1e-4), [GREYS, GREYS]),
    Bernoulli: (Bernoulli(2, 0.02), [[0, 1, 2], [0, 1, 2]]),
    Categorical: (Categorical((3, 1), 0.02), [[0, 1, 2, 3], [0, 1]]),
    ColumnsLikelihood: (
        ColumnsLikelihood(SCHEMA, variance_floor=0.01, novelty=0.02),
        [[0, 1, 2, 3], None, [0, 1, 2], None],
    ),
}
"""The support of each feature: its values, or None for the real line."""


def subclasses(kind: type[Likelihood]) -> Iterator[type[Likelihood]]:
    for child in kind.__subclasses__():
        yield child
        yield from subclasses(child)


def test_every_likelihood_of_the_library_has_a_case() -> None:
    leaves = {kind for kind in subclasses(Likelihood) if not kind.__subclasses__()}
    assert {kind for kind in leaves if kind.__module__.startswith("elbound.model.likelihoods.")} == set(CASES)
    assert {*NUMERIC_LIKELIHOODS.values(), *IMAGE_LIKELIHOODS.values()} <= set(CASES)


def random_parameters(likelihood: Likelihood, n: int = 1, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return scale * torch.randn(1, 1, n, *likelihood.parameter_shape, generator=generator, dtype=torch.float64)


def event_shape(likelihood: Likelihood, support: list[list[float] | None]) -> tuple[int, ...]:
    return (1, 1, 2) if isinstance(likelihood, ImageLikelihood) else (len(support),)


@pytest.mark.parametrize("kind", CASES)
def test_each_feature_integrates_to_one(kind: type[Likelihood]) -> None:
    likelihood, support = CASES[kind]
    likelihood.double()
    shape = event_shape(likelihood, support)
    grid = torch.linspace(-80, 80, 64_001, dtype=torch.float64)
    with torch.no_grad():
        for j, values in enumerate(support):
            points = grid if values is None else torch.tensor(values, dtype=torch.float64)
            x = torch.full((len(points), len(support)), torch.nan, dtype=torch.float64)
            x[:, j] = points
            if isinstance(likelihood, ImageLikelihood):
                x = torch.nan_to_num(x)
            parameters = random_parameters(likelihood).expand(1, 1, len(points), *likelihood.parameter_shape)
            terms = likelihood.log_prob(parameters, x.view(1, 1, -1, *shape)).flatten(3)[0, 0, :, j]
            mass = torch.trapezoid(terms.exp(), points) if values is None else terms.exp().sum()
            assert float(mass) == pytest.approx(1, abs=1e-5), f"feature {j}"  # the kink of a Laplace


@pytest.mark.parametrize("kind", CASES)
@pytest.mark.parametrize("scale", [0.0, 1.0, 80.0, 1e4])
def test_finite_value_and_gradient_at_hard_values(kind: type[Likelihood], scale: float) -> None:
    likelihood, support = CASES[kind]
    likelihood.float()
    shape = event_shape(likelihood, support)
    rows = [[0.0 if values is None else values[0] for values in support]]
    rows += [[big if values is None else values[-1] for values in support] for big in (1e5, -1e5, 1e-30)]
    x = torch.tensor(rows).view(1, 1, -1, *shape)
    parameters = random_parameters(likelihood, len(rows), scale).float().requires_grad_()
    terms = likelihood.log_prob(parameters, x)
    terms.sum().backward()
    assert terms.shape == x.shape
    assert torch.isfinite(terms).all()
    assert parameters.grad is not None
    assert torch.isfinite(parameters.grad).all()


@pytest.mark.parametrize("kind", CASES)
def test_error_is_zero_for_a_perfect_prediction_and_positive_else(kind: type[Likelihood]) -> None:
    likelihood, support = CASES[kind]
    likelihood.double()
    shape = event_shape(likelihood, support)
    x = torch.tensor([[0.3 if values is None else values[0] for values in support]], dtype=torch.float64)
    x = x.view(1, 1, *shape)
    perfect = torch.tensor([0.3 if values is None else 1.0 for values in support], dtype=torch.float64).view(x.shape)
    perfect = x if isinstance(likelihood, ImageLikelihood) else perfect
    assert (likelihood.error(perfect, x) == 0).all()
    assert (likelihood.error(perfect - 0.5, x) > 0).all()


@pytest.mark.parametrize("kind", CASES)
def test_a_float32_term_agrees_with_float64(kind: type[Likelihood]) -> None:
    likelihood, support = CASES[kind]
    shape = event_shape(likelihood, support)
    x = torch.tensor([[1.7 if values is None else values[-1] for values in support]]).view(1, 1, 1, *shape)
    parameters = random_parameters(likelihood)
    precise = likelihood.double().log_prob(parameters, x.double())
    torch.testing.assert_close(
        likelihood.float().log_prob(parameters.float(), x).double(), precise, rtol=1e-5, atol=1e-5
    )


def test_the_variance_belongs_to_the_row_and_the_feature() -> None:
    likelihood = PredictedGaussian(1, 0.01)
    x = torch.tensor([2.0, 2.0]).view(1, 1, 2, 1)
    parameters = torch.tensor([[0.0, 0.0], [0.0, 2.0]]).view(1, 1, 2, 2)
    expected = torch.distributions.Normal(0, torch.tensor([1.0, torch.e])).log_prob(torch.tensor(2.0))
    torch.testing.assert_close(likelihood.log_prob(parameters, x)[0, 0, :, 0], expected)


def test_no_level_surprises_by_more_than_the_bound() -> None:
    """Neither `other` nor a known level that the network rules out."""
    likelihood = Categorical((2,), novelty=1 / 101)
    parameters = torch.tensor([[80.0, -80.0, -80.0]]).expand(1, 1, 3, 3)
    surprise = -likelihood.log_prob(parameters, torch.arange(3.0).view(1, 1, 3, 1)).flatten()
    assert surprise[1:].tolist() == pytest.approx([math.log(101) + math.log(3)] * 2, rel=1e-5)


def test_another_value_than_yes_and_no_is_the_largest_surprise() -> None:
    likelihood = Bernoulli(1, novelty=1 / 101)
    parameters = torch.tensor([-1e4, -80.0, 0.0, 80.0, 1e4]).view(1, 1, 5, 1)
    terms = [-likelihood.log_prob(parameters, torch.full((1, 1, 5, 1), value)) for value in (0.0, 1.0, 2.0)]
    torch.testing.assert_close(terms[2], torch.full((1, 1, 5, 1), math.log(303)))
    assert (torch.stack(terms[:2]) <= terms[2]).all()


def test_without_novelty_the_discrete_laws_are_those_of_torch() -> None:
    x = torch.tensor([[0.0], [1.0]], dtype=torch.float64).view(1, 1, 2, 1)
    logits = random_parameters(Bernoulli(1, 1e-12), 2, 3.0)
    expected = torch.distributions.Bernoulli(logits=logits).log_prob(x)
    torch.testing.assert_close(Bernoulli(1, 1e-12).log_prob(logits, x), expected)
    logits = random_parameters(Categorical((2,), 1e-12), 2, 3.0)
    expected = torch.distributions.Categorical(logits=logits).log_prob(x[..., 0])[..., None]
    torch.testing.assert_close(Categorical((2,), 1e-12).double().log_prob(logits, x), expected)


GRID = torch.linspace(-30, 30, 601, dtype=torch.float64)
MEAN, LOGVAR = torch.tensor(0.4, dtype=torch.float64), torch.tensor(-1.2, dtype=torch.float64)
SCALE = torch.exp(0.5 * LOGVAR)


def test_the_laws_are_those_of_torch() -> None:
    laws = torch.distributions
    for ours, theirs in (
        (normal_log_prob(GRID, MEAN, LOGVAR), laws.Normal(MEAN, SCALE)),
        (laplace_log_prob(GRID, MEAN, LOGVAR), laws.Laplace(MEAN, SCALE / math.sqrt(2))),
        (student_t_log_prob(GRID, MEAN, LOGVAR, 4.0), laws.StudentT(4.0, MEAN, SCALE)),
        (student_t_log_prob(GRID, MEAN, LOGVAR, 1.0), laws.Cauchy(MEAN, SCALE)),
    ):
        torch.testing.assert_close(ours, theirs.log_prob(GRID))


def test_with_many_degrees_of_freedom_student_t_is_the_normal() -> None:
    near = GRID.abs() < 3
    torch.testing.assert_close(
        student_t_log_prob(GRID, MEAN, LOGVAR, 1e8)[near], normal_log_prob(GRID, MEAN, LOGVAR)[near], rtol=0, atol=1e-4
    )


def test_the_logistic_bins_are_differences_of_its_distribution_function() -> None:
    likelihood = DiscretisedLogistic((1, 1, 256), 1, 1e-4).double()
    levels = torch.arange(256, dtype=torch.float64)
    parameters = torch.full((1, 1, 1, 1, 1, 256), 0.4, dtype=torch.float64)
    scale = math.sqrt(3) / math.pi  # of unit variance, where the scale starts
    ends = torch.cat([torch.tensor([-torch.inf]), (levels[:-1] + 0.5) / 255, torch.tensor([torch.inf])])
    expected = torch.sigmoid((ends - 0.4) / scale).diff().log()
    with torch.no_grad():
        terms = likelihood.log_prob(parameters, (levels / 255).view(1, 1, 1, 1, 1, 256)).flatten()
    torch.testing.assert_close(terms, expected)


def test_a_pixel_variance_that_is_one_everywhere_is_the_unit_normal() -> None:
    likelihood = PixelGaussian((1, 2, 2), 1, 0.01)
    x = torch.linspace(-3, 3, 4).view(1, 1, 1, 1, 2, 2)
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(x)
    torch.testing.assert_close(likelihood.log_prob(torch.zeros(1, 1, 1, 2, 2, 2), x), expected)


def test_grey_pixels_pay_the_cross_entropy() -> None:
    likelihood = PixelBernoulli((1, 1, 2), 1, 0.01)
    logits, x = torch.tensor([0.7, -2.0]).view(1, 1, 1, 1, 1, 2), torch.tensor([0.25, 0.5]).view(1, 1, 1, 1, 1, 2)
    expected = -torch.nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="none")
    torch.testing.assert_close(likelihood.log_prob(logits, x), expected)


@pytest.mark.parametrize("name", NUMERIC_LIKELIHOODS)
def test_the_interval_of_a_mixture_holds_its_central_95_percent(name: str) -> None:
    """Against the integral of its own density; parts with weights, far apart, and one alone."""
    likelihood = NUMERIC_LIKELIHOODS[name](3, 0.01).double()
    mean = torch.tensor([[0.0, 1.0, 5.0], [0.2, 1.0, -5.0], [-0.3, 1.0, 20.0]], dtype=torch.float64)
    logvar = torch.tensor([[0.0, 1.0, -2.0], [0.5, 1.0, -1.0], [-0.5, 1.0, 1.0]], dtype=torch.float64)
    parameters = torch.cat([mean, logvar], -1).view(1, 3, 1, 6)
    weight = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64).view(1, 3, 1)
    expected, low, high = likelihood.expectation(parameters, weight)
    torch.testing.assert_close(expected[0], (weight[0] * mean).sum(0))
    grid = torch.linspace(-300, 300, 200_001, dtype=torch.float64)
    x = grid.view(1, 1, -1, 1).expand(1, 1, -1, 3)
    density = (likelihood.log_prob(parameters, x).exp() * weight.view(1, 3, 1, 1)).sum((0, 1))
    for j in range(3):
        for end, share in ((low[0, j], 0.025), (high[0, j], 0.975)):
            below = grid <= end
            assert float(torch.trapezoid(density[below, j], grid[below])) == pytest.approx(share, abs=2e-3)


def test_the_most_probable_level_is_expected() -> None:
    """Of the averaged probabilities, whose winner no single part need name."""
    weight = torch.full((1, 2, 1), 0.5)
    logits = torch.tensor([[0.5, 0.4, 0.0], [0.0, 0.4, 0.5]]).log().clamp(min=-9).view(1, 2, 1, 3)
    level, low, high = Categorical((2,), 0.02).expectation(logits, weight)
    assert (level.item(), low.isnan().item(), high.isnan().item()) == (1.0, True, True)
    level = Bernoulli(2, 0.02).expectation(torch.tensor([[2.0, 1.0], [-1.0, -2.0]]).view(1, 2, 1, 2), weight)[0]
    assert level.tolist() == [[1.0, 0.0]]
