"""What is served and what is sent: three bundles, and bodies of rows that none was trained on."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa

from benchmarks.training import correlated
from elbound.data.infer import infer_schema
from elbound.fit.detector import DetectorConfig, fit_detector
from elbound.scorer import Scorer

COLUMNS, TRAIN_ROWS, SENT_ROWS = 32, 5_000, 64
MANY_ROWS = 4_096
STEPS = 200
"""Of the fit: how well a model has learned changes nothing of what it costs to serve."""
NAMES = [f"c{i}" for i in range(COLUMNS)]


@dataclass(frozen=True)
class Material:
    """The bundles `bench` (profile fast), `exported` (the same with its ONNX graph) and `default` in `folder`, and rows
    `(n, 32)` to be scored."""

    folder: Path
    rows: np.ndarray

    @property
    def bench(self) -> Path:
        return self.folder / "bench"

    @property
    def exported(self) -> Path:
        return self.folder / "exported"

    @property
    def default(self) -> Path:
        return self.folder / "default"

    @cached_property
    def objects(self) -> list[bytes]:
        """One-row bodies, the row an object by column name."""
        return [orjson.dumps({"rows": [dict(zip(NAMES, row, strict=True))]}) for row in self.rows[:SENT_ROWS].tolist()]

    def upload(self, n: int) -> np.ndarray:
        """`n` rows, repeated where there are fewer."""
        return np.resize(self.rows, (n, COLUMNS))


def fit_bundles(folder: Path) -> Material:
    X = correlated(TRAIN_ROWS + MANY_ROWS, COLUMNS)
    table = pa.table(dict(zip(NAMES, X[:TRAIN_ROWS].T, strict=True)))
    for name, profile in (("bench", "fast"), ("default", "default")):
        config = DetectorConfig(name=name, device="cpu", profile=profile, steps=STEPS)
        fit_detector(table, infer_schema(table).schema, config).save(folder / name)
    Scorer.from_bundle(folder / "bench", device="cpu").with_export().save(folder / "exported")
    return Material(folder, X[TRAIN_ROWS:])
