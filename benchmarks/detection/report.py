"""The record as a page of Markdown: means, every set, leads with intervals, losses, false alarms, images."""

from collections.abc import Sequence

import numpy as np

from benchmarks.detection import peers, tables
from benchmarks.detection.measure import ALPHAS
from benchmarks.detection.ours import VERDICT
from benchmarks.detection.record import Line
from benchmarks.detection.report_images import render_images
from benchmarks.detection.statistics import RESAMPLES, mean_lead
from benchmarks.detection.summary import Shown, alarms_of, common, measured, per_set, seconds, sets_of, shown_of
from benchmarks.detection.text import alarm_cell, grid, percent

YARDSTICK = "kNN"
LARGE = 500
LOSS = 3.0
"""Points of AUROC behind the yardstick from which a set of at least `LARGE` rows is listed by name."""


def render(lines: Sequence[Line]) -> str:
    """The whole report."""
    parts = [f"# Detection\n\n{_origin(lines)}", *_tables(measured(lines, "tables")), *render_images(lines)]
    return "\n\n".join([*parts, *_failures(lines)]) + "\n"


def _origin(lines: Sequence[Line]) -> str:
    """Every date, commit and machine that a line comes from: more than one of each is to be seen."""
    each = sorted({(line["date"], line["hardware"], _versions(line["versions"]), line["commit"]) for line in lines})
    return "\n".join(" · ".join((*words, f"commit {commit}")) + "  " for *words, commit in each).rstrip()


def _versions(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _tables(lines: Sequence[Line]) -> list[str]:
    if not lines:
        return []
    shown = shown_of(lines)
    sections = ["## Tables\n\n" + _protocol(lines), _means(lines, shown)]
    if any(one.method == YARDSTICK for one in shown):
        sections.append("### Lead over " + YARDSTICK + "\n\n" + _leads(lines, shown))
    sections.append("### Every set\n\nAUROC / AUPR, mean over seeds.\n\n" + _every_set(lines, shown))
    if any(line["method"] == "elbound" for line in lines):
        sections.append("### Every score of ours\n\n" + _scores(lines))
        sections.append("### False alarms\n\n" + _false_alarms(lines))
    return sections


def _protocol(lines: Sequence[Line]) -> str:
    most = max(line["limit"] for line in lines)
    caps = " and ".join(f"{name} on at most {rows:,}" for name, rows in peers.MAX_ROWS.items())
    return (
        f"{len(sets_of(lines))} sets, seeds {', '.join(str(seed) for seed in sorted({one['seed'] for one in lines}))}. "
        f"Per seed the normals are shuffled; half (at most {tables.MAX_TRAIN:,}) train, the others and all anomalies "
        f"test (at most {most:,}, stratified). elbound is `VAEDetector()` with no argument but the seed, elbound fast "
        f'`VAEDetector(profile="fast")`. Beside it on the same split: kNN (distance to neighbour {peers.NEIGHBOUR} '
        f"among all training rows), LOF ({peers.LOF_NEIGHBOURS} neighbours), isolation forest and PCA (squared "
        f"reconstruction error at {peers.KEPT_VARIANCE:.0%} of the variance), all on rows that are standardised by the "
        f"training rows, at scikit-learn's defaults otherwise; PyOD at its defaults ({caps} training rows, at random). "
        "Every method has one core; seconds are of a set, imports not counted."
    )


def _means(lines: Sequence[Line], shown: Sequence[Shown]) -> str:
    rows = []
    for one in shown:
        auroc, aupr = (per_set(lines, one, metric) for metric in ("auroc", "aupr"))
        fit, score = (list(seconds(lines, one, name).values()) for name in ("fit_s", "score_s"))
        if auroc:
            times = [f"{np.mean(fit):.2f}", f"{np.median(fit):.2f}", f"{max(fit):.2f}", f"{np.mean(score):.2f}"]
            rows.append([one.title, _mean(auroc), _mean(aupr), *times, str(len(auroc))])
    return "Mean over sets of the mean over seeds.\n\n" + grid(
        ["method", "AUROC", "AUPR", "fit s", "fit s, median", "fit s, longest", "score s", "sets"], rows
    )


def _mean(by_set: dict[str, float]) -> str:
    return percent(float(np.mean(list(by_set.values()))))


def _leads(lines: Sequence[Line], shown: Sequence[Shown]) -> str:
    yardstick = Shown(YARDSTICK, YARDSTICK, "score")
    rows = []
    for one in shown:
        if one.method == YARDSTICK:
            continue
        cells = [one.title]
        for metric in ("auroc", "aupr"):
            names, ours, theirs = common(per_set(lines, one, metric), per_set(lines, yardstick, metric))
            cells += _lead_cells(ours, theirs) if names else ["", ""]
        rows.append(cells)
    return (
        f"Points; the 95 % interval by {RESAMPLES:,} paired resamples of the sets.\n\n"
        + grid(["method", "AUROC", "better : worse", "AUPR", "better : worse"], rows)
        + "\n\n"
        + _losses(lines, yardstick)
    )


def _lead_cells(ours: Sequence[float], theirs: Sequence[float]) -> list[str]:
    lead = mean_lead(ours, theirs)
    better, worse = (sum(f(a, b) for a, b in zip(ours, theirs, strict=True)) for f in (_above, _below))
    return [f"{100 * lead.value:+.1f} [{100 * lead.low:+.1f}, {100 * lead.high:+.1f}]", f"{better} : {worse}"]


def _above(ours: float, theirs: float) -> bool:
    return ours > theirs


def _below(ours: float, theirs: float) -> bool:
    return ours < theirs


def _losses(lines: Sequence[Line], yardstick: Shown) -> str:
    """Every set on which the verdict is behind the yardstick, worst first."""
    ours = per_set(lines, Shown("", "elbound", VERDICT), "auroc")
    names, mine, theirs = common(ours, per_set(lines, yardstick, "auroc"))
    rows = {line["set"]: line["sizes"]["rows"] for line in lines}
    behind = sorted((100 * (a - b), name) for name, a, b in zip(names, mine, theirs, strict=True) if a < b)
    listed = ", ".join(f"{name} {lead:+.1f}" for lead, name in behind) or "none"
    gross = ", ".join(f"{name} {lead:+.1f}" for lead, name in behind if lead < -LOSS and rows[name] >= LARGE) or "none"
    return (
        f"Behind {YARDSTICK} in AUROC: {listed}.  \nBy more than {LOSS:g} points with at least {LARGE} rows: {gross}."
    )


def _every_set(lines: Sequence[Line], shown: Sequence[Shown]) -> str:
    values = {one.title: [per_set(lines, one, metric) for metric in ("auroc", "aupr")] for one in shown}
    sizes = {line["set"]: line["sizes"] for line in lines}
    rows = []
    for name in sets_of(lines):
        size = sizes[name]
        cells = [name, f"{size['rows']:,} x {size['columns']:,}", f"{size['anomalies']:,}"]
        for auroc, aupr in values.values():
            cells.append(f"{percent(auroc[name])} / {percent(aupr[name])}" if name in auroc else "")
        rows.append(cells)
    return grid(["set", "rows x columns", "anomalies", *values], rows)


def _scores(lines: Sequence[Line]) -> str:
    """Each raw score alone, over the sets that have it."""
    rows = []
    for method in ("elbound", "elbound fast"):
        own = [line for line in lines if line["method"] == method]
        for name in dict.fromkeys(name for line in own for name in line["results"][tables.ANOMALIES]):
            auroc, aupr = (per_set(own, Shown("", method, name), metric) for metric in ("auroc", "aupr"))
            rows.append([method, name, _mean(auroc), _mean(aupr), str(len(auroc))])
    return grid(["method", "score", "AUROC", "AUPR", "sets"], rows)


def _false_alarms(lines: Sequence[Line]) -> str:
    own = [line for line in lines if line["method"] == "elbound"]
    rows = [_pooled_row("**all sets and seeds**", own)]
    rows += [_pooled_row(name, [line for line in own if line["set"] == name]) for name in sets_of(own)]
    return (
        "Alarms of the verdict among test normals, summed over seeds, with the central 95 % interval of the sum of "
        "independent beta-binomials: what a kept promise allows. Splits whose calibration does not resolve alpha can "
        "raise no alarm and are left out. Rows that repeat in a set belong to both sides; the law is then a guide. "
        "Of many intervals about one in twenty is missed (marked !).\n\n"
        + grid(["set", "calibration", *(f"alpha = {alpha:g}" for alpha in ALPHAS)], rows)
    )


def _pooled_row(title: str, lines: Sequence[Line]) -> list[str]:
    counts = [one for line in lines for one in alarms_of(line)]
    sizes = sorted({one.calibration for one in counts})
    calibration = "" if not sizes else f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}"
    return [title, calibration, *(alarm_cell(counts, alpha) for alpha in ALPHAS)]


def _failures(lines: Sequence[Line]) -> list[str]:
    said = []
    for line in lines:
        reason = line.get("failed")
        if reason:
            said.append(f"- {line['part']} {line['set']} seed {line['seed']} {line['method']}: {reason}")
    return ["## Not measured\n\n" + "\n".join(said)] if said else []
