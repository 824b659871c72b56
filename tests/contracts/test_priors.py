"""Every prior: a distribution, the same for any batch, kept whole in its state, with a KL that samples confirm."""

import builtins
import math
from collections.abc import Mapping, Sequence

import pytest
import torch
from torch import Tensor

from elbound.errors import MissingExtra
from elbound.model.priors import PRIORS, Prior
from elbound.model.priors.aggregate import AggregatePosterior
from elbound.model.priors.mixture import Mixture, mixture_log_prob


def encode(inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Stands in for an encoder: the first two inputs are the code of two dimensions, or the first of one."""
    return inputs[..., :-1], inputs[..., -1:].tanh().expand(inputs[..., :-1].shape)


def build(name: str, *, nets: int = 1, latent: int = 1, components: int = 5, absorbed: int = 3, seed: int = 0) -> Prior:
    """As after a fit: bound to an encoder, and with `absorbed` training codes."""
    torch.manual_seed(seed)
    prior = PRIORS[name](nets, latent, components)
    prior.bind(encode, (latent + 1,))
    mu, logvar = torch.randn(2, nets, absorbed, latent)
    prior.requires_grad_(False).absorb(mu, logvar)
    return prior.double().eval()


def draw(*shape: int, seed: int = 1, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("name", PRIORS)
@pytest.mark.parametrize("training", [False, True])
def test_it_integrates_to_one_over_two_dimensions(name: str, training: bool) -> None:
    prior = build(name, nets=2, latent=2).train(training)
    axis = torch.linspace(-12, 12, 241, dtype=torch.float64)
    points = torch.cartesian_prod(axis, axis).expand(2, 1, -1, 2)
    density = prior.log_prob(points).exp().view(2, 241, 241)
    mass = torch.trapezoid(torch.trapezoid(density, axis), axis)
    assert mass.tolist() == pytest.approx([1, 1], abs=2e-4)  # a spline's kinks fall between the grid's lines


@pytest.mark.parametrize("name", PRIORS)
@pytest.mark.parametrize("training", [False, True])
def test_a_closed_form_kl_agrees_with_samples(name: str, training: bool) -> None:
    prior = build(name, latent=2).train(training)
    mu, logvar = draw(1, 4, 2), draw(1, 4, 2, seed=2)
    kl = prior.kl(mu, logvar)
    if kl is None:
        return
    assert kl.shape == mu.shape
    z = mu[:, None] + torch.exp(0.5 * logvar[:, None]) * draw(1, 40_000, 4, 2, seed=3)
    log_qz = torch.distributions.Normal(mu[:, None], torch.exp(0.5 * logvar[:, None])).log_prob(z).sum(-1)
    gaps = log_qz - prior.log_prob(z)
    assert ((kl.sum(-1) - gaps.mean(1)).abs() <= 4 * gaps.std(1) / math.sqrt(40_000)).all()


@pytest.mark.parametrize("name", PRIORS)
def test_an_item_alone_is_the_item_in_a_batch(name: str) -> None:
    prior = build(name, nets=2, latent=3).float()
    z = draw(2, 4, 6, 3).float()
    whole = prior.log_prob(z)
    assert whole.shape == (2, 4, 6)
    torch.testing.assert_close(torch.cat([prior.log_prob(z[:, :, i : i + 1]) for i in range(6)], 2), whole)


@pytest.mark.parametrize("name", PRIORS)
def test_the_state_holds_all_of_it(name: str) -> None:
    prior, other = build(name, nets=2, latent=2, seed=0), build(name, nets=2, latent=2, absorbed=5, seed=1)
    other.load_state_dict(prior.state_dict())
    z = draw(2, 4, 6, 2)
    assert torch.equal(other.log_prob(z), prior.log_prob(z))


@pytest.mark.parametrize("name", PRIORS)
@pytest.mark.parametrize("training", [False, True])
def test_gradients_are_finite_far_out(name: str, training: bool) -> None:
    prior = build(name, nets=2, latent=2).float().train(training).requires_grad_(True)
    z = draw(2, 2, 5, 2, scale=30.0).float().requires_grad_()
    prior.log_prob(z).sum().backward()
    gradients = [z.grad, *(parameter.grad for parameter in prior.parameters())]
    assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in gradients)


def reference(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """The uniform mixture by torch's own classes in float64, `(nets, K, n)`."""
    laws = torch.distributions
    parts = laws.Independent(laws.Normal(mu.double(), torch.exp(0.5 * logvar.double())), 1)
    weights = laws.Categorical(logits=torch.zeros(mu.shape[:2], dtype=torch.float64))
    flat = laws.MixtureSameFamily(weights, parts).log_prob(z.double().flatten(1, 2).transpose(0, 1))
    return flat.transpose(0, 1).unflatten(1, z.shape[1:3])


@pytest.mark.parametrize("logvar", [1.0, -3.0, -10.0])
def test_the_matrix_product_is_accurate_in_float32(logvar: float) -> None:
    """At logvar -10 the terms of the expanded square are near 1e6 and cancel."""
    mu, narrow = draw(2, 512, 16, scale=3.0).float(), torch.full((2, 512, 16), logvar)
    z = mu[:, None, :40] + math.exp(logvar / 2) * draw(2, 8, 40, 16, seed=5).float()
    uniform = torch.full((2, 512), -math.log(512))
    found = mixture_log_prob(z, mu, narrow, uniform).double()
    torch.testing.assert_close(found, reference(z, mu, narrow), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("given", [1, 3, 8, 20])
def test_the_aggregate_is_the_mean_of_the_codes_it_was_given(given: int) -> None:
    """Fewer codes than places: the places left over do not count; more: the first are kept."""
    prior = AggregatePosterior(2, 3, components=8).eval()
    mu, logvar = draw(2, given, 3).float(), draw(2, given, 3, seed=2).float()
    prior.absorb(mu, logvar)
    z = draw(2, 4, 5, 3, seed=3).float()
    torch.testing.assert_close(prior.log_prob(z).double(), reference(z, mu[:, :8], logvar[:, :8]), rtol=1e-5, atol=1e-5)


def test_before_it_absorbs_the_aggregate_is_the_standard_normal() -> None:
    prior, z = AggregatePosterior(1, 3, components=8), draw(1, 4, 5, 3).float()
    torch.testing.assert_close(prior.eval().log_prob(z), PRIORS["standard_normal"](1, 3).log_prob(z))


def test_a_mixture_of_one_standard_component_is_the_standard_normal() -> None:
    prior, z = Mixture(1, 3), draw(1, 4, 5, 3).float()
    with torch.no_grad():
        prior.mu.zero_()
        torch.testing.assert_close(prior.log_prob(z), PRIORS["standard_normal"](1, 3).log_prob(z))


def test_without_zuko_the_flow_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = builtins.__import__

    def refuse(
        name: str,
        globals: Mapping[str, object] | None = None,  # noqa: A002 - the built-in's names
        locals: Mapping[str, object] | None = None,  # noqa: A002
        fromlist: Sequence[str] = (),
        level: int = 0,
    ) -> object:
        if name.startswith("zuko"):
            raise ImportError(name)
        return plain(name, globals, locals, fromlist, level)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingExtra, match=r"elbound\[flows\]"):
        PRIORS["flow"](1, 2)
