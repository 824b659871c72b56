"""The shares of an image: they add up, point at a planted patch, and are told as pictures and boxes."""

import base64
import io

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from PIL import Image

from elbound.errors import SchemaError
from elbound.explain import explain_images, image_documents
from elbound.explain.images import _spread
from elbound.explain.pictures import heat_layer, overlay
from elbound.explain.regions import MAX_REGIONS, strongest_regions
from elbound.scorer import Scorer


def pixels(picture: object) -> np.ndarray:
    assert isinstance(picture, str)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(picture, validate=True))))


def test_shares_add_up_alone_and_in_a_batch(image_scorer: Scorer) -> None:
    x = torch.cat([image_scorer.golden, torch.randint(0, 256, (9, 1, 12, 12), dtype=torch.uint8)])
    found = explain_images(image_scorer, x)
    score = image_scorer.raw_scores(x)[:, image_scorer.detector.score_names.index("negative_elbo")]
    np.testing.assert_allclose(found.shares.sum((1, 2)) + found.latent, score, rtol=1e-5)
    alone, part = explain_images(image_scorer, x[3:4]), found.part(3, 4)
    np.testing.assert_allclose(alone.shares, part.shares, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(alone.heat, part.heat, rtol=1e-4, atol=1e-4)
    assert found.reconstruction is not None
    assert found.reconstruction.shape == (len(x), 12, 12)
    golden = image_scorer.golden[:, 0].numpy().astype(float)
    assert np.abs(found.reconstruction[: len(golden)] - golden).mean() < np.abs(golden - golden.mean()).mean()


def test_a_planted_patch_is_the_strongest_region(image_scorer: Scorer) -> None:
    x = image_scorer.golden.clone()
    x[:, :, 8:11, 1:4] = 255
    for document in image_documents(image_scorer, x, explain_images(image_scorer, x), as_npy=True):
        regions = document["regions"]
        assert isinstance(regions, list)
        left, top, width, height = regions[0]["box"]
        assert left < 4
        assert left + width > 1
        assert top < 11
        assert top + height > 8
        shares = np.load(io.BytesIO(base64.b64decode(str(document["shares"]))))
        assert (shares.dtype, shares.shape) == (np.float32, (12, 12))
        assert regions[0]["share"] == pytest.approx(shares[top : top + height, left : left + width].sum(), rel=1e-4)
        rest = document["rest"]
        assert isinstance(rest, float)
        assert rest + sum(region["share"] for region in regions) == pytest.approx(shares.sum(), rel=1e-4)
        heat = pixels(document["heatmap"])
        assert heat.shape == (12, 12, 4)
        assert heat[top : top + height, left : left + width, 3].max() > 0
        assert pixels(document["image"]).shape == pixels(document["reconstruction"]).shape == (12, 12)


def test_the_layer_is_transparent_where_nothing_is_odd_and_lies_over_the_enlarged_image() -> None:
    layer = heat_layer(np.array([[0.0, 1.0], [1.5, 9.0]]))
    assert layer[0, :, 3].tolist() == [0, 0]
    assert layer[1, 1].tolist() == [255, 0, 0, 191]
    calm = np.asarray(Image.open(io.BytesIO(overlay(np.full((8, 6), 77, np.uint8), np.zeros((8, 6))))))
    assert calm.shape == (224, 168, 3)
    assert (calm == 77).all()


maps = nps.arrays(
    np.float64, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.sampled_from([0.0, 1.0, 2.0])
)


@given(maps)
def test_regions_are_disjoint_boxes_that_cover_what_is_above_one(heat: np.ndarray) -> None:
    regions = strongest_regions(heat, heat)
    covered = np.zeros(heat.shape, dtype=int)
    for left, top, width, height, share in regions:
        covered[top : top + height, left : left + width] += 1
        assert share == pytest.approx(heat[top : top + height, left : left + width].sum())
    assert covered.max() <= 1
    assert (len(regions) == 0) == (heat <= 1).all()
    assert [region.share for region in regions] == sorted((region.share for region in regions), reverse=True)
    if len(regions) < MAX_REGIONS:
        assert (covered[heat > 1] == 1).all()


@given(places=st.integers(1, 9), size=st.integers(1, 40))
def test_a_places_share_is_spread_over_its_pixels_whole(places: int, size: int) -> None:
    spread = _spread(places, size, torch.zeros((), dtype=torch.float64))
    torch.testing.assert_close(spread.sum(1), torch.ones(places, dtype=torch.float64))
    if size % places == 0:
        assert (spread > 0).sum(1).tolist() == [size // places] * places


def test_rows_have_no_pixels(table_scorer: Scorer) -> None:
    with pytest.raises(SchemaError, match="no pixels"):
        explain_images(table_scorer, table_scorer.golden)
