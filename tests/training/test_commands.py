"""The commands as a user runs them: real processes on real files."""

import io
import json
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from PIL import Image
from safetensors.torch import load_file

from elbound.bundle import load_bundle
from elbound.errors import ConfigError
from elbound.fit.checkpoint import load_checkpoint
from elbound.scorer import Scorer
from tests.forked import ENVIRON, run
from training.config import TrainConfig
from training.train.pipeline import train

pytestmark = pytest.mark.slow


def succeed(*arguments: object) -> str:
    ended = run(*arguments)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout + ended.stderr


def fail(*arguments: object) -> str:
    ended = run(*arguments)
    assert ended.returncode in (1, 2)
    assert "Traceback" not in ended.stderr
    return " ".join(ended.stderr.split())


@pytest.fixture
def csv_file(tmp_path: Path, normal_rows: pa.Table) -> Path:
    path = tmp_path / "normal.csv"
    pyarrow.csv.write_csv(normal_rows, path)
    return path


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    draw = np.random.default_rng(0)
    for i in range(40):
        (folder / f"tile{i % 8}").mkdir(parents=True, exist_ok=True)
        pixels = np.clip(draw.normal(120, 10, (16, 20)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"tile{i % 8}" / f"shot{i}.png")
    return folder


def test_train_inspect_score_and_evaluate_a_table(csv_file: Path, table_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    text = succeed("train", csv_file, "--out", out, "--steps", 60, "--alpha", 0.1, "--name", "rows-2")
    assert "reconstruction" in text
    assert "validation elbo" in text
    assert "s left" in text
    assert "200 rows, 5 columns" in text
    assert "next: elbound serve" in text
    manifest = load_bundle(out).manifest
    assert (manifest.name, manifest.verdict.alpha, manifest.training.steps) == ("rows-2", 0.1, 60)
    shown = succeed("inspect", out)
    assert "hashes and golden rows: as written" in shown
    assert "3 levels: " in shown
    for suffix in ("csv", "parquet", "ndjson"):
        result = tmp_path / f"results.{suffix}"
        assert "200 items" in succeed("score", out, csv_file, "--out", result)
    by_parquet = pyarrow.parquet.read_table(tmp_path / "results.parquet").to_pylist()
    by_ndjson = [json.loads(line) for line in (tmp_path / "results.ndjson").read_text().splitlines()]
    assert by_parquet == by_ndjson
    assert len(by_parquet) == 200
    assert all((row["p_value"] <= 0.1) == row["is_anomaly"] for row in by_parquet)
    evaluated = succeed("evaluate", out, "--normal", csv_file, "--anomalous", csv_file)
    assert "0.5000" in evaluated


def test_train_with_an_export(csv_file: Path, image_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="the extra `export` is not installed")
    arguments = ["--out", tmp_path / "b", "--steps", 5, "--no-report", "--profile", "fast", "--export", "onnx"]
    succeed("train", csv_file, *arguments)
    assert Scorer.from_bundle(tmp_path / "b", device="cpu").engine.name == "onnxruntime"
    pictures = TrainConfig.load(
        None, {"data": {"path": image_folder}, "bundle": {"out": tmp_path / "c", "export": "onnx"}}
    )
    with pytest.raises(ConfigError, match="an image detector cannot be exported"):
        train(pictures)
    assert not list(tmp_path.glob("c*"))


def test_train_and_score_images(image_folder: Path, tmp_path: Path) -> None:
    (image_folder / "tile0" / "broken.png").write_bytes(b"no image")
    text = succeed(
        "train", image_folder, "--out", tmp_path / "b", "--steps", 10, "--image-size", "12x15", "--no-report"
    )
    assert "skipped tile0/broken.png: not an image" in text
    assert "40 images, scored as 12 x 15 pixels, grey, 8 bits" in text
    succeed("score", tmp_path / "b", image_folder, "--out", tmp_path / "r.ndjson")
    rows = [json.loads(line) for line in (tmp_path / "r.ndjson").read_text().splitlines()]
    assert len(rows) == 41
    assert [row["name"] for row in rows if row["error"]] == ["tile0/broken.png"]


def test_whole_groups_by_column_and_by_pattern(csv_file: Path, image_folder: Path, tmp_path: Path) -> None:
    table = pyarrow.csv.read_csv(csv_file).append_column("machine", pa.array([f"m{i % 20}" for i in range(200)]))
    pyarrow.csv.write_csv(table, csv_file)
    succeed("train", csv_file, "--out", tmp_path / "a", "--steps", 5, "--split-by", "machine", "--no-report")
    manifest = load_bundle(tmp_path / "a").manifest
    assert manifest.training.grouped
    assert "machine" not in [column.name for column in manifest.item.columns]  # type: ignore[union-attr]
    succeed("train", image_folder, "--out", tmp_path / "b", "--steps", 5, "--split-by", r"tile(\d+)/", "--no-report")
    assert load_bundle(tmp_path / "b").manifest.training.grouped
    assert "does not match the file name" in fail(
        "train", image_folder, "--out", tmp_path / "c", "--split-by", "frame(.)"
    )


def test_settings_from_toml_and_flags(csv_file: Path, tmp_path: Path) -> None:
    config = tmp_path / "run.toml"
    config.write_text(f"""
        [data]
        path = "{csv_file}"
        exclude = ["site"]
        [fit]
        steps = 7
        seed = 3
        [calibration]
        alpha = 0.2
        [bundle]
        out = "{tmp_path / "b"}"
    """)
    succeed("train", "--config", config, "--steps", 9, "--no-report")
    manifest = load_bundle(tmp_path / "b").manifest
    assert (manifest.training.steps, manifest.training.seed, manifest.verdict.alpha) == (9, 3, 0.2)
    assert [column.name for column in manifest.item.columns] == ["a", "b", "c", "ok"]  # type: ignore[union-attr]


def test_a_schema_by_hand(csv_file: Path, tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text('{"columns": [{"name": "a", "kind": "numeric"}, {"name": "site", "kind": "categorical"}]}')
    succeed("train", csv_file, "--out", tmp_path / "b", "--steps", 5, "--schema", schema, "--id", "c", "--no-report")
    item = load_bundle(tmp_path / "b").manifest.item
    assert [(column.name, column.kind) for column in item.columns] == [("a", "numeric"), ("site", "categorical")]  # type: ignore[union-attr]
    assert item.id_column == "c"  # type: ignore[union-attr]
    succeed("score", tmp_path / "b", csv_file, "--out", tmp_path / "r.csv")


@pytest.mark.parametrize(("arguments", "message"), [
    (["--out", "b", "--alpha", "2"], "calibration.alpha: Input should be less than 1"),
    (["--out", "b", "--resize", "squeeze"], "data.resize: Input should be 'fit', 'crop' or 'stretch'"),
    (["--out", "b", "--image-size", "12"], "HEIGHTxWIDTH"),
    (["--out", "b", "--exclude", "nothing"], "no such columns: 'nothing'"),
    (["--out", "b", "--split-by", "nothing"], "there is no column 'nothing'"),
    (["--out", "b", "--schema", "none.json"], "none.json cannot be read as JSON"),
    (["--out", "b", "--device", "tpu"], "fit.device"),
    (["--out", "b", "--resume"], "there is no checkpoint"),
    ([], "bundle.out is not set"),
])  # fmt: skip
def test_settings_that_cannot_be_used(csv_file: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    arguments = [str(tmp_path / part) if part in ("b", "none.json") else part for part in arguments]
    assert message in fail("train", csv_file, *arguments)
    assert not (tmp_path / "b").exists()


def test_a_misspelt_setting_names_the_nearest(csv_file: Path, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('[fit]\nstps = 3\n[bundle]\nout = "x"\n')
    assert "unknown setting fit.stps; did you mean 'steps'?" in fail("train", csv_file, "--config", tmp_path / "c.toml")
    (tmp_path / "c.toml").write_text("steps = 3")
    assert "unknown setting steps" in fail("train", csv_file, "--config", tmp_path / "c.toml", "--out", tmp_path / "b")


def test_data_that_cannot_be_used(csv_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "b"
    (tmp_path / "empty").mkdir()
    assert "holds neither tables" in fail("train", tmp_path / "empty", "--out", out)
    assert "does not exist" in fail("train", tmp_path / "nothing", "--out", out)
    lines = csv_file.read_text().splitlines()
    (tmp_path / "ragged.csv").write_text("\n".join([*lines[:50], lines[50] + ",7", *lines[51:]]))
    assert "ragged.csv: line 51 has 6 cells, the header has 5" in fail("train", tmp_path / "ragged.csv", "--out", out)
    (tmp_path / "few.csv").write_text("\n".join(lines[:20]))
    assert "19 items; at least 20" in fail("train", tmp_path / "few.csv", "--out", out)
    (tmp_path / "inf.csv").write_text("\n".join([*lines[:30], "inf,1,1,true,north", *lines[30:]]))
    assert "item 29: column 'a' must be finite" in fail("train", tmp_path / "inf.csv", "--out", out)
    assert not out.exists()


def test_an_existing_bundle_is_refused_before_any_work(csv_file: Path, table_bundle: Path) -> None:
    before = (table_bundle / "manifest.json").read_bytes()
    assert "exists already" in fail("train", csv_file, "--out", table_bundle)
    assert (table_bundle / "manifest.json").read_bytes() == before


def test_scoring_refuses_what_it_cannot_write_or_read(table_bundle: Path, csv_file: Path, tmp_path: Path) -> None:
    assert "--out must end in one of .csv, .parquet, .ndjson" in fail("score", table_bundle, csv_file, "--out", "x.xls")
    assert "there is no folder" in fail("score", table_bundle, csv_file, "--out", tmp_path / "no" / "x.csv")
    (tmp_path / "other.csv").write_text("x,y\n1,2\n")
    assert "missing: 'a'" in fail("score", table_bundle, tmp_path / "other.csv", "--out", tmp_path / "x.csv")
    assert not (tmp_path / "x.csv").exists()


def test_a_file_that_cannot_be_read_costs_only_itself(table_bundle: Path, csv_file: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"no parquet")
    succeed("score", table_bundle, csv_file, tmp_path / "broken.parquet", "--out", tmp_path / "r.ndjson")
    rows = [json.loads(line) for line in (tmp_path / "r.ndjson").read_text().splitlines()]
    assert len(rows) == 201
    assert [row["file"] for row in rows if row["error"]] == [str(tmp_path / "broken.parquet")]
    (tmp_path / "many").mkdir()
    (tmp_path / "many" / "a.parquet").write_bytes(b"no parquet")
    (tmp_path / "many" / "b.csv").write_bytes(csv_file.read_bytes())
    succeed("score", table_bundle, tmp_path / "many", "--out", tmp_path / "r.ndjson")
    assert len((tmp_path / "r.ndjson").read_text().splitlines()) == 201
    before = csv_file.read_bytes()
    assert "--out is one of the files to score" in fail("score", table_bundle, csv_file, "--out", csv_file)
    assert csv_file.read_bytes() == before


def test_targets_that_cannot_be_are_refused_before_any_work(csv_file: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "a.txt").touch()
    assert "is not a bundle; it is left alone" in fail("train", csv_file, "--out", tmp_path / "thesis", "--force")
    assert "cannot be made: File exists" in fail("train", csv_file, "--out", csv_file / "x")


BUDGET = ("--steps", 800, "--seed", 5, "--checkpoint-steps", 50, "--no-report")


def start_training(csv_file: Path, out: Path, *more: object) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "elbound", "train", csv_file, "--out", out, *BUDGET, *more]
    return subprocess.Popen(list(map(str, command)), env=ENVIRON, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def wait_for_step(checkpoint: Path, step: int, process: "subprocess.Popen[bytes]") -> None:
    """Until the checkpoint is that of a later step, and then a moment more."""
    until = time.monotonic() + 60
    while time.monotonic() < until and not (checkpoint.exists() and load_checkpoint(checkpoint).step > step):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    time.sleep(0.2)


def test_a_run_interrupted_and_killed_resumes_to_the_same_weights(csv_file: Path, tmp_path: Path) -> None:
    out, checkpoint, step = tmp_path / "b", tmp_path / "b.checkpoint", 0
    for number, more in ((signal.SIGINT, ()), (signal.SIGKILL, ("--resume",))):
        process = start_training(csv_file, out, *more)
        wait_for_step(checkpoint, step, process)
        process.send_signal(number)
        text = process.communicate(timeout=60)[0].decode()
        if number is signal.SIGINT:
            assert process.returncode == 130
            assert "continue with the same command and --resume" in text
        step, before = load_checkpoint(checkpoint).step, step
        assert before < step < 800
        assert not out.exists()
    succeed("train", csv_file, "--out", out, *BUDGET, "--resume")
    assert not checkpoint.exists()
    succeed("train", csv_file, "--out", tmp_path / "whole", *BUDGET)
    first, second = (load_file(path / "weights.safetensors") for path in (out, tmp_path / "whole"))
    assert all((first[name] == second[name]).all() for name in second)


def test_help_lists_every_command() -> None:
    text = succeed("--help")
    for command in ("train", "evaluate", "score", "inspect", "serve", "demo"):
        assert f" {command} " in text
    assert succeed("--version").strip() == "0.1.0"


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def png(pixels: np.ndarray) -> bytes:
    packed = io.BytesIO()
    Image.fromarray(pixels).save(packed, "PNG")
    return packed.getvalue()


def test_heat_maps_of_anomalies_alone_stay_in_their_folder(image_bundle: Path, tmp_path: Path) -> None:
    odd = png(np.random.default_rng(0).integers(0, 256, (12, 12), dtype=np.uint8))
    names = ["../../escaped.png", "/absolute.png", "a/b.png", "a_b.png", "..\\back.png", "\u00e4" * 120 + ".png"]
    first = write_zip(tmp_path / "first.zip", {**dict.fromkeys(names, odd), "broken.png": odd[:40]})
    second = write_zip(tmp_path / "second.zip", {"a/b.png": odd})
    folder = tmp_path / "deep" / "er" / "maps"
    out = tmp_path / "r.ndjson"
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    text = succeed("score", image_bundle, first, second, "--out", out, "--heatmaps", folder)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    anomalies = [place for place, row in enumerate(rows) if row["is_anomaly"]]
    assert len(anomalies) == 7
    assert f"and 7 heat maps to {folder}" in text
    written = sorted(folder.iterdir())
    assert [int(path.name[:6]) for path in written] == anomalies
    assert {path for path in tmp_path.rglob("*") if path.is_file()} - before == {out, *written}
    assert {f"{place:06d}_a_b.png" for place in anomalies if rows[place]["name"] in ("a/b.png", "a_b.png")} <= {
        path.name for path in written
    }
    for path in written:
        with Image.open(path) as image:
            assert (image.format, image.size) == ("PNG", (216, 216))


def test_normal_images_get_no_heat_map(image_bundle: Path, image_scorer: Scorer, tmp_path: Path) -> None:
    assert image_scorer.image is not None
    calm = image_scorer.image.from_tensor(image_scorer.golden)
    normal = {f"{i}.png": png(calm[i]) for i in (1, 2, 3)}
    files = write_zip(tmp_path / "a.zip", {"odd.png": png(255 - calm[0]), **normal})
    maps = tmp_path / "maps"
    succeed("score", image_bundle, files, "--out", tmp_path / "r.parquet", "--heatmaps", maps)
    rows = pyarrow.parquet.read_table(tmp_path / "r.parquet").to_pylist()
    anomalies = {f"{place:06d}_{Path(row['name']).stem}.png" for place, row in enumerate(rows) if row["is_anomaly"]}
    assert {path.name for path in maps.iterdir()} == anomalies
    assert "000003_odd.png" in anomalies
    assert len(anomalies) < 4


def test_heat_maps_that_cannot_be_are_refused_before_any_work(
    table_bundle: Path, image_bundle: Path, csv_file: Path, image_folder: Path, tmp_path: Path
) -> None:
    out, maps = tmp_path / "r.csv", tmp_path / "maps"
    assert "rows scores rows of a table, which have no heat maps" in fail(
        "score", table_bundle, csv_file, "--out", out, "--heatmaps", maps
    )
    assert not maps.exists()
    assert "the next run would score the maps" in fail(
        "score", image_bundle, image_folder, "--out", out, "--heatmaps", image_folder / "maps"
    )
    assert "cannot be made: File exists" in fail(
        "score", image_bundle, image_folder, "--out", out, "--heatmaps", csv_file
    )
    assert not out.exists()
