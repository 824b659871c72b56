"""The same model on a GPU; skipped where there is none."""

import numpy as np
import pytest
import torch

from elbound.data.infer import infer_schema
from elbound.fit.detector import DetectorConfig, fit_detector
from elbound.scorer import Scorer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")


def test_scores_agree_with_the_cpu(table_bundle, image_bundle) -> None:  # type: ignore[no-untyped-def]
    for path in (table_bundle, image_bundle):
        on_cpu, on_gpu = (Scorer.from_bundle(path, device=device) for device in ("cpu", "cuda"))
        x = on_cpu.golden.repeat(50, *(1,) * (on_cpu.golden.ndim - 1))
        np.testing.assert_allclose(on_gpu.raw_scores(x), on_cpu.raw_scores(x), rtol=1e-3, atol=1e-3)


def test_a_fit_on_the_gpu_saves_a_bundle_that_a_cpu_loads(tmp_path, normal_rows) -> None:  # type: ignore[no-untyped-def]
    config = DetectorConfig(device="cuda", steps=50, alpha=0.1)
    scorer = fit_detector(normal_rows, infer_schema(normal_rows).schema, config)
    assert scorer.device.type == "cuda"
    scorer.save(tmp_path / "bundle")
    loaded = Scorer.from_bundle(tmp_path / "bundle", device="cpu")
    np.testing.assert_allclose(loaded.raw_scores(loaded.golden), scorer.raw_scores(scorer.golden), rtol=1e-3, atol=1e-3)
