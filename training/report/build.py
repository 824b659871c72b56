"""From a fitted detector to the report, top to bottom: the cheap questions first, the baselines with what is left."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from torch import Tensor

from elbound.fit.detector import Fitted
from elbound.schema import TableSchema
from training.inputs.source import KnownItems
from training.report.baselines import compare
from training.report.budget import Budget
from training.report.calibration import check_calibration, drift
from training.report.collapse import columns_depend, latent_use
from training.report.defects import evaluate_defects
from training.report.examples import find_examples, fit_of_features
from training.report.facts import DriftFacts, Facts, NotChecked, TrendFacts, Verdict, as_json
from training.report.latent import check_latent
from training.report.page import build_page
from training.report.pictures import draw
from training.report.trend import follow_file
from training.report.verdict import judge

LEAST_SECONDS = 10.0
"""A fit of a second leaves no time for its baselines; nobody minds a few more."""
DRAWING_SECONDS, DRAWING_SHARE = 3.0, 0.08
DEFECTS_SHARE = 0.5
Part = TypeVar("Part")


@dataclass(frozen=True)
class Report:
    """What was found, the files of `report/` in the bundle, and whether the caller ended it early."""

    facts: Facts
    files: dict[str, bytes]
    interrupted: bool

    @property
    def verdict(self) -> Verdict:
        return self.facts.verdict


def budget_seconds(asked: float | None, training_seconds: float) -> float:
    """What was asked for, or the training time again, at least `LEAST_SECONDS`."""
    return max(LEAST_SECONDS, training_seconds) if asked is None else asked


def build_report(
    fitted: Fitted,
    *,
    groups: Sequence[object] | None,
    anomalous: Tensor | None,
    seconds: float,
    stop: Callable[[], bool],
    say: Callable[[str], None],
    known: KnownItems | None = None,
) -> Report:
    """All parts within `seconds` (or until `stop`), the pictures and the page; `say` is told what comes next.

    `anomalous` events compare the model with baselines; `known` items, where there are any, are judged kind by kind.
    """
    manifest = fitted.scorer.manifest
    budget = Budget(seconds, stop)
    alpha, guarantee = manifest.verdict.alpha, manifest.verdict.guarantee
    facts = Facts(
        manifest.name,
        manifest.version,
        alpha,
        unresolved=fitted.scorer.unresolved(alpha, guarantee),
        budget_seconds=seconds,
        history=manifest.training.history,
        held_out_groups=None if groups is None else len({str(groups[i]) for i in fitted.split.calibration}),
    )
    _fill(facts, fitted, groups, anomalous, known, budget, say)
    facts.verdict = judge(facts)
    say("pictures")
    pictures = draw(facts, fitted, known)
    facts.seconds = budget.spent
    files = {"index.html": build_page(facts, pictures), "report.json": as_json(facts), **pictures}
    return Report(facts, files, interrupted=stop())


def _fill(
    facts: Facts,
    fitted: Fitted,
    groups: Sequence[object] | None,
    anomalous: Tensor | None,
    known: KnownItems | None,
    budget: Budget,
    say: Callable[[str], None],
) -> None:
    scorer, split, seed = fitted.scorer, fitted.split, fitted.scorer.manifest.training.seed
    drawing = min(budget.seconds / 2, max(DRAWING_SECONDS, DRAWING_SHARE * budget.seconds))
    checks = Budget(budget.seconds - drawing, budget.stop, whole=budget.seconds)
    held_out = fitted.x[np.concatenate([split.calibration, split.validation])]
    calibration = scorer.calibration

    def part(name: str, found: Callable[[], Part | NotChecked]) -> Part | NotChecked:
        if checks.over():
            return checks.not_checked
        say(name)
        return found()

    facts.calibration = part("calibration", lambda: check_calibration(calibration, split, groups, alpha=scorer.alpha))
    if known is not None:
        share = checks.share(DEFECTS_SHARE)
        facts.defects = part("known defects", lambda: evaluate_defects(scorer, known, share, seed=seed))
    facts.drift = part("drift", lambda: _drift(fitted, groups))
    facts.trend = part("trend", lambda: _trend(fitted, groups))
    facts.collapse = part("posterior collapse", lambda: latent_use(scorer.detector, held_out))
    if isinstance(scorer.schema, TableSchema):
        facts.independent_columns = not columns_depend(fitted.x[split.train], scorer.schema)
    facts.examples = part("examples", lambda: find_examples(fitted))
    facts.features = part("features", lambda: fit_of_features(scorer, held_out))
    facts.latent = part("continuity", lambda: check_latent(scorer, held_out, seed=seed))
    facts.baselines = compare(fitted, anomalous, checks, say, seed=seed)


def _drift(fitted: Fitted, groups: Sequence[object] | None) -> DriftFacts | NotChecked:
    calibration, places = fitted.scorer.calibration, fitted.split.calibration
    if not calibration.held_out:
        return NotChecked("the same few items trained and calibrated")
    held_out_groups = None if groups is None else [groups[i] for i in places]
    return drift(calibration.calibration_verdict(), held_out_groups)


def _trend(fitted: Fitted, groups: Sequence[object] | None) -> TrendFacts | NotChecked:
    scorer = fitted.scorer
    if not isinstance(scorer.schema, TableSchema):
        return NotChecked("images come in the order of their names, which need not be that of time")
    return follow_file(fitted.x, scorer.schema, groups, alpha=scorer.alpha, seed=scorer.manifest.training.seed)
