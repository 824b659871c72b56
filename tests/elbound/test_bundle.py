"""A bundle round-trips bit for bit, distrusts every byte, and is never half written."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from elbound.bundle import load_bundle, save_bundle
from elbound.bundle.manifest import document_digest
from elbound.errors import BundleCorrupt, BundleError, BundleExists, GoldenMismatch
from elbound.scorer import Scorer


@pytest.fixture
def bundle(table_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(table_bundle, tmp_path / "copy"))


@pytest.mark.parametrize("kind", ["table", "image"])
def test_scores_are_the_same_bit_for_bit_after_save_and_load(kind: str, request: pytest.FixtureRequest) -> None:
    scorer: Scorer = request.getfixturevalue(f"{kind}_scorer")
    loaded = Scorer.from_bundle(request.getfixturevalue(f"{kind}_bundle"), device="cpu")
    x = scorer.golden.repeat(40, *(1,) * (scorer.golden.ndim - 1))
    before, after = scorer.score_tensor(x), loaded.score_tensor(x)
    for name in before.scores:
        assert (before.scores[name] == after.scores[name]).all()
        assert (before.p_values[name] == after.p_values[name]).all()
    assert (before.p_value == after.p_value).all()
    assert loaded.manifest.item == scorer.manifest.item


def test_a_bundle_holds_no_code(table_bundle: Path) -> None:
    names = {str(file.relative_to(table_bundle)) for file in table_bundle.rglob("*") if file.is_file()}
    assert names == {"manifest.json", "weights.safetensors", "calibration.safetensors", "golden.safetensors"}


@pytest.mark.parametrize("name", ["weights.safetensors", "calibration.safetensors", "golden.safetensors"])
@pytest.mark.parametrize("harm", ["flip", "cut", "remove", "grow"])
def test_a_harmed_file_is_refused_by_name(bundle: Path, name: str, harm: str) -> None:
    file = bundle / name
    data = bytearray(file.read_bytes())
    if harm == "flip":
        data[len(data) // 2] ^= 1
    elif harm == "cut":
        data = data[:-1]
    elif harm == "grow":
        data += b"x"
    file.write_bytes(data)
    if harm == "remove":
        file.unlink()
    with pytest.raises(BundleCorrupt, match=name) as caught:
        load_bundle(bundle)
    assert caught.value.where == name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(format_version=99), "format version 99"),
        (lambda m: m["files"].update({"../evil": {"sha256": "0" * 64, "size": 1}}), "not a plain path"),
        (lambda m: m["files"].pop("golden.safetensors"), "was altered"),
        (lambda m: m.update(surprise=1), "surprise"),
        (lambda m: m.update(name="../x"), "name"),
        (lambda m: m["item"].update(columns=[]), "columns"),
        (lambda m: m["verdict"].update(alpha=0.9), "was altered"),
        (lambda m: m["item"]["columns"][0].update(name="z"), "was altered"),
    ],
)
def test_a_changed_manifest_is_refused(bundle: Path, change: object, message: str) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    change(manifest)  # type: ignore[operator]
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=message):
        load_bundle(bundle)


def test_a_pattern_that_may_never_end_is_refused_with_the_reason(image_scorer: Scorer, tmp_path: Path) -> None:
    image_scorer.save(tmp_path / "bundle")
    manifest = json.loads((tmp_path / "bundle" / "manifest.json").read_text())
    manifest["item"]["group_by"] = r"(?<=cam)(\w)"
    manifest["digest"] = document_digest(manifest)
    (tmp_path / "bundle" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"cannot be matched in linear time .* without look-around"):
        load_bundle(tmp_path / "bundle")


@pytest.mark.parametrize("text", ["", "{", "[]", "nul", "\x00"])
def test_a_torn_manifest_is_refused(bundle: Path, text: str) -> None:
    (bundle / "manifest.json").write_text(text)
    with pytest.raises(BundleError, match=r"manifest\.json"):
        load_bundle(bundle)


def test_a_folder_that_is_no_bundle_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is not a bundle"):
        load_bundle(tmp_path)


def rewrite(bundle: Path, name: str, tensors: dict[str, torch.Tensor]) -> None:
    """Replace a tensor file and make the manifest vouch for it, as an attacker or a careless tool would."""
    save_file(tensors, bundle / name)
    data = (bundle / name).read_bytes()
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    manifest["digest"] = document_digest(manifest)
    (bundle / "manifest.json").write_text(json.dumps(manifest))


def test_golden_rows_catch_weights_that_compute_something_else(bundle: Path) -> None:
    weights = load_file(bundle / "weights.safetensors")
    first = next(name for name in weights if name.endswith("decoder.last.bias"))
    weights[first] = weights[first] + 0.5
    rewrite(bundle, "weights.safetensors", weights)
    with pytest.raises(GoldenMismatch, match="scores its golden rows"):
        Scorer.from_bundle(bundle, device="cpu")


def test_weights_of_another_model_are_refused(bundle: Path) -> None:
    weights = load_file(bundle / "weights.safetensors")
    weights.popitem()
    rewrite(bundle, "weights.safetensors", weights)
    with pytest.raises(BundleCorrupt, match=r"weights\.safetensors lacks"):
        Scorer.from_bundle(bundle, device="cpu")


def test_an_existing_bundle_is_kept_unless_forced(bundle: Path, table_scorer: Scorer) -> None:
    before = (bundle / "manifest.json").read_bytes()
    with pytest.raises(BundleExists, match="--force"):
        table_scorer.save(bundle)
    assert (bundle / "manifest.json").read_bytes() == before
    table_scorer.save(bundle, force=True)
    assert [path.name for path in bundle.parent.iterdir()] == ["copy"]


def test_force_never_removes_a_folder_that_is_no_bundle(tmp_path: Path, table_scorer: Scorer) -> None:
    (tmp_path / "thesis.txt").write_text("three years of work")
    with pytest.raises(BundleExists, match="not a bundle"):
        table_scorer.save(tmp_path, force=True)
    assert (tmp_path / "thesis.txt").read_text() == "three years of work"


def test_a_full_disk_leaves_the_old_bundle(bundle: Path, table_scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {file.name: file.read_bytes() for file in bundle.iterdir()}
    written = 0

    def full(handle: int) -> None:
        nonlocal written
        written += 1
        if written == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BundleError, match="No space left on device; what was there is unharmed"):
        table_scorer.save(bundle, force=True)
    assert {file.name: file.read_bytes() for file in bundle.iterdir()} == before
    assert [path.name for path in bundle.parent.iterdir()] == ["copy"]


KEEP_SAVING = """
import sys
from pathlib import Path
from elbound.bundle import load_bundle, save_bundle
content = load_bundle(Path(sys.argv[1]))
print("ready", flush=True)
while True:
    save_bundle(content, Path(sys.argv[2]), force=True)
"""


@pytest.mark.slow
def test_a_kill_while_saving_leaves_a_whole_bundle_or_none(bundle: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    wholes = 0
    for attempt in range(8):
        process = subprocess.Popen([sys.executable, "-c", KEEP_SAVING, bundle, target], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.02 + 0.013 * attempt)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        if target.exists():
            load_bundle(target)
            wholes += 1
    assert wholes > 0


def test_the_report_is_kept_and_checked(tmp_path: Path, table_scorer: Scorer) -> None:
    table_scorer.save(tmp_path / "b", report={"index.html": b"<p>fine</p>", "plots/loss.png": b"png"})
    assert load_bundle(tmp_path / "b").report == {"index.html": b"<p>fine</p>", "plots/loss.png": b"png"}
    (tmp_path / "b" / "report" / "index.html").write_bytes(b"<p>fake</p>")
    with pytest.raises(BundleCorrupt, match=r"index\.html"):
        load_bundle(tmp_path / "b")


def test_a_report_never_leaves_the_bundle(tmp_path: Path, table_scorer: Scorer) -> None:
    with pytest.raises(ValueError, match="not a plain path inside the bundle"):
        table_scorer.save(tmp_path / "b", report={"../../evil": b"x"})
    assert list(tmp_path.iterdir()) == []


def test_saving_what_was_loaded_writes_the_same_tensors(bundle: Path, tmp_path: Path) -> None:
    save_bundle(load_bundle(bundle), tmp_path / "again")
    for name in ("weights.safetensors", "calibration.safetensors", "golden.safetensors"):
        first, second = load_file(bundle / name), load_file(tmp_path / "again" / name)
        assert first.keys() == second.keys()
        assert all(np.array_equal(first[key], second[key], equal_nan=True) for key in first)
