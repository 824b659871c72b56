"""`POST /score?explain=true` over real HTTP: the picture, its place in the answer, its limits."""

import base64
import io
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from elbound.data.schema import ImageSchema
from elbound.fit.detector import DetectorConfig, fit_detector
from elbound.scorer import Scorer

PICTURES = {"model": "pictures"}
NPY, ZIP, JSON = "application/x-npy", "application/zip", "application/json"
FACTOR = 18
"""224 pixels over 12, rounded down: what small images are enlarged by."""


def npy(array: np.ndarray) -> bytes:
    packed = io.BytesIO()
    np.save(packed, array)
    return packed.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return packed.getvalue()


def picture(array: np.ndarray) -> bytes:
    packed = io.BytesIO()
    Image.fromarray(array).save(packed, "PNG")
    return packed.getvalue()


def shown(item: dict) -> np.ndarray:
    """The decoded heat map of an item, `(height, width, 3)`."""
    data = base64.b64decode(item["explanation"]["heatmap"], validate=True)
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    return np.asarray(Image.open(io.BytesIO(data)), dtype=int)


def redness(pixels: np.ndarray) -> np.ndarray:
    """How much colour lies on a grey image, a mean for each of its own pixels, `(height, width)`."""
    colour = pixels[..., 0] - pixels[..., 2]
    return colour.reshape(12, FACTOR, 12, FACTOR).mean((1, 3))


def normal_images(scorer: Scorer, n: int) -> np.ndarray:
    assert scorer.image is not None
    golden = scorer.image.from_tensor(scorer.golden)
    return np.concatenate([golden] * (n // len(golden) + 1))[:n]


@pytest.fixture(scope="module")
def small(start, image_bundle):  # type: ignore[no-untyped-def]
    return start(image_bundle, max_explained_items=20, batch_rows=8)


def test_a_planted_defect_is_hotter_than_the_rest(server, image_scorer: Scorer) -> None:
    images = normal_images(image_scorer, 2)
    images[0, 8:11, 1:4] = 255
    answer = server.score(npy(images), NPY, explain="true", **PICTURES).json()
    odd, calm = answer["items"]
    assert odd["is_anomaly"]
    assert odd["explanation"]["score"] == odd["fired"]
    assert calm["explanation"]["score"] in answer["scores"]
    assert shown(odd).shape == (12 * FACTOR, 12 * FACTOR, 3)
    heat = redness(shown(odd))
    planted = np.zeros((12, 12), dtype=bool)
    planted[8:11, 1:4] = True
    assert heat[planted].mean() > 5 * heat[~planted].mean()
    assert redness(shown(calm)).mean() < heat.mean()


def test_a_heat_map_belongs_to_its_item_whatever_the_slice(small, image_scorer: Scorer) -> None:
    images = normal_images(image_scorer, 20)
    for i, image in enumerate(images):
        image[:3, i % 10 : i % 10 + 3] = 255
    together = small.score(npy(images), NPY, explain="true").json()["items"]
    for i in (0, 7, 15, 16, 19):
        alone = small.score(npy(images[i : i + 1]), NPY, explain="true").json()["items"][0]
        assert np.abs(shown(alone) - shown(together[i])).max() <= 1  # rounding of the last bits of a float32
        assert alone["explanation"]["score"] == together[i]["explanation"]["score"]


def test_without_explain_nothing_is_added(server, image_scorer: Scorer) -> None:
    body = npy(normal_images(image_scorer, 3))
    plain, explained = (server.score(body, NPY, **PICTURES, **query).json() for query in ({}, {"explain": "true"}))
    assert server.score(body, NPY, explain="false", **PICTURES).json() == plain
    for item in explained["items"]:
        assert set(item.pop("explanation")) == {"score", "heatmap"}
    assert explained == plain


def test_layout_columns_has_a_column_of_explanations(server, image_scorer: Scorer) -> None:
    from service.schemas import ScoreAnswer

    good = picture(normal_images(image_scorer, 1)[0])
    body = zipped({"a.png": good, "broken.png": good[:60], "c.png": good})
    by_item = server.score(body, ZIP, explain="true", **PICTURES)
    by_column = server.score(body, ZIP, explain="true", layout="columns", **PICTURES)
    expected = [item.get("explanation") for item in by_item.json()["items"]]
    assert by_column.json()["columns"]["explanation"] == expected
    assert [one is None for one in expected] == [False, True, False]
    for response in (by_item, by_column):
        ScoreAnswer.model_validate_json(response.content)


@pytest.mark.parametrize("model", ["rows", "numbers"])
def test_rows_of_a_table_are_not_explained_yet(server, model) -> None:
    response = server.score(b"[[1, 2, 3]]", JSON, explain="true", model=model)
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["where"]) == (400, "explain_unsupported", "explain")
    assert f"{model} scores rows of a table" in error["message"]


@pytest.mark.parametrize("text", ["maybe", "1", "True", ""])
def test_explain_is_true_or_false(server, text) -> None:
    response = server.score(b"x", "image/png", explain=text, **PICTURES)
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["where"]) == (400, "config_invalid", "explain")
    assert error["message"] == f"explain must be false or true. Got {text!r} instead"


def test_one_item_more_than_the_limit_is_refused_and_only_with_explain(small, image_scorer: Scorer) -> None:
    images = normal_images(image_scorer, 21)
    assert len(small.score(npy(images[:20]), NPY, explain="true").json()["items"]) == 20
    response = small.score(npy(images), NPY, explain="true")
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["where"]) == (413, "limit_exceeded", "explain")
    assert error["message"] == "21 items; with explain=true at most 20 are taken (max_explained_items)"
    assert small.score(npy(images), NPY).json()["summary"]["scored"] == 21


def test_pixels_of_16_bits_are_shown_in_8(start, tmp_path) -> None:
    draw = np.random.default_rng(0)
    images = (draw.integers(0, 40, (100, 12, 12)) + 100) * 257
    schema = ImageSchema(height=12, width=12, channels=1, bits=16)
    config = DetectorConfig(name="deep", alpha=0.05, device="cpu", steps=20)
    scorer = fit_detector(torch.from_numpy(images[:, None].astype(np.int32)), schema, config)
    scorer.save(tmp_path / "deep")
    server = start(tmp_path / "deep")
    item = server.score(npy(images[:1].astype(np.uint16)), NPY, explain="true").json()["items"][0]
    pixels = shown(item).reshape(12, FACTOR, 12, FACTOR, 3)[:, FACTOR // 2, :, FACTOR // 2]
    untouched = (pixels == images[0, :, :, None] // 257).all(-1)
    assert untouched.mean() > 0.5
