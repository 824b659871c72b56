"""What a model must beat: principal components, two autoencoders and the nearest rows, on the same split."""

import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from elbound.detector import Detector, DetectorSpec
from elbound.evaluation import auroc, auroc_lead, knn_yardstick
from elbound.fit.detector import Fitted
from elbound.fit.loop import FitControls, FitSettings, Interrupted, Progress, fit_members
from elbound.model.models import ModelSpec
from elbound.schema import ImageSchema
from elbound.scorer import Scorer
from training.report.budget import Budget
from training.report.facts import BaselineFacts, NotChecked, Rival
from training.report.synthetic import make_anomalies

PCA, AUTOENCODER, DENOISING, NEIGHBOURS = "PCA", "autoencoder", "denoising autoencoder", "kNN"
SHARES = {NEIGHBOURS: 0.4, PCA: 0.5, AUTOENCODER: 0.5, DENOISING: 0.95}
"""The baselines in their order, and the part of the time that is left which each may take.

The nearest neighbours come first: they need no fit, and no other baseline is nearer to the model on tables.
"""
MOST_COMPARED = 2_000
MOST_SYNTHETIC = 1_000
LEAST_COMPARED = 10
ROUNDS = 1_000
FAMILY_CONFIDENCE = 0.95
PILOT_STEPS, PILOT_SKIPPED, PILOT_SHARE = 12, 4, 0.15
LEAST_STEPS_SHARE = 0.05
BANK_ITEMS = 20_000
QUERIES_AT_ONCE = 100
SCORED_AT_ONCE = 128

Scores = Callable[[Tensor], np.ndarray]
"""Scores `(n,)` of events `(n, *event)`, larger for anomalies."""


@dataclass(frozen=True)
class Contest:
    """Held-out normals `(n, *event)` with the verdict's scores, and anomalies `(m, *event)` with a kind each."""

    normal: Tensor
    own_normal: np.ndarray
    anomalous: Tensor
    kinds: list[str]


def compare(
    fitted: Fitted, anomalous: Tensor | None, budget: Budget, say: Callable[[str], None], *, seed: int
) -> BaselineFacts | NotChecked:
    """AUROC of the verdict and of each baseline, on `anomalous` events or on synthetic ones; cheap baselines first.

    A baseline that the budget did not reach is named in `skipped`; one that it cut short says so in its note.
    """
    if not fitted.split.held_out:
        return NotChecked("the same few items trained and are held out")
    if budget.over():
        return budget.not_checked
    contest = contest_of(fitted, anomalous, seed=seed)
    if min(len(contest.normal), len(contest.anomalous)) < LEAST_COMPARED:
        return NotChecked(f"it takes {LEAST_COMPARED} held-out normals and as many anomalies")
    say("elbound on the anomalies")
    own = _own_scores(fitted.scorer, contest.anomalous, budget.share(0.3))
    if len(own) < LEAST_COMPARED:
        return budget.not_checked
    contest = replace(contest, anomalous=contest.anomalous[: len(own)], kinds=contest.kinds[: len(own)])
    ours = contest.own_normal, own
    rivals: list[Rival] = []
    skipped: dict[str, str] = {}
    for name, share in SHARES.items():
        if budget.over():
            skipped[name] = budget.not_checked.because
            continue
        say(name)
        scores, note = _fit(name, fitted, budget.share(share), seed=seed)
        if scores is None:
            skipped[name] = note
            continue
        theirs = scores(contest.normal), scores(contest.anomalous)
        rivals.append(_rival(name, ours, theirs, contest.kinds, note, seed=seed))
    return BaselineFacts(
        synthetic=anomalous is None,
        normals=len(contest.normal),
        anomalies=len(own),
        auroc=auroc(*ours),
        by_kind=_by_kind(ours, contest.kinds),
        rivals=rivals,
        skipped=skipped,
    )


def contest_of(fitted: Fitted, anomalous: Tensor | None, *, seed: int) -> Contest:
    """At most `MOST_COMPARED` calibration items, which had no hand in weights and rule, and the anomalies."""
    draw = torch.Generator().manual_seed(seed)
    split, calibration = fitted.split, fitted.scorer.calibration
    place = torch.randperm(len(split.calibration), generator=draw)[:MOST_COMPARED].numpy()
    verdict = calibration.calibration_verdict()
    normal, own = fitted.x[split.calibration[place]], verdict[place]
    if anomalous is not None:
        order = torch.randperm(len(anomalous), generator=draw)[:MOST_COMPARED]
        return Contest(normal, own, anomalous[order], ["given"] * len(order))
    held_out = fitted.x[np.concatenate([split.calibration, split.validation])]
    made = make_anomalies(held_out, fitted.scorer.schema, most=MOST_SYNTHETIC, seed=seed)
    return Contest(normal, own, made.x, made.kinds)


def _own_scores(scorer: Scorer, anomalous: Tensor, budget: Budget) -> np.ndarray:
    """The verdict's scores of events `(m, *event)`; of the first of them alone where the time does not do for all."""
    found = []
    for part in anomalous.split(SCORED_AT_ONCE):
        if budget.over():
            break
        found.append(scorer.score_tensor(part).score)
    return np.concatenate([np.empty(0), *found])


def _rival(
    name: str,
    ours: tuple[np.ndarray, np.ndarray],
    theirs: tuple[np.ndarray, np.ndarray],
    kinds: list[str],
    note: str,
    *,
    seed: int,
) -> Rival:
    """All intervals together hold in `FAMILY_CONFIDENCE` of cases (Bonferroni)."""
    confidence = 1 - (1 - FAMILY_CONFIDENCE) / len(SHARES)
    lead = auroc_lead(ours, theirs, confidence=confidence, rounds=ROUNDS, seed=seed)
    return Rival(name, auroc(*theirs), lead.lead, lead.low, lead.high, _by_kind(theirs, kinds), note)


def _by_kind(scores: tuple[np.ndarray, np.ndarray], kinds: list[str]) -> dict[str, float]:
    kind = np.array(kinds)
    return {str(one): auroc(scores[0], scores[1][kind == one]) for one in dict.fromkeys(kinds)}


def _fit(name: str, fitted: Fitted, budget: Budget, *, seed: int) -> tuple[Scores | None, str]:
    """The scores of a fitted baseline and a note of what it had; None with the reason where there was no time."""
    if name == NEIGHBOURS:
        return _fit_neighbours(fitted, budget, seed=seed)
    spec = _baseline_spec(name, fitted)
    wanted = fitted.settings
    settings = wanted
    if name != PCA:
        affordable = int(budget.left / _pilot(spec, fitted, budget, seed=seed))
        if affordable < LEAST_STEPS_SHARE * wanted.steps:
            return None, f"the budget allows {affordable:,} of {wanted.steps:,} steps, too few to tell anything"
        settings = replace(wanted, steps=min(wanted.steps, affordable))
    detector = _new_detector(spec, fitted)
    reached = _train(detector, fitted, settings, budget, seed=seed)
    device = fitted.scorer.device
    scores: Scores = lambda x: detector(x, device)[:, 0].cpu().numpy()  # noqa: E731
    if name == PCA:
        return scores, f"{spec.latent} components of all training items"
    cut = reached < wanted.steps
    return scores, f"{reached:,} of {wanted.steps:,} steps" + (", cut short by the budget" if cut else "")


def _baseline_spec(name: str, fitted: Fitted) -> ModelSpec:
    """The first model's latent and width; pixels and not features for images; -log p(x) for PCA, else the error."""
    first = fitted.scorer.manifest.detector.models[0]
    images = isinstance(fitted.scorer.schema, ImageSchema)
    if images:
        _, height, width = fitted.scorer.schema.event
        latent = min(max(height * width // 16, 8), 64)
    else:
        latent = first.latent
    return ModelSpec(
        name={PCA: "pca", AUTOENCODER: "autoencoder", DENOISING: "denoising_autoencoder"}[name],
        view="pixels" if images else "standard",
        latent=latent,
        width=first.width,
        samples=8 if name == PCA else 1,
        variance_floor=1e-4 if images else first.variance_floor,
        novelty=first.novelty,
        scores=("negative_elbo" if name == PCA else "reconstruction",),
    )


def _new_detector(spec: ModelSpec, fitted: Fitted) -> Detector:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        detector = Detector(DetectorSpec(models=(spec,)), fitted.scorer.schema)
    detector.draw_noise(seed=0)
    for member in detector.each():
        member.view.fit(fitted.x[fitted.split.train])
    return detector.to(fitted.scorer.device)


def _train(detector: Detector, fitted: Fitted, settings: FitSettings, budget: Budget, *, seed: int) -> int:
    """The steps that were made before the budget was over."""
    reached = 0

    def count(now: Progress) -> None:
        nonlocal reached
        reached = now.step

    train, validation = fitted.x[fitted.split.train], fitted.x[fitted.split.validation]
    with suppress(Interrupted):
        fit_members(detector, train, validation, settings, seed=seed, controls=FitControls(count, budget.over))
    detector.eval().requires_grad_(False)
    return reached


def _pilot(spec: ModelSpec, fitted: Fitted, budget: Budget, *, seed: int) -> float:
    """Seconds a step, from a few: a schedule that fits the budget is fairer than half of one that does not."""
    times: list[float] = []
    allowed = budget.share(PILOT_SHARE)
    train = fitted.x[fitted.split.train]
    settings = replace(fitted.settings, steps=PILOT_STEPS)
    started = time.monotonic()
    controls = FitControls(lambda _: times.append(time.monotonic()), allowed.over)
    with suppress(Interrupted):
        fit_members(_new_detector(spec, fitted), train, train[:0], settings, seed=seed, controls=controls)
    if len(times) <= PILOT_SKIPPED:  # slow steps: the first ones are as good as any
        return (times[-1] - started) / len(times)
    return max(1e-6, float(np.median(np.diff(times[PILOT_SKIPPED - 1 :]))))


def _fit_neighbours(fitted: Fitted, budget: Budget, *, seed: int) -> tuple[Scores | None, str]:
    """The 5th nearest of all training items, or of as many as the time allows."""
    spec = _baseline_spec(PCA, fitted)
    member = next(_new_detector(spec, fitted).each())

    def coordinates(x: Tensor) -> np.ndarray:
        with torch.inference_mode():
            found: np.ndarray = member.view.coordinates(x.to(fitted.scorer.device)).cpu().numpy()
        return found

    train = fitted.split.train
    order = np.random.default_rng(seed).permutation(train)[:BANK_ITEMS]
    queries = coordinates(fitted.x[fitted.split.calibration[:QUERIES_AT_ONCE]])
    distances = knn_yardstick(coordinates(fitted.x[np.sort(order)]))
    started = time.monotonic()
    distances(queries)
    needed = (MOST_COMPARED + MOST_SYNTHETIC) * (time.monotonic() - started) / len(queries)
    kept = min(len(order), math.floor(len(order) * budget.left / max(1e-9, needed)))
    if kept < 1:
        return None, budget.not_checked.because
    if kept < len(order):
        distances = knn_yardstick(coordinates(fitted.x[np.sort(order[:kept])]))
    note = f"5th neighbour of {kept:,} of {len(train):,} training items"
    return (lambda x: distances(coordinates(x))), note + (", cut short" if kept < len(train) else "")
