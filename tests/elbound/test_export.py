"""An export computes what torch computes, and is used by rule; whatever is wrong with it, torch serves on."""

import hashlib
import json
import logging
import pickle
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from elbound.bundle import load_bundle
from elbound.bundle.manifest import document_digest
from elbound.engines.agreement import AGREEMENT, hard_rows
from elbound.engines.engine import disagreement, load_graph
from elbound.engines.onnx_export import check_export, export_detector
from elbound.errors import BundleCorrupt, ConfigError, MissingExtra
from elbound.fit.recalibration import recalibrated
from elbound.schema import ImageSchema, TableSchema
from elbound.scorer import Scorer
from tests.conftest import mixed_table, odd_detector

pytestmark = pytest.mark.slow

onnx = pytest.importorskip("onnx", reason="the extra `export` is not installed")
_KEPT: dict[str, Scorer] = {}


@pytest.fixture(scope="module")
def exported(exported_bundle: Path) -> Scorer:
    return Scorer.from_bundle(exported_bundle, device="cpu")


@pytest.fixture(autouse=True)
def _keep(exported: Scorer, table_scorer: Scorer) -> None:
    """Hypothesis calls a test many times; fixtures reach it here."""
    _KEPT.update(onnxruntime=exported, torch=table_scorer)


def assert_same(found: np.ndarray, expected: np.ndarray) -> None:
    assert (np.abs(found - expected) <= AGREEMENT * np.maximum(np.abs(expected), 1)).all()


def test_the_rule_chooses_onnxruntime_and_says_why(exported: Scorer, table_scorer: Scorer) -> None:
    assert exported.engine[:2] == ("onnxruntime", "the bundle's export agrees with torch on the golden rows")
    assert table_scorer.engine[:2] == ("torch", "the bundle has no export")


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.floats(0.1, 1e4))
def test_a_row_scores_as_by_torch_alone_and_in_any_batch(seed: int, size: int, scale: float) -> None:
    draw = np.random.default_rng(seed)
    x = torch.from_numpy(draw.normal(size=(60, 5)) * scale)
    x[:, 3] = torch.from_numpy(draw.integers(0, 2, 60))
    x[:, 4] = torch.from_numpy(draw.integers(0, 4, 60))
    x[torch.from_numpy(draw.random((60, 5)) < 0.1)] = torch.nan
    whole = _KEPT["onnxruntime"].raw_scores(x)
    assert_same(whole, _KEPT["torch"].raw_scores(x))
    assert_same(np.concatenate([_KEPT["onnxruntime"].raw_scores(part) for part in x.split(size)]), whole)


def test_a_large_batch_is_spread_over_cores(exported: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    x = hard_rows(exported.golden, _table(exported)).repeat(40, 1)
    assert len(x) > 2 * exported.detector.cpu_chunk
    alone = exported.raw_scores(x)
    monkeypatch.setattr(exported.detector, "workers", 2)
    assert (exported.raw_scores(x) == alone).all()
    assert exported.raw_scores(x[:0]).shape == (0, len(exported.detector.score_names))


def test_other_parts_than_the_defaults_have_a_graph_too() -> None:
    detector, schema, events = odd_detector()
    score = load_graph(export_detector(detector, events[:4]))
    assert disagreement(detector, score, hard_rows(events[:4], schema)) <= AGREEMENT


def test_the_bundle_vouches_for_its_export(exported_bundle: Path, exported: Scorer, tmp_path: Path) -> None:
    assert load_bundle(exported_bundle).export == exported.export
    assert b"elbound/" not in (exported.export or b"")  # no paths of the machine that trained
    copy = Path(shutil.copytree(exported_bundle, tmp_path / "copy"))
    data = bytearray((copy / "detector.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (copy / "detector.onnx").write_bytes(data)
    with pytest.raises(BundleCorrupt, match=r"detector\.onnx was altered"):
        load_bundle(copy)


def test_an_export_that_disagrees_is_an_error_and_torch_serves(
    exported_bundle: Path, tmp_path: Path, table_scorer: Scorer, caplog: pytest.LogCaptureFixture
) -> None:
    model = onnx.load_model_from_string((exported_bundle / "detector.onnx").read_bytes())
    changed = next(one for one in model.graph.initializer if one.name.endswith("decoder.last.bias"))
    bias = onnx.numpy_helper.to_array(changed) + np.float32(0.01)
    changed.CopyFrom(onnx.numpy_helper.from_array(bias, changed.name))
    for content, reason in (
        (model.SerializeToString(), "the export scores the golden rows"),
        (b"not a graph", "the export cannot be read"),
    ):
        caplog.clear()
        with caplog.at_level(logging.ERROR, "elbound"):
            scorer = Scorer.from_bundle(with_file(exported_bundle, tmp_path / reason, content), device="cpu")
        assert scorer.engine.name == "torch"
        assert scorer.engine.reason.startswith(reason)
        assert "torch scores instead" in caplog.text
        assert (scorer.raw_scores(scorer.golden) == table_scorer.raw_scores(table_scorer.golden)).all()


def test_without_onnxruntime_torch_serves(exported_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    scorer = Scorer.from_bundle(exported_bundle, device="cpu")
    assert scorer.engine[:2] == ("torch", "onnxruntime is not installed")
    assert np.isfinite(scorer.raw_scores(scorer.golden)).all()


def test_a_copy_in_another_process_has_an_engine_of_its_own(exported: Scorer) -> None:
    copied = pickle.loads(pickle.dumps(exported))
    assert copied.engine.name == "onnxruntime"
    assert (copied.raw_scores(exported.golden) == exported.raw_scores(exported.golden)).all()


def test_fresh_calibration_keeps_the_export(exported: Scorer, tmp_path: Path) -> None:
    scores = exported.raw_scores(exported.to_tensor(mixed_table(100, seed=3)).only())
    recalibrated(exported, scores)[0].save(tmp_path / "renewed")
    assert Scorer.from_bundle(tmp_path / "renewed", device="cpu").engine.name == "onnxruntime"


def test_what_cannot_be_exported_is_refused(table_scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="an image detector cannot be exported: its code lengths"):
        check_export(ImageSchema(height=12, width=12, channels=1))
    monkeypatch.setattr("elbound.engines.onnx_export.PACKAGES", ("onnx", "no_such_package"))
    with pytest.raises(MissingExtra, match=r"needs no_such_package: pip install 'elbound\[export\]'"):
        check_export(table_scorer.schema)


def with_file(bundle: Path, target: Path, export: bytes) -> Path:
    """A copy of `bundle` with another export, for which its manifest vouches."""
    shutil.copytree(bundle, target)
    (target / "detector.onnx").write_bytes(export)
    manifest = json.loads((target / "manifest.json").read_text())
    manifest["files"]["detector.onnx"] = {"sha256": hashlib.sha256(export).hexdigest(), "size": len(export)}
    manifest["digest"] = document_digest(manifest)
    (target / "manifest.json").write_text(json.dumps(manifest))
    return target


def _table(scorer: Scorer) -> TableSchema:
    assert isinstance(scorer.schema, TableSchema)
    return scorer.schema
