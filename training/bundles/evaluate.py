"""The figures of `elbound evaluate`, and those of the defects that came with the training data."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from rich.table import Table

from elbound.calibration.calibration import ScoredItems
from elbound.calibration.conformal import check_alpha
from elbound.errors import ElboundError, MissingExtra
from elbound.fit.seen import matching_items
from elbound.scorer import Scorer
from training.console import console, warn
from training.report.facts import DefectFacts, NotChecked
from training.score.pieces import score_path

if TYPE_CHECKING:
    from elbound.evaluation import RealisedRate

USUAL_ALPHAS = (0.01, 0.05, 0.1)
VERDICT = "verdict"
Checks: TypeAlias = "dict[str, dict[float, RealisedRate | None]]"
"""Of each score by alpha; None where nothing can alarm."""


class PromiseBroken(ElboundError):
    """More false alarms than the promise allows, or a rate at which nothing can alarm."""

    default_code = "promise_broken"


def require_extra(package: str) -> None:
    """Raise MissingExtra that says what to install."""
    try:
        __import__(package)
    except ImportError as error:
        raise MissingExtra(f"this command needs {package}: pip install 'elbound[train]'", where=package) from error


def _readable(scorer: Scorer, path: Path) -> ScoredItems:
    scored, unreadable = score_path(scorer, path)
    if unreadable:
        warn(f"{unreadable:,} items of {path} could not be read and are left out")
    return scored


def show_evaluation(scorer: Scorer, normal: Path, anomalous: Path | None, *, alpha: float | None) -> None:
    """Print the realised false-alarm rate of every score, how well it separates from anomalies, and a conclusion.

    Without `alpha` the rates are the bundle's own and the usual ones. Raises PromiseBroken where the verdict alarms on
    more of the normal items than is allowed at one of them, or where nothing can alarm at the rate in force.
    """
    require_extra("sklearn")

    alphas = tuple(sorted({*USUAL_ALPHAS, scorer.alpha})) if alpha is None else (check_alpha(alpha),)
    normals = _readable(scorer, normal)
    anomalies = None if anomalous is None else _readable(scorer, anomalous)
    if (matches := matching_items(scorer, np.stack(list(normals.scores.values()), axis=1))) is not None:
        warn(
            f"{normal} has items that the model was trained on: {matches:,} of {len(normals):,} equal an item "
            "that training held out. What is measured here says nothing about new items; give normal items that "
            "training never saw"
        )
    checks = _checks(scorer, normals, alphas)
    _show(checks, normals, anomalies)
    _conclude(scorer, checks, scorer.alpha if alpha is None else alpha, seen=matches is not None)


def _checks(scorer: Scorer, normals: ScoredItems, alphas: Sequence[float]) -> Checks:
    from elbound.evaluation import realised_rate

    guarantee = scorer.guarantee
    calibrators = {VERDICT: scorer.calibration.verdict, **scorer.calibration.by_score}
    values = {VERDICT: normals.score, **normals.scores}
    return {
        name: {
            alpha: realised_rate(own, values[name], alpha, guarantee) if own.rank(alpha, guarantee) else None
            for alpha in alphas
        }
        for name, own in calibrators.items()
    }


def _show(checks: Checks, normals: ScoredItems, anomalies: ScoredItems | None) -> None:
    from elbound.evaluation import auroc, average_precision

    alphas = checks[VERDICT]
    table = Table("score", *(f"false alarms at {a:g}" for a in alphas), "AUROC", "AP", title_justify="left")
    for name, by_alpha in checks.items():
        cells = ["nothing can alarm" if found is None else _cell(found) for found in by_alpha.values()]
        if anomalies is None:
            cells += ["", ""]
        else:
            normal, odd = (one.score if name == VERDICT else one.scores[name] for one in (normals, anomalies))
            cells += [f"{auroc(normal, odd):.4f}", f"{average_precision(normal, odd):.4f}"]
        table.add_row(name, *cells)
    console.print(table)
    console.print(
        "in brackets: the counts that a kept promise allows in 95 % of cases (beta-binomial); (!) is outside of them",
        markup=False,
    )


def show_defects(found: DefectFacts | NotChecked | None) -> None:
    """Print which kinds of defects are found, worst first; nothing where none came with the training data."""
    if found is None:
        return
    if isinstance(found, NotChecked):
        console.print(f"defects of test: not checked, because {found.because}", markup=False, soft_wrap=True)
        return
    table = Table("kind of defect", f"alarms at {found.alpha:g}", "AUROC", "pixel AUROC", title_justify="left")
    rows = [(one.kind, one.found, one.items, one.auroc, one.pixel_auroc) for one in found.kinds]
    for kind, alarms, items, area, pixel in [*rows, ("all", found.found, found.items, found.auroc, found.pixel_auroc)]:
        rate = f"{alarms}/{items} = {alarms / items:.2f}"
        table.add_row(kind, rate, f"{area:.3f}", "" if pixel is None else f"{pixel:.3f}")
    console.print(table)
    if found.normals:
        console.print(
            f"false alarms among the good pictures of test: {found.false_alarms}/{found.normals} (a kept promise "
            f"allows {found.low} to {found.high})",
            markup=False,
            soft_wrap=True,
        )
    for sentence in found.left_out:
        console.print(sentence, markup=False, soft_wrap=True)


def _cell(found: "RealisedRate") -> str:
    note = "" if found.as_promised else " (!)"
    return f"{found.alarms}/{found.items} = {found.rate:.3f}  [{found.low}, {found.high}]{note}"


def _conclude(scorer: Scorer, checks: Checks, in_force: float, *, seen: bool) -> None:
    """Say whether the promise holds; raise PromiseBroken where it does not. Only the verdict's alarms count.

    `seen` says that the items are those of the training.
    """
    others = [
        name
        for name, by_alpha in checks.items()
        if name != VERDICT and any(found is not None and found.alarms > found.high for found in by_alpha.values())
    ]
    if others:
        warn(
            f"alone, {', '.join(others)} would alarm on more normal items than is allowed; the verdict decides, and "
            "it is judged below"
        )
    judged = {alpha: found for alpha, found in checks[VERDICT].items() if found is not None}
    for alpha, found in judged.items():
        if found.alarms < found.low:
            warn(
                f"at alpha = {alpha:g} the verdict alarms on {found.alarms:,} of {found.items:,} normal items, fewer "
                f"than the {found.low:,} to {found.high:,} that are expected: its threshold is higher than these items "
                "need"
            )
    broken = [_counts(alpha, found) for alpha, found in judged.items() if found.alarms > found.high]
    if broken:
        raise PromiseBroken(
            f"the promise does not hold: the verdict alarms on {'; on '.join(broken)}. If these items are normal, "
            "calibrate on fresh normal items (elbound calibrate), or train again with such items"
        )
    if (silent := scorer.unresolved(in_force, scorer.guarantee)) is not None:
        raise PromiseBroken(f"alpha = {in_force:g} cannot be judged: {silent}")
    if seen:
        text = "whether the promise holds cannot be judged on items that the model was trained on"
    elif not scorer.calibration.held_out:
        text = "no false-alarm rate was promised: the same few items trained and calibrated"
    else:
        counts = "; on ".join(_counts(alpha, found) for alpha, found in judged.items())
        text = f"the promise holds: the verdict alarms on {counts}"
    console.print(text, markup=False, soft_wrap=True)


def _counts(alpha: float, found: "RealisedRate") -> str:
    counts = f"{found.alarms:,} of {found.items:,} normal items at alpha = {alpha:g}"
    return f"{counts}, where at most {found.high:,} are allowed"
