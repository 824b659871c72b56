"""The figures of `elbound evaluate`, and those of the defects that came with the training data."""

from pathlib import Path

from rich.table import Table

from elbound.calibration.calibration import ScoredItems
from elbound.calibration.conformal import check_alpha
from elbound.errors import MissingExtra
from elbound.scorer import Scorer
from training.bulk.pieces import score_path
from training.console import console, warn
from training.report.facts import DefectFacts, NotChecked


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
    """Print the realised false-alarm rate of every score and, with anomalies, how well it separates."""
    require_extra("sklearn")
    from elbound.evaluation import auroc, average_precision, realised_rate

    alphas = (0.01, 0.05, 0.1) if alpha is None else (check_alpha(alpha),)
    normals = _readable(scorer, normal)
    anomalies = None if anomalous is None else _readable(scorer, anomalous)
    table = Table("score", *(f"false alarms at {a:g}" for a in alphas), "AUROC", "AP", title_justify="left")
    calibrators = {"verdict": scorer.calibration.verdict, **scorer.calibration.by_score}
    for name, calibrator in calibrators.items():
        values = normals.score if name == "verdict" else normals.scores[name]
        cells = []
        for a in alphas:
            found = realised_rate(calibrator, values, a)
            note = "" if found.as_promised else " (!)"
            cells.append(f"{found.alarms}/{found.items} = {found.rate:.3f}  [{found.low}, {found.high}]{note}")
        if anomalies is None:
            cells += ["", ""]
        else:
            odd = anomalies.score if name == "verdict" else anomalies.scores[name]
            cells += [f"{auroc(values, odd):.4f}", f"{average_precision(values, odd):.4f}"]
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
