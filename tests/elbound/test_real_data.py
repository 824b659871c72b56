"""Real tables, half of the normals for training: anomalies are found and the false-alarm rate holds."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from elbound.data.infer import infer_schema
from elbound.evaluation import auroc, realised_rate
from elbound.fit.detector import DetectorConfig, fit_detector

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("name", "at_least"), [("thyroid", 0.94), ("vowels", 0.93)])
def test_a_table_of_adbench(data_sets: Path, name: str, at_least: float) -> None:
    """Bounds stand three points below what one seed measured: far above chance, far from noise."""
    with np.load(data_sets / "tables" / f"{name}.npz") as data:
        X, y = data["X"].astype(np.float64), data["y"]
    normals = np.random.default_rng(0).permutation(np.flatnonzero(y == 0))
    train, held_out = np.split(normals, [len(normals) // 2])
    table = pa.table({f"c{i}": column for i, column in enumerate(X[train].T)})
    scorer = fit_detector(table, infer_schema(table).schema, DetectorConfig(device="cpu"))
    normal, odd = (scorer.score_tensor(scorer.to_tensor(X[rows]).only()).score for rows in (held_out, y == 1))
    assert auroc(normal, odd) > at_least
    rate = realised_rate(scorer.calibration.verdict, normal, 0.05, confidence=0.999)
    assert rate.as_promised, rate
