"""`POST /score?explain=true` and `counterfactual=true` over real HTTP: sums, pictures, places, limits."""

import base64
import io
import time
import zipfile

import httpx
import numpy as np
import orjson
import pytest
import torch
from PIL import Image

from elbound.fit.detector import DetectorConfig, fit_detector
from elbound.schema import ImageSchema
from elbound.scorer import Scorer
from service.answers.schemas import ScoreAnswer
from tests.conftest import mixed_table

ROWS, PICTURES = {"model": "rows"}, {"model": "pictures"}
NPY, ZIP, JSON = "application/x-npy", "application/zip", "application/json"
TOLD_ALREADY = {"negative_elbo", "reconstruction", "kl"}
HTML = "<img src=x onerror=alert(1)>"


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


def shown(text: str) -> np.ndarray:
    """A decoded picture."""
    data = base64.b64decode(text, validate=True)
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    return np.asarray(Image.open(io.BytesIO(data)), dtype=int)


def normal_images(scorer: Scorer, n: int) -> np.ndarray:
    assert scorer.image is not None
    golden = scorer.image.from_tensor(scorer.golden)
    return np.concatenate([golden] * (n // len(golden) + 1))[:n]


def odd_images(scorer: Scorer, n: int) -> np.ndarray:
    images = normal_images(scorer, n)
    images[:, 8:11, 1:4] = 255
    return images


def odd_rows(n: int) -> list[dict[str, object]]:
    """Rows one of whose cells is far out, further in each."""
    rows = mixed_table(n, seed=7).to_pylist()
    for i, row in enumerate(rows):
        row["a"] = 6.0 + i
    return rows


def total(explanation: dict) -> float:
    parts = explanation.get("features") or explanation["regions"]
    return float(sum(part["share"] for part in parts) + explanation["rest"] + explanation["latent"])


def scored(server, body: object, **query: object) -> dict:  # type: ignore[no-untyped-def]
    data, media_type = (body, NPY) if isinstance(body, bytes) else (orjson.dumps(body), JSON)
    answer = server.score(data, media_type, **query)
    assert answer.status_code == 200, answer.text
    ScoreAnswer.model_validate_json(answer.content)
    document: dict = answer.json()
    return document


def refused(answer: httpx.Response) -> tuple[int, str, str]:
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["where"]


@pytest.fixture(scope="module")
def small(start, image_bundle, table_bundle):  # type: ignore[no-untyped-def]
    return start(
        image_bundle, table_bundle, max_explained_items=20, batch_rows=8, max_counterfactual_items=2, nearest_items=0
    )


# Rows
def test_the_shares_of_a_row_add_up_to_its_score(server) -> None:
    rows: list[dict[str, object]] = [*mixed_table(20, seed=4).to_pylist(), *odd_rows(12)]
    rows += [{"a": None, "b": None, "c": 1.0, "ok": True, "site": None}, {**rows[0], "site": "elsewhere"}]
    rows += [{**rows[0], "c": 1e9}, {**rows[0], "c": -1e9}]
    document = scored(server, rows, explain="true", **ROWS)
    for row, item in zip(rows, document["items"], strict=True):
        explanation = item["explanation"]
        assert total(explanation) == pytest.approx(item["scores"]["negative_elbo"]["value"], rel=1e-4, abs=1e-4)
        shares = [one["share"] for one in explanation["features"]]
        assert shares == sorted(shares, reverse=True)
        told = {one["name"]: one for one in explanation["features"]}
        assert set(told) == set(row)
        for name, cell in row.items():
            if cell is None:
                assert told[name]["seen"] is None
                assert told[name]["share"] == 0 or name == "a"  # training saw gaps in the others
            elif isinstance(cell, float):
                assert told[name]["seen"] == pytest.approx(cell)
                low, high = told[name]["interval"]
                assert low < high
                assert told[name]["probability"] is None
            else:
                assert told[name]["interval"] is None
                assert 0 <= told[name]["probability"] <= 1
        if abs(row["c"]) == 1e9:
            assert explanation["features"][0]["name"] == "c"


def test_top_keeps_the_largest_shares_and_the_sum_of_the_others(server) -> None:
    rows = odd_rows(3)
    whole = scored(server, rows, explain="true", **ROWS)["items"]
    for top in (1, 2, 5, 9):
        for item, full in zip(scored(server, rows, explain="true", top=top, **ROWS)["items"], whole, strict=True):
            assert item["explanation"]["features"] == full["explanation"]["features"][:top]
            assert total(item["explanation"]) == pytest.approx(total(full["explanation"]))


def test_rows_with_errors_between_good_ones_are_explained_at_their_places(server) -> None:
    rows = odd_rows(4)
    body: list[object] = [rows[0], {"a": "x"}, rows[1], [1], rows[2], {**rows[3], "site": HTML}]
    by_item = scored(server, body, explain="true", counterfactual="true", **ROWS)
    by_column = scored(server, body, explain="true", counterfactual="true", layout="columns", **ROWS)
    assert ["error" in item for item in by_item["items"]] == [False, True, False, True, False, False]
    for name in ("explanation", "fired_explanation", "counterfactual"):
        assert by_column["columns"][name] == [item.get(name) for item in by_item["items"]]
    for row, item in zip(body, by_item["items"], strict=True):
        if "error" not in item:
            assert isinstance(row, dict)
            seen = {one["name"]: one["seen"] for one in item["explanation"]["features"]}
            assert seen["a"] == pytest.approx(row["a"])


def test_names_that_are_html_come_back_as_data(server, image_scorer: Scorer) -> None:
    answer = server.score(zipped({f"{HTML}.png": picture(normal_images(image_scorer, 1)[0])}), ZIP, **PICTURES)
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["items"][0]["name"] == f"{HTML}.png"


@pytest.mark.parametrize(("body", "query"), [(odd_rows(2), ROWS), (None, PICTURES)])
def test_without_explain_nothing_is_added(server, image_scorer: Scorer, body, query) -> None:
    body = body or npy(odd_images(image_scorer, 2))
    plain = scored(server, body, **query)
    assert scored(server, body, explain="false", counterfactual="false", **query) == plain
    explained = scored(server, body, explain="true", counterfactual="true", **query)
    del explained["counterfactuals"]
    for item in explained["items"]:
        for name in ("explanation", "fired_explanation", "counterfactual"):
            del item[name]
    assert explained == plain


# Images
def test_a_planted_defect_is_the_strongest_region_and_shares_add_up(server, image_scorer: Scorer) -> None:
    images = normal_images(image_scorer, 2)
    images[0] = odd_images(image_scorer, 1)[0]
    odd, calm = scored(server, npy(images), explain="true", heatmap="npy", **PICTURES)["items"]
    for item, pixels in ((odd, images[0]), (calm, images[1])):
        explanation, value = item["explanation"], item["scores"]["negative_elbo"]["value"]
        assert total(explanation) == pytest.approx(value, rel=1e-4)
        shares = np.load(io.BytesIO(base64.b64decode(explanation["shares"])))
        assert (shares.dtype, shares.shape) == (np.float32, (12, 12))
        assert shares.sum() + explanation["latent"] == pytest.approx(value, rel=1e-4)
        for region in explanation["regions"]:
            left, top, width, height = region["box"]
            assert region["share"] == pytest.approx(shares[top : top + height, left : left + width].sum(), rel=1e-3)
        assert (shown(explanation["image"]) == pixels).all()
        assert shown(explanation["heatmap"]).shape == (12, 12, 4)
        assert shown(explanation["reconstruction"]).shape == (12, 12)
    assert odd["is_anomaly"]
    left, top, width, height = odd["explanation"]["regions"][0]["box"]
    covered = np.zeros((12, 12), dtype=bool)
    covered[top : top + height, left : left + width] = True
    assert covered[8:11, 1:4].mean() > 0.5
    opacity = shown(odd["explanation"]["heatmap"])[..., 3]
    assert opacity[8:11, 1:4].mean() > 5 * opacity.mean() / 3


def test_an_explanation_belongs_to_its_item_whatever_the_slice(small, image_scorer: Scorer) -> None:
    images = normal_images(image_scorer, 20)
    for i, image in enumerate(images):
        image[:3, i % 10 : i % 10 + 3] = 255
    together = scored(small, npy(images), explain="true", **PICTURES)["items"]
    for i in (0, 7, 15, 16, 19):
        alone = scored(small, npy(images[i : i + 1]), explain="true", **PICTURES)["items"][0]
        difference = shown(alone["explanation"]["heatmap"]) - shown(together[i]["explanation"]["heatmap"])
        assert np.abs(difference).max() <= 2  # rounding of the last bits of a float32
        assert total(alone["explanation"]) == pytest.approx(total(together[i]["explanation"]), rel=1e-4)


def test_pixels_of_16_bits_are_shown_in_8(start, tmp_path) -> None:
    draw = np.random.default_rng(0)
    images = (draw.integers(0, 40, (100, 12, 12)) + 100) * 257
    schema = ImageSchema(height=12, width=12, channels=1, bits=16)
    config = DetectorConfig(name="deep", alpha=0.05, device="cpu", steps=20)
    fit_detector(torch.from_numpy(images[:, None].astype(np.int32)), schema, config).save(tmp_path / "deep")
    server = start(tmp_path / "deep")
    item = scored(server, npy(images[:1].astype(np.uint16)), explain="true")["items"][0]
    assert (shown(item["explanation"]["image"]) == images[0] // 257).all()


# The score that decided
def test_another_score_that_decided_tells_what_it_can(server, small, table_scorer: Scorer) -> None:
    rows = mixed_table(60, seed=9).to_pylist()
    for i, row in enumerate(rows):
        row["a"] += 0.15 * (i % 20) if i % 2 else 0.0
        row["b"] = None if row["b"] is None or i % 3 else row["b"] - 0.2 * (i % 20)
    items = scored(server, rows, explain="true", alpha=0.3, **ROWS)["items"]
    told = [item for item in items if item["fired_explanation"] is not None]
    assert told, "some other score has decided"
    for item in items:
        if not item["is_anomaly"] or item["fired"] in TOLD_ALREADY:
            assert item["fired_explanation"] is None
    nearest = 0
    for item in told:
        second = item["fired_explanation"]
        assert second["score"] == item["fired"]
        normal = np.quantile(
            table_scorer.calibration.calibration_scores[:, table_scorer.calibration.names.index(item["fired"])],
            [0.05, 0.5, 0.95],
        )
        assert list(second["normal"].values()) == pytest.approx(normal.tolist())
        if "features" in second:
            parts = sum(part["share"] for part in second["features"]) + second["rest"] + (second["latent"] or 0)
            assert parts == pytest.approx(item["scores"][item["fired"]]["value"], rel=1e-3, abs=1e-3)
        nearest += len(second.get("nearest", ()))
    assert nearest
    for start in (0, 20, 40):
        shy = scored(small, rows[start : start + 20], explain="true", alpha=0.3, **ROWS)["items"]
        assert all("nearest" not in (item["fired_explanation"] or {}) for item in shy), "nearest_items is 0"


# Nearest normals
def test_the_nearest_normal_of_a_row_is_scored_as_it_says(server) -> None:
    rows = odd_rows(3)
    document = scored(server, [*rows, mixed_table(1, seed=1).to_pylist()[0]], counterfactual="true", **ROWS)
    *odd, calm = document["items"]
    assert calm["counterfactual"] is None
    assert document["counterfactuals"] == {"searched": 3, "left_out": 0, "max_counterfactual_items": 8}
    for row, item in zip(rows, odd, strict=True):
        assert "explanation" not in item
        found = item["counterfactual"]
        assert found["found"]
        assert found["p_value"] > document["alpha"]
        assert {change["name"] for change in found["changes"]} < set(row)
        changed = row | {change["name"]: change["nearest"] for change in found["changes"]}
        again = scored(server, [changed], **ROWS)["items"][0]
        assert not again["is_anomaly"]
        assert again["p_value"] == pytest.approx(found["p_value"], rel=0.05)


def test_the_nearest_normal_of_an_image_is_scored_as_it_says(server, image_scorer: Scorer) -> None:
    document = scored(server, npy(odd_images(image_scorer, 1)), counterfactual="true", **PICTURES)
    found = document["items"][0]["counterfactual"]
    assert found["found"]
    assert 0 < found["changed_share"] <= 1
    again = scored(server, npy(shown(found["image"]).astype(np.uint8)[None]), **PICTURES)["items"][0]
    assert not again["is_anomaly"]


def test_more_anomalies_than_are_searched_are_told(small) -> None:
    document = scored(small, odd_rows(5), counterfactual="true", **ROWS)
    assert document["counterfactuals"] == {"searched": 2, "left_out": 3, "max_counterfactual_items": 2}
    found = [item["counterfactual"] is not None for item in document["items"]]
    by_oddness = sorted(range(5), key=lambda i: (document["items"][i]["p_value"], -document["items"][i]["score"]))
    assert [i for i in range(5) if found[i]] == sorted(by_oddness[:2])


def test_a_deadline_that_passes_within_a_search_is_a_504(server) -> None:
    answer = server.client.post(
        "/score", params={"counterfactual": "true", **ROWS}, content=orjson.dumps(odd_rows(8)),
        headers={"content-type": JSON, "x-request-deadline-ms": "60"},
    )  # fmt: skip
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "deadline_exceeded")


def test_who_leaves_is_not_searched_for_any_longer(server, image_scorer: Scorer) -> None:
    def batches() -> float:
        return float(server.metric("elbound_batch_items_count"))

    body, left = npy(odd_images(image_scorer, 8)), 'elbound_requests_refused_total{reason="client_disconnected"}'
    begun, before = batches(), server.metric(left)
    scored(server, body, counterfactual="true", **PICTURES)
    needed, begun = batches() - begun, batches()
    with pytest.raises(httpx.ReadTimeout):
        server.client.post(
            "/score", params={"counterfactual": "true", **PICTURES}, content=body, headers={"content-type": NPY},
            timeout=httpx.Timeout(10, read=0.05),
        )  # fmt: skip
    until = time.monotonic() + 10
    while server.metric(left) == before:
        assert time.monotonic() < until
    assert batches() - begun < needed


# What is refused
@pytest.mark.parametrize(
    ("query", "where"),
    [
        ({"explain": "maybe"}, "explain"), ({"explain": "1"}, "explain"), ({"explain": ""}, "explain"),
        ({"counterfactual": "yes"}, "counterfactual"), ({"top": "3"}, "top"), ({"heatmap": "npy"}, "heatmap"),
        ({"explain": "false", "top": "3"}, "top"), ({"explain": "true", "top": "0"}, "top"),
        ({"explain": "true", "top": "-1"}, "top"), ({"explain": "true", "top": "٣"}, "top"),
        ({"explain": "true", "top": "9" * 40}, "top"), ({"explain": "true", "heatmap": "jpg"}, "heatmap"),
        ({"explain": "true", "heatmap": "npy", **ROWS}, "heatmap"), ({"explain": "true", "top": "1"}, "top"),
    ],
)  # fmt: skip
def test_a_parameter_that_means_nothing_here_is_named(server, query: dict, where: str) -> None:
    assert refused(server.score(b"x", "image/png", **{**PICTURES, **query})) == (400, "config_invalid", where)


def test_counterfactual_and_fdr_exclude_each_other_and_streams_have_neither(server) -> None:
    rows = orjson.dumps(odd_rows(1))
    answer = server.score(rows, JSON, counterfactual="true", fdr=0.1, **ROWS)
    assert refused(answer) == (400, "counterfactual_with_fdr", "counterfactual")
    for name in ("explain", "counterfactual"):
        headers = {"content-type": JSON, "accept": "application/x-ndjson"}
        answer = server.client.post("/score", params={name: "true", **ROWS}, content=rows, headers=headers)
        assert refused(answer) == (400, f"{name}_not_streamed", name)


@pytest.mark.parametrize("name", ["explain", "counterfactual"])
def test_one_item_more_than_the_limit_is_refused_and_only_where_asked(small, image_scorer: Scorer, name: str) -> None:
    images = normal_images(image_scorer, 21)
    assert len(scored(small, npy(images[:20]), **{name: "true"}, **PICTURES)["items"]) == 20
    answer = small.score(npy(images), NPY, **{name: "true"}, **PICTURES)
    assert refused(answer) == (413, "limit_exceeded", "explain")
    assert answer.json()["error"]["message"].startswith("21 items; ")
    assert scored(small, npy(images), **PICTURES)["summary"]["scored"] == 21
