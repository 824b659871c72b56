"""Training: repeatable, resumable, guarded, and the decoder's variance is real."""

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file

from elbound.data.infer import infer_schema
from elbound.errors import FitError, TooFewItems
from elbound.fit import detector as detector_module
from elbound.fit.checkpoint import load_checkpoint
from elbound.fit.defaults import table_latent, variance_floor
from elbound.fit.detector import DetectorConfig, fit_detector
from elbound.fit.image_defaults import pixel_latent
from elbound.fit.loop import Batches, FitControls, Interrupted, Progress
from elbound.fit.schedules import image_step_budget, kl_weight, learning_rate, step_budget
from elbound.model.bounds import bound_terms
from elbound.scorer import Scorer


def table(n: int = 300, seed: int = 0) -> pa.Table:
    draw = np.random.default_rng(seed)
    z = draw.normal(size=n)
    return pa.table({"a": z + 0.1 * draw.normal(size=n), "b": 2 * z, "c": draw.choice(["x", "y"], n)})


def fit(items: pa.Table, controls: FitControls | None = None, **settings: object) -> Scorer:
    config = DetectorConfig(device="cpu", **{"steps": 60, "checkpoint_steps": 20, **settings})  # type: ignore[arg-type]
    schema = infer_schema(items, include=tuple(items.column_names)).schema
    return fit_detector(items, schema, config, controls)


def weights(scorer: Scorer) -> dict[str, torch.Tensor]:
    return scorer.detector.state_dict()


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_seed_repeats_a_run_bit_for_bit_and_another_does_not() -> None:
    torch.manual_seed(123)
    state = torch.get_rng_state()
    first = fit(table(), seed=7)
    assert torch.equal(torch.get_rng_state(), state), "the caller's random state was touched"
    torch.manual_seed(321)
    assert same(weights(first), weights(fit(table(), seed=7)))
    assert not same(weights(first), weights(fit(table(), seed=8)))


@pytest.mark.parametrize("stop_at", [1, 25, 59])
def test_resuming_reaches_the_weights_of_an_uninterrupted_run(tmp_path: Path, stop_at: int) -> None:
    checkpoint = tmp_path / "run.checkpoint"
    seen: list[Progress] = []
    with pytest.raises(Interrupted, match=f"stopped after step {stop_at} of 60"):
        fit(table(), FitControls(seen.append, lambda: len(seen) == stop_at, checkpoint))
    assert load_checkpoint(checkpoint).step == stop_at
    resumed = fit(table(), FitControls(seen.append, checkpoint=checkpoint, resume=True))
    assert [now.step for now in seen] == list(range(1, 61))
    whole = fit(table())
    assert same(weights(resumed), weights(whole))
    assert resumed.manifest.training.history == whole.manifest.training.history


def test_a_checkpoint_is_written_at_every_interval(tmp_path: Path) -> None:
    checkpoint = tmp_path / "run.checkpoint"
    steps = []

    def watch(now: Progress) -> None:
        if checkpoint.exists():
            steps.append(now.step - load_checkpoint(checkpoint).step)

    fit(table(), FitControls(watch, checkpoint=checkpoint))
    assert len(steps) == 40
    assert max(steps) <= 20


def test_a_checkpoint_of_other_data_is_refused(tmp_path: Path) -> None:
    checkpoint = tmp_path / "run.checkpoint"
    fit(table(), FitControls(checkpoint=checkpoint))
    with pytest.raises(FitError, match="belongs to other data or settings"):
        fit(table(seed=1), FitControls(checkpoint=checkpoint, resume=True))
    checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    with pytest.raises(FitError, match="not a readable checkpoint"):
        fit(table(), FitControls(checkpoint=checkpoint, resume=True))
    checkpoint.unlink()
    with pytest.raises(FitError, match="no checkpoint"):
        fit(table(), FitControls(checkpoint=checkpoint, resume=True))


def test_a_checkpoint_is_no_pickle(tmp_path: Path) -> None:
    fit(table(), FitControls(checkpoint=tmp_path / "c"))
    assert any(name.startswith("optimizer.exp_avg.") for name in load_file(tmp_path / "c"))


@pytest.mark.slow
def test_the_variance_of_the_decoder_moves_with_the_row() -> None:
    """y is narrow where x < 0 and wide where x > 0: the predicted standard deviations say so."""
    draw = np.random.default_rng(0)
    x = draw.uniform(-1, 1, 2000)
    y = draw.normal(size=2000) * np.where(x > 0, 1.0, 0.15)
    scorer = fit(pa.table({"x": x, "y": y}), steps=1200)
    member = next(scorer.detector.each())
    rows = torch.tensor([[-0.5, 0.0], [0.5, 0.0]], dtype=torch.float64)
    seen = member.view(rows).expand(member.spec.nets, 2, 2)
    parameters = member.model.decode(member.model.encode(seen).mu[:, None]).mean(0)
    deviation = torch.exp(0.5 * parameters[0, :, 3]) * member.view.scale[1]  # type: ignore[index, operator]
    assert float(deviation[1]) > 3 * float(deviation[0])
    assert float(deviation[1]) == pytest.approx(1.0, rel=0.6)  # the code tells of y, too
    assert float(deviation[0]) == pytest.approx(0.15, rel=0.7)
    surprises = scorer.score_tensor(torch.tensor([[-0.5, 1.0], [0.5, 1.0]], dtype=torch.float64)).score
    assert surprises[0] > surprises[1] + 5


def test_updates_that_are_not_finite_are_skipped_and_then_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from elbound.model.models.vae import VAE

    plain = VAE.loss
    broken = {3, 8}  # of two members, in steps 2 and 4
    calls = 0

    def sometimes(self: VAE, x: torch.Tensor, noise: torch.Tensor, *, kl_weight: float) -> object:
        nonlocal calls
        calls += 1
        terms = plain(self, x, noise, kl_weight=kl_weight)
        return terms._replace(loss=terms.loss * torch.nan) if calls in broken else terms

    monkeypatch.setattr(VAE, "loss", sometimes)
    scorer = fit(table())
    assert scorer.manifest.training.skipped_updates == 2
    assert all(torch.isfinite(value).all() for value in weights(scorer).values())
    broken, calls = set(range(1000)), 0
    with pytest.raises(FitError, match="not finite for 20 steps in a row"):
        fit(table())


def test_validation_and_both_halves_of_the_loss_are_recorded() -> None:
    history = fit(table()).manifest.training.history
    assert [row["step"] for row in history] == [float(step) for step in range(3, 61, 3)]
    assert set(history[0]) == {"step", "loss", "reconstruction", "kl", "validation_elbo"}
    assert history[-1]["validation_elbo"] > history[0]["validation_elbo"]


def test_only_the_train_part_is_seen_by_scales_and_levels() -> None:
    items = table(200)
    scorer = fit(items)
    x = torch.from_numpy(items["a"].to_numpy().copy())
    from elbound.data.split import split_items

    train = split_items(200, seed=0).train
    member = next(scorer.detector.each())
    assert float(member.view.mean[0]) == pytest.approx(float(x[train].mean()))  # type: ignore[index]


def test_too_few_items_are_refused_unless_asked_for() -> None:
    with pytest.raises(TooFewItems, match="at least 20"):
        fit(table(19))
    scorer = fit(table(10), allow_tiny=True)
    assert not scorer.calibration.held_out


def test_hard_columns_never_yield_a_score_that_is_not_finite() -> None:
    n = 60
    draw = np.random.default_rng(0)
    items = pa.table(
        {
            "constant": np.full(n, 7.0),
            "huge": draw.standard_cauchy(n) * 1e30,
            "tiny": draw.normal(size=n) * 1e-30,
            "twin": (twin := draw.normal(size=n)),
            "other_twin": twin,
            "mostly_missing": pa.array([1.0] + [None] * (n - 2) + [2.0]),
            "time": 1.7e9 + np.arange(n) * 60.0 + draw.random(n),
            "only": ["x"] * n,
        }
    )
    scorer = fit(items)
    x = scorer.to_tensor(items).only()
    assert np.isfinite(scorer.raw_scores(x)).all()
    x[0, 0], x[1, 1], x[2, 2] = 8.0, 1e300, 1.0
    scores = scorer.score_tensor(x)
    assert np.isfinite(scores.score).all()
    assert (scores.score[:3] > np.median(scores.score)).all()


def test_identical_rows_train() -> None:
    scorer = fit(pa.table({"a": [1.0] * 40, "b": ["x"] * 40}))
    assert np.isfinite(scorer.raw_scores(scorer.golden)).all()
    odd = scorer.to_tensor([{"a": 2.0, "b": "x"}, {"a": 1.0, "b": "y"}]).only()
    assert (scorer.raw_scores(odd)[:, 0] > scorer.raw_scores(scorer.golden)[:, 0].max()).all()


def test_images_of_one_colour_train() -> None:
    from elbound.schema import ImageSchema

    schema = ImageSchema(height=8, width=8, channels=3)
    config = DetectorConfig(device="cpu", steps=20)
    scorer = fit_detector(torch.full((40, 3, 8, 8), 128, dtype=torch.uint8), schema, config)
    assert np.isfinite(scorer.raw_scores(scorer.golden)).all()


def test_several_nets_see_their_own_batches_and_average() -> None:
    """The code is made for ensembles: the scores of two nets are the mean of each alone."""
    from elbound.detector import Detector, DetectorSpec
    from elbound.fit.loop import FitSettings, fit_members
    from elbound.model.models import ModelSpec

    items = table(200)
    schema = infer_schema(items).schema.model_copy(update={"columns": infer_schema(items).schema.columns[:2]})
    spec = DetectorSpec(models=(ModelSpec(view="standard", nets=2, latent=2, samples=4),))
    torch.manual_seed(0)
    detector = Detector(spec, schema)
    detector.draw_noise(seed=0)
    x = torch.from_numpy(np.stack([items["a"].to_numpy(), items["b"].to_numpy()], 1))
    member = next(detector.each())
    member.view.fit(x)
    fit_members(detector, x, x[:50], FitSettings(steps=30), seed=0, controls=FitControls())
    detector.eval()
    seen = member.view(x).expand(2, *x.shape)
    terms = bound_terms(member.model, seen, member.noise)
    both = (terms.reconstruction + terms.rate).detach()
    assert not torch.allclose(both[0], both[1])
    scores = detector(x, torch.device("cpu"))[:, 0]
    torch.testing.assert_close(scores, both.mean(0).double(), rtol=1e-5, atol=1e-5)
    batches = Batches(100, 10, 2, seed=0)
    index, _ = batches.at(0)
    assert index.shape == (2, 10)
    assert not torch.equal(index[0], index[1])


def test_an_epoch_shows_every_item_once() -> None:
    batches = Batches(50, 10, 1, seed=3)
    shown = torch.cat([batches.at(step)[0][0] for step in range(5)])
    assert sorted(shown.tolist()) == list(range(50))
    assert not torch.equal(shown[:10], batches.at(5)[0][0])


def test_schedules_at_their_ends() -> None:
    assert learning_rate(0, steps=100, peak=1.0, warmup_steps=10) == pytest.approx(0.1)
    assert learning_rate(9, steps=100, peak=1.0, warmup_steps=10) == pytest.approx(1.0)
    assert learning_rate(99, steps=100, peak=1.0, warmup_steps=10) == pytest.approx(0.0, abs=1e-3)
    assert learning_rate(0, steps=1, peak=1.0, warmup_steps=50) > 0
    assert kl_weight(0, steps=100, warmup_share=0.2) == 0
    assert kl_weight(10, steps=100, warmup_share=0.2) == pytest.approx(0.5)
    assert kl_weight(20, steps=100, warmup_share=0.2) == kl_weight(99, steps=100, warmup_share=0.2) == 1
    assert kl_weight(0, steps=100, warmup_share=0.0) == 1


@pytest.mark.parametrize(("n", "steps"), [(20, 600), (300, 600), (500, 1000), (1000, 2000), (10**6, 2000)])
def test_the_step_budget_is_twice_the_rows_within_bounds(n: int, steps: int) -> None:
    assert step_budget(n) == steps


def test_rules_for_size() -> None:
    from elbound.schema import ImageSchema

    assert [table_latent(d) for d in (1, 5, 30, 1000)] == [2, 3, 15, 32]
    assert [pixel_latent(ImageSchema(height=s, width=s, channels=1)) for s in (8, 28, 64)] == [8, 49, 64]
    assert [variance_floor(n) for n in (14, 500, 10**6)] == [0.1, 0.02, 0.01]
    assert [image_step_budget(n) for n in (100, 3000, 10**5)] == [600, 750, 1000]
    assert math.isclose(variance_floor(100), 0.1)


def test_a_fit_of_rows_runs_on_one_thread_and_leaves_the_number_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside other work two threads of so small operations wait for each other twenty times as long as they compute."""
    seen = []
    fit_members = detector_module.fit_members

    def watched(*arguments: object, **settings: object) -> object:
        seen.append(torch.get_num_threads())
        return fit_members(*arguments, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(detector_module, "fit_members", watched)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        alone = weights(fit(table(60)))
        assert torch.get_num_threads() == 2
        torch.set_num_threads(1)
        assert same(alone, weights(fit(table(60))))
    finally:
        torch.set_num_threads(before)
    assert seen == [1, 1]
