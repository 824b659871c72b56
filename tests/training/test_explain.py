"""`elbound explain`: rows as tables, images as pictures, both as JSON; clear errors before any work."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from PIL import Image
from typer.testing import CliRunner

from elbound.cli import build_app
from elbound.errors import ConfigError, ElboundError
from elbound.scorer import Scorer
from tests.conftest import mixed_table
from training.explain.rows import bar


def explain(*arguments: object) -> str:
    result = CliRunner().invoke(build_app(), ["explain", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def rows_file(tmp_path: Path) -> Path:
    """Row 3 has an odd number, row 7 a level that hides an escape; the others are normal."""
    rows = mixed_table(20, seed=9).to_pydict()
    rows["a"][3] = 500.0
    rows["site"][7] = "[bold]\x1b[31mwest"
    pyarrow.csv.write_csv(pa.table(rows), tmp_path / "rows.csv")
    return tmp_path / "rows.csv"


def test_the_anomalies_of_a_table_are_printed_with_their_largest_shares_first(
    table_bundle: Path, rows_file: Path
) -> None:
    text = explain(table_bundle, rows_file, "--top", 2)
    assert "3 · anomaly · p_value" in text
    part = text[text.index("3 · anomaly") :].splitlines()
    assert part[2].split()[0] == "a"
    assert "█" in part[2]
    assert part[2].split()[3] == "500"
    assert part[4].split()[0] == "rest"
    assert "what would be normal, p_value" in text
    changed = text[text.index("what would be normal") :].splitlines()[2]
    assert changed.split()[:2] == ["a", "500"]
    assert float(changed.split()[2]) < 10
    assert "anomalies among 20 items" in text
    assert "\x1b[31m" not in explain(table_bundle, rows_file, "--index", 7)


def test_json_documents_are_those_of_the_library(table_bundle: Path, table_scorer: Scorer, rows_file: Path) -> None:
    lines = explain(table_bundle, rows_file, "--all", "--json", "--most", 5).splitlines()
    documents = [json.loads(line) for line in lines]
    assert len(documents) == 5
    assert [one["place"] for one in documents] == sorted(one["place"] for one in documents)
    odd = next(one for one in documents if one["place"] == 3)
    assert odd["is_anomaly"]
    assert odd["counterfactual"]["found"]
    assert odd["counterfactual"]["changes"][0]["name"] == "a"
    assert all(one["counterfactual"] is None for one in documents if not one["is_anomaly"])
    explanation = odd["explanation"]
    assert explanation["features"][0]["name"] == "a"
    total = sum(feature["share"] for feature in explanation["features"]) + explanation["rest"] + explanation["latent"]
    x = table_scorer.to_tensor(pyarrow.csv.read_csv(rows_file)).only()
    place = table_scorer.detector.score_names.index("negative_elbo")
    assert total == pytest.approx(table_scorer.raw_scores(x)[3, place], rel=1e-5)


def test_an_image_is_drawn_beside_its_heat_map_and_what_the_model_made_of_it(
    image_bundle: Path, image_scorer: Scorer, tmp_path: Path
) -> None:
    assert image_scorer.image is not None
    pixels = image_scorer.image.from_tensor(image_scorer.golden)[:3].copy()
    pixels[1, 8:11, 1:4] = 255
    (tmp_path / "in").mkdir()
    for i, one in enumerate(pixels):
        Image.fromarray(one).save(tmp_path / "in" / f"shot{i}.png")
    text = explain(image_bundle, tmp_path / "in", "--index", 1, "--out", tmp_path / "out")
    (drawn,) = (tmp_path / "out").iterdir()
    assert drawn.name == "000001_shot1.png"
    assert str(drawn) in text
    picture = np.asarray(Image.open(io.BytesIO(drawn.read_bytes())))
    assert picture.shape[0] == 216 + 16
    assert picture.shape[1] >= 4 * 216, "the image, its heat map, the model's image and the nearest normal"
    (document,) = explain(image_bundle, tmp_path / "in", "--index", 1, "--json").splitlines()
    assert json.loads(document)["explanation"]["regions"]


def test_what_cannot_be_meant_is_refused(table_bundle: Path, rows_file: Path, tmp_path: Path) -> None:
    for arguments, message in (
        (("--index", 99), "holds 20 items, counted from 0"),
        (("--index", -1), "counts from 0"),
        (("--index", 1, "--all"), "exclude each other"),
        (("--most", 0), "--most must be at least 1"),
        (("--top", 0), "--top must be at least 1"),
    ):
        with pytest.raises(ConfigError, match=message):
            explain(table_bundle, rows_file, *arguments)
    with pytest.raises(ElboundError, match=r"nowhere\.csv"):
        explain(table_bundle, tmp_path / "nowhere.csv")
    (tmp_path / "bad.csv").write_text("a,b,c,ok,site\nx,1,1,true,east\n1,1,1,true,east\n")
    with pytest.raises(ConfigError, match="--index 0: the item cannot be read"):
        explain(table_bundle, tmp_path / "bad.csv", "--index", 0)


def test_bars_are_drawn_in_eighths() -> None:
    assert bar(1.0, 1.0) == "█" * 24
    assert bar(0.5 / 24, 1.0) == "▌"
    assert bar(-1.0, 1.0) == bar(0.0, 0.0) == ""
