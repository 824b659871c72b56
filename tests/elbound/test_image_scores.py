"""Scores of images: closed forms, planted defects, one item alone, images of one colour, save and load."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from elbound.detector import Detector, DetectorSpec
from elbound.fit.image_defaults import pixel_model
from elbound.schema import ImageSchema
from elbound.scores.appearance import structural_similarity
from elbound.scores.codelength import code_length
from elbound.scores.latent import whitening_of

SCHEMA = ImageSchema(height=12, width=12, channels=1)
NAMES = (
    "error_top",
    "dissimilarity",
    "coarse_neighbours",
    "latent_neighbours",
    "latent_mahalanobis",
    "code_length",
    "beyond_code",
)


def gradients(n: int, seed: int = 0) -> Tensor:
    """Smooth slopes of random direction and little noise, `(n, 1, 12, 12)` uint8."""
    draw = np.random.default_rng(seed)
    angle = draw.uniform(0, 0.8, (n, 1, 1, 1))
    y, x = np.mgrid[-1:1:12j, -1:1:12j]
    images = 120 + 60 * (np.cos(angle) * x + np.sin(angle) * y) + draw.normal(0, 2, (n, 1, 12, 12))
    return torch.from_numpy(images.clip(0, 255).astype(np.uint8))


def fitted(train: Tensor, schema: ImageSchema = SCHEMA, steps: int = 150) -> Detector:
    spec = pixel_model(schema, len(train)).model_copy(update={"scores": NAMES})
    torch.manual_seed(0)
    detector = Detector(DetectorSpec(models=(spec,)), schema)
    detector.draw_noise(seed=0)
    member = next(detector.each())
    member.view.fit(train)
    optimizer = torch.optim.Adam(member.model.parameters(), lr=2e-3)
    seen, generator = member.view(train)[None], torch.Generator().manual_seed(0)
    for _ in range(steps):
        noise = torch.randn(1, 1, len(train), spec.latent, generator=generator)
        optimizer.zero_grad()
        member.model.loss(seen, noise, kl_weight=1.0).loss.backward()
        optimizer.step()
    detector.eval().requires_grad_(False)
    detector.remember(train, seed=0)
    return detector


def scored(detector: Detector, x: Tensor) -> dict[str, np.ndarray]:
    return dict(zip(detector.score_names, detector(x, torch.device("cpu")).numpy().T, strict=True))


@pytest.fixture(scope="module")
def detector() -> Detector:
    return fitted(gradients(64))


def test_a_planted_defect_scores_higher(detector: Detector) -> None:
    x = gradients(8, seed=1)
    odd = x.clone()
    odd[:, :, 3:7, 3:7] = 255
    normal, broken = scored(detector, x), scored(detector, odd)
    for name in NAMES:
        assert (broken[name] > normal[name]).all(), name


def test_an_item_alone_scores_as_in_its_batch(detector: Detector) -> None:
    x = gradients(7, seed=2)
    together = detector(x, torch.device("cpu"))
    alone = torch.cat([detector(x[i : i + 1], torch.device("cpu")) for i in range(7)])
    assert together.shape == (7, len(NAMES))
    torch.testing.assert_close(alone, together, rtol=1e-5, atol=1e-5)


def test_weights_carry_all_that_a_score_remembers(detector: Detector) -> None:
    other = Detector(detector.spec, SCHEMA).eval()
    other.load_state_dict(detector.state_dict())
    x = gradients(5, seed=3)
    assert torch.equal(other(x, torch.device("cpu")), detector(x, torch.device("cpu")))


@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_one_colour_have_finite_scores(channels: int) -> None:
    schema = ImageSchema(height=9, width=5, channels=channels)
    train = torch.full((20, *schema.event), 255, dtype=torch.uint8)
    detector = fitted(train, schema, steps=3)
    noise = torch.randint(0, 256, (4, *schema.event), generator=torch.Generator().manual_seed(0)).byte()
    for x in (train[:2], torch.zeros_like(train[:2]), noise):
        assert torch.isfinite(detector(x, torch.device("cpu"))).all()


def test_similarity_is_that_of_the_paper() -> None:
    """Against loops over windows in float64, with the population's variances as here."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(2, 1, 2, 9, 10, generator=generator, dtype=torch.float64)
    padded = [np.pad(image[0].numpy(), ((0, 0), (3, 3), (3, 3)), mode="reflect") for image in (x, y)]
    expected = np.zeros((2, 9, 10))
    for c, top, left in np.ndindex(2, 9, 10):
        a, b = (image[c, top : top + 7, left : left + 7].ravel() for image in padded)
        covariance = np.mean(a * b) - a.mean() * b.mean()
        luminance = (2 * a.mean() * b.mean() + 1e-4) / (a.mean() ** 2 + b.mean() ** 2 + 1e-4)
        expected[c, top, left] = luminance * (2 * covariance + 9e-4) / (a.var() + b.var() + 9e-4)
    size = torch.ones(2, 1, 1, dtype=torch.float64)
    found = structural_similarity(x, y, size, 7)[0].numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert float(structural_similarity(x, x, size, 7).min()) == pytest.approx(1.0)


def test_whitening_gives_the_mahalanobis_distance() -> None:
    points = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)) @ torch.randn(4, 4)
    mean, whitening = whitening_of(points, 0.0)
    deviation = points.numpy().astype(np.float64) - points.double().mean(0).numpy()
    inverse = np.linalg.inv(np.cov(points.numpy().astype(np.float64).T))
    expected = np.einsum("ni,ij,nj->n", deviation, inverse, deviation)
    found = ((points.double() - mean) @ whitening).square().sum(1)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


def test_the_code_of_an_empty_image_in_closed_form() -> None:
    """One context, one symbol of 24: log2 Gamma(n + 12) Gamma(1/2) / (Gamma(12) Gamma(n + 1/2))."""
    black = torch.zeros(1, 1, 6, 7, dtype=torch.uint8)
    terms = (math.lgamma(42 + 12), math.lgamma(0.5), -math.lgamma(12), -math.lgamma(42.5))
    assert float(code_length(black)) == pytest.approx(sum(terms) / math.log(2))


def test_the_code_grows_with_complexity() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (3, 3, 32, 32), generator=generator).byte()
    grey = noise[:, :1].expand(-1, 3, -1, -1)
    smooth = torch.arange(32).byte().view(1, 1, 1, -1).expand(3, 3, 32, -1)
    flat, simple, some, much = (code_length(x) for x in (torch.zeros_like(noise), smooth, grey, noise))
    assert (flat < simple).all()
    assert (simple < some).all()
    assert (some < much).all()
    assert (much < 1.25 * 8 * 3 * 32 * 32).all()
    deep = torch.randint(0, 65_536, (2, 1, 16, 16), generator=generator).int()
    assert (code_length(deep) > 0.9 * 16 * 256).all()
