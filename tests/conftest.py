"""What several tests need: small real bundles, trained once a session, and the data sets where they are."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from elbound.data.infer import infer_schema
from elbound.data.table import TablePreprocessor
from elbound.detector import Detector, DetectorSpec
from elbound.fit.detector import DetectorConfig, fit_detector
from elbound.model.models import ModelSpec
from elbound.schema import ImageSchema, TableSchema
from elbound.scorer import Scorer

torch.set_num_threads(1)


def mixed_table(n: int, *, seed: int = 0) -> pa.Table:
    """Rows with a common cause: two dependent numbers, a boolean, a category; gaps in `b` and `site`."""
    draw = np.random.default_rng(seed)
    z = draw.normal(size=n)
    a = z + 0.1 * draw.normal(size=n)
    b = np.where(draw.random(n) < 0.1, np.nan, 2 * z + 0.2 * draw.normal(size=n))
    site = np.where(z > 0.5, "north", np.where(z < -0.5, "south", "east")).astype(object)
    site[draw.random(n) < 0.05] = None
    return pa.table(
        {
            "a": a,
            "b": pa.array(b, from_pandas=True),
            "c": draw.gamma(2.0, size=n),
            "ok": z > 0,
            "site": pa.array(site, pa.string()),
        }
    )


def squares(n: int, *, size: int = 12, seed: int = 0) -> np.ndarray:
    """Grey images `(n, size, size)` uint8 of one bright square on noise."""
    draw = np.random.default_rng(seed)
    images = draw.integers(0, 40, size=(n, size, size))
    for image, (top, left) in zip(images, draw.integers(1, size - 5, size=(n, 2)), strict=True):
        image[top : top + 4, left : left + 4] += 200
    return images.astype(np.uint8)


def fit_table(table: pa.Table, *, name: str = "rows", **settings: object) -> Scorer:
    config = DetectorConfig(name=name, alpha=0.05, device="cpu", **{"steps": 300, **settings})  # type: ignore[arg-type]
    return fit_detector(table, infer_schema(table).schema, config)


def fit_pictures() -> Scorer:
    images = squares(400)
    schema = ImageSchema(height=12, width=12, channels=1)
    config = DetectorConfig(name="pictures", alpha=0.05, device="cpu", steps=120)
    return fit_detector(torch.from_numpy(images[:, None]), schema, config)


def odd_detector() -> tuple[Detector, TableSchema, torch.Tensor]:
    """An untrained detector of a number and another with gaps, of parts that are no default, and its 60 events."""
    table = mixed_table(60, seed=2).select(["a", "c"])
    schema = TablePreprocessor.fit(infer_schema(table).schema, table).schema
    events = TablePreprocessor(schema).to_tensor(table).only()
    shared = {"latent": 2, "width": 16, "samples": 2, "components": 5, "bank": 20, "view": "standard"}
    parts: tuple[dict[str, object], ...] = (
        {"prior": "mixture", "likelihood": "laplace", "nets": 2, "scores": ("negative_elbo",)},
        {"prior": "vampprior", "likelihood": "student_t", "categories": 2, "scores": ("kl", "latent_mahalanobis")},
        {"name": "pca", "scores": ("negative_iwae",)},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        detector = Detector(DetectorSpec(models=tuple(ModelSpec(**{**shared, **part}) for part in parts)), schema)  # type: ignore[arg-type]
    detector.draw_noise(seed=0)
    for member in detector.each():
        member.view.fit(events)
        if member.model.closed_form:
            member.model.fit_closed_form(member.look(events))
    detector.eval().requires_grad_(False)
    detector.remember(events, seed=0)
    return detector, schema, events


@pytest.fixture(scope="session")
def normal_rows() -> pa.Table:
    """Normal rows that no fixture was trained on."""
    return mixed_table(200, seed=1)


@pytest.fixture(scope="session")
def table_scorer() -> Scorer:
    return fit_table(mixed_table(600))


@pytest.fixture(scope="session")
def numeric_scorer() -> Scorer:
    return fit_table(mixed_table(600).select(["a", "b", "c"]), name="numbers")


@pytest.fixture(scope="session")
def image_scorer() -> Scorer:
    return fit_pictures()


@pytest.fixture(scope="session")
def table_bundle(table_scorer: Scorer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundles") / "rows"
    table_scorer.save(path)
    return path


@pytest.fixture(scope="session")
def exported_bundle(table_scorer: Scorer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The detector of `table_bundle` with its export."""
    pytest.importorskip("onnxscript", reason="the extra `export` is not installed")

    path = tmp_path_factory.mktemp("bundles") / "exported"
    table_scorer.with_export().save(path)
    return path


@pytest.fixture(scope="session")
def image_bundle(image_scorer: Scorer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundles") / "pictures"
    image_scorer.save(path)
    return path


@pytest.fixture(scope="session")
def data_sets() -> Path:
    """The folder of real data sets; the test skips where `ELBOUND_DATA` does not name it."""
    found = os.environ.get("ELBOUND_DATA")
    if not found:
        pytest.skip("ELBOUND_DATA does not name the folder of real data sets")
    return Path(found)
