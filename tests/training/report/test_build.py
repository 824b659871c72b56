"""Whole reports on small fits: a model that collapsed, one that hardly learned, images, and too little time."""

import json
import re
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn

from elbound.data.infer import infer_schema
from elbound.fit.detector import DetectorConfig, Fitted, fit_all
from elbound.model.models.vae import VAE
from elbound.model.networks.mlp import ResidualMLP
from elbound.schema import ImageSchema
from tests.conftest import mixed_table, squares
from training.report.build import Report, budget_seconds, build_report
from training.report.calibration import check_calibration
from training.report.collapse import latent_use
from training.report.facts import BaselineFacts, LatentFacts, NotChecked
from training.report.latent import check_latent
from training.report.verdict import judge

pytestmark = pytest.mark.slow

NEVER: Callable[[], bool] = lambda: False  # noqa: E731


def fit(table: pa.Table, **settings: object) -> Fitted:
    config = DetectorConfig(alpha=0.05, device="cpu", **settings)  # type: ignore[arg-type]
    return fit_all(table, infer_schema(table).schema, config)


def report(fitted: Fitted, *, seconds: float = 30, stop: Callable[[], bool] = NEVER, **parts: object) -> Report:
    given = {"groups": None, "anomalous": None, "say": lambda _: None, **parts}
    return build_report(fitted, seconds=seconds, stop=stop, **given)  # type: ignore[arg-type]


def factors(n: int) -> pa.Table:
    """Twelve columns that two common causes explain almost wholly."""
    draw = np.random.default_rng(0)
    rows = draw.normal(size=(n, 2)) @ draw.normal(size=(2, 12)) + 0.05 * draw.normal(size=(n, 12))
    return pa.table({f"c{i}": column for i, column in enumerate(rows.T)})


@pytest.fixture(scope="module")
def fitted_rows() -> Fitted:
    return fit(mixed_table(600), steps=300)


@pytest.fixture(scope="module")
def whole(fitted_rows: Fitted) -> Report:
    return report(fitted_rows)


def test_a_good_model_is_ship_and_every_part_is_there(whole: Report) -> None:
    assert whole.verdict.ship, whole.verdict.words
    assert whole.verdict.unchecked == {}
    assert set(whole.files) == {
        "index.html", "report.json", "learning.png", "latent.png", "p_values.png", "rates.png", "drift.png",
        "scores.png", "baselines.png", "features.png", "continuity.png",
    }  # fmt: skip
    assert all(data.startswith(b"\x89PNG") for name, data in whole.files.items() if name.endswith(".png"))
    document = json.loads(whole.files["report.json"])
    assert document["features"]["names"] == ["a", "b", "c", "ok", "site"]
    assert [one["name"] for one in document["baselines"]["rivals"]] == [
        "kNN", "PCA", "autoencoder", "denoising autoencoder"
    ]  # fmt: skip
    assert document["examples"]["worst"][0]["p_value"] < 0.05


def test_the_page_needs_nothing_else(whole: Report) -> None:
    page = whole.files["index.html"].decode()
    assert "<script" not in page
    assert "http" not in re.sub(r"base64,[^\"]+", "", page)
    sources = re.findall(r'(?:src|href)="([^"]{5})', page)
    assert set(sources) == {"data:"}
    assert page.count("<figcaption>") == page.count("<img ") == 9
    assert "do not estimate the AUROC" in page


def test_samples_of_the_prior_are_not_stranger_than_normals(whole: Report) -> None:
    assert isinstance(whole.facts.latent, LatentFacts)
    assert whole.facts.latent.prior_above < 0.05
    assert whole.facts.latent.between_above < 0.1


def test_a_decoder_that_ignores_the_code_is_not_shipped(fitted_rows: Fitted) -> None:
    member = next(fitted_rows.scorer.detector.each())
    assert isinstance(member.model, VAE)
    assert isinstance(member.model.decoder, ResidualMLP)
    kept = member.model.decoder.first.weight.detach().clone()
    with torch.no_grad():
        nn.init.zeros_(member.model.decoder.first.weight)
    try:
        made = report(fitted_rows, seconds=4)
    finally:
        member.model.decoder.first.weight.copy_(kept)
    assert not made.verdict.ship
    assert "the latent of the model 'standard' has collapsed" in made.verdict.words
    assert "'normal' has collapsed" not in made.verdict.words


def test_an_encoder_that_says_nothing_is_not_shipped(fitted_rows: Fitted) -> None:
    """What a huge weight of the KL leaves of an encoder: the prior for every item."""
    member = next(fitted_rows.scorer.detector.each())
    assert isinstance(member.model, VAE)
    last = member.model.encoder.body.last
    assert isinstance(last, nn.Module)
    kept = {name: value.clone() for name, value in last.state_dict().items()}
    with torch.no_grad():
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
    try:
        uses = latent_use(fitted_rows.scorer.detector, fitted_rows.x[:200])
    finally:
        last.load_state_dict(kept)
    assert not isinstance(uses[0].nets, NotChecked)
    assert [sum(net.active) for net in uses[0].nets] == [0, 0]
    assert sum(uses[0].nets[0].kl) == 0


def test_a_model_that_hardly_learned_is_worse_than_pca_and_not_shipped() -> None:
    made = report(fit(factors(500), steps=2, profile="fast"), seconds=6)
    assert not made.verdict.ship
    assert "PCA (6 components of all training items) does better on the synthetic anomalies" in made.verdict.words


def test_a_slow_trend_is_not_shipped_and_its_page_says_so() -> None:
    draw = np.random.default_rng(0)
    rows = draw.normal(size=(600, 4)) @ (np.eye(4) + 0.5)
    table = pa.table({f"c{i}": column for i, column in enumerate(rows.T)})
    drifting = table.append_column("load", pa.array(draw.normal(size=600) + np.linspace(0, 2, 600)))
    made = report(fit(drifting, steps=60, profile="fast"), seconds=8)
    assert made.verdict.words.startswith("do not ship, because the data change along the file: ")
    assert "column 'load' rises from the first row to the last" in made.verdict.words
    assert 'Do the data change along the file?</h2><p class="bad">They do.</p>' in made.files["index.html"].decode()


@pytest.mark.parametrize("columns", [1, 3])
def test_independent_texts_are_shipped(columns: int) -> None:
    """Few distinct rows tie in every score, and there is nothing to encode: neither is a fault."""
    for seed in range(2):
        draw = np.random.default_rng(seed)
        words = np.array(["red", "green", "blue", "grey"])
        drawn = {f"c{i}": words[draw.choice(4, 3_000, p=[0.6, 0.25, 0.1, 0.05])] for i in range(columns)}
        made = report(fit(pa.table(drawn), steps=60, seed=seed), seconds=8)
        assert made.verdict.ship, made.verdict.words


def test_known_anomalies_take_the_place_of_synthetic_ones(fitted_rows: Fitted) -> None:
    odd = fitted_rows.x[:40].clone()
    odd[:, 0] += 50
    made = report(fitted_rows, anomalous=odd, seconds=8)
    assert isinstance(made.facts.baselines, BaselineFacts)
    assert not made.facts.baselines.synthetic
    assert made.facts.baselines.by_kind == {"given": made.facts.baselines.auroc}
    assert made.facts.baselines.auroc > 0.95


def test_what_the_budget_cuts_is_said(fitted_rows: Fitted) -> None:
    made = report(fitted_rows, seconds=0.1)
    page = made.files["index.html"].decode()
    assert made.facts.seconds < 12  # drawing is not cut, and a busy machine draws slowly
    assert "cut short" in page or "budget" in page
    nothing = report(fitted_rows, seconds=1e-6)
    assert nothing.verdict.unchecked == dict.fromkeys(
        ("posterior collapse", "baselines", "calibration", "drift", "alarms along the file"),
        "the report's budget of 1e-06 s was spent",
    )
    assert nothing.verdict.state == "undecided"
    assert "<strong>Undecided</strong>, because<ul><li>no baseline" in nothing.files["index.html"].decode()
    assert "Not checked" in nothing.files["index.html"].decode()


def test_an_interrupt_leaves_what_there_is(fitted_rows: Fitted) -> None:
    told: list[str] = []
    made = report(fitted_rows, stop=lambda: "PCA" in told, say=told.append)
    assert made.interrupted
    assert set(made.verdict.unchecked.values()) == {"the report was interrupted"}
    assert not isinstance(made.facts.collapse, NotChecked)
    assert "index.html" in made.files


def test_the_budget_is_the_training_time_again() -> None:
    assert (budget_seconds(None, 100.0), budget_seconds(None, 1.0), budget_seconds(1.0, 100.0)) == (100.0, 10.0, 1.0)


def test_images_have_pictures_of_items_and_errors() -> None:
    schema = ImageSchema(height=12, width=12, channels=1)
    images = torch.from_numpy(squares(200)[:, None])
    made = report(fit_all(images, schema, DetectorConfig(alpha=0.05, device="cpu", steps=60)), seconds=8)
    assert {"typical.png", "worst.png", "errors.png"} <= set(made.files)
    assert isinstance(made.facts.features, NotChecked)
    assert isinstance(made.facts.baselines, BaselineFacts)
    assert len(made.facts.baselines.by_kind) == 6


def test_tiny_data_without_held_out_items_are_not_judged() -> None:
    fitted = fit(mixed_table(12), steps=5, allow_tiny=True)
    assert isinstance(check_calibration(fitted.scorer.calibration, fitted.split, None, alpha=0.05), NotChecked)
    made = report(fitted)
    assert {"baselines", "calibration", "drift"} <= set(made.verdict.unchecked)
    assert judge(made.facts) == made.verdict
    assert isinstance(check_latent(fitted.scorer, fitted.x[:1], seed=0), NotChecked)
