"""The verdict: *ship*, *do not ship* or *undecided*, with every reason. Each rule is a function of its own."""

from elbound.errors import ElboundError
from training.report.collapse import is_collapsed
from training.report.defects import defect_reasons
from training.report.facts import (
    BaselineFacts,
    CalibrationFacts,
    ColumnChange,
    DriftFacts,
    Facts,
    NotChecked,
    Rival,
    TrendFacts,
    Verdict,
)

LEAST_LEAD, LEAST_SYNTHETIC_LOW = 0.01, 0.03
DRIFT_P = 0.001
LEAST_SHIFT = 0.5
LEAST_GROUPS = 10
LONGER = 4
SHOWN = 2


class DoNotShip(ElboundError):
    """What `--strict` raises where the verdict is not *ship*: the bundle is written, and should not be served yet."""

    default_code = "do_not_ship"


def judge(facts: Facts) -> Verdict:
    """All reasons, all that is missing for a verdict, and every part that was not checked."""
    reasons = [
        *alpha_reasons(facts),
        *collapse_reasons(facts),
        *baseline_reasons(facts),
        *calibration_reasons(facts),
        *change_reasons(facts),
        *defect_reasons(facts.defects),
    ]
    missing = [*missing_baselines(facts), *missing_groups(facts)]
    parts = {
        "posterior collapse": facts.collapse,
        "baselines": facts.baselines,
        "calibration": facts.calibration,
        "drift": facts.drift,
        "alarms along the file": facts.trend,
    }
    unchecked = {name: part.because for name, part in parts.items() if isinstance(part, NotChecked)}
    if isinstance(facts.collapse, list):
        unchecked |= {
            f"posterior collapse of the model {use.name}": use.nets.because
            for use in facts.collapse
            if isinstance(use.nets, NotChecked)
        }
        unchecked |= {
            f"posterior collapse of the model {use.name}": "no two columns depend on each other: there is nothing to "
            "encode, and a latent that is not used is right"
            for use in facts.collapse
            if is_collapsed(use) and facts.independent_columns
        }
    if isinstance(facts.baselines, BaselineFacts):
        unchecked |= {f"baseline {name}": why for name, why in facts.baselines.skipped.items()}
    return Verdict(reasons, unchecked, missing)


def leads(rival: Rival, *, synthetic: bool) -> bool:
    """Whether a baseline's lead is a reason: it is no chance, and worth the change.

    The interval is wide enough for all baselines at once, and must lie above 0: chance among them blocks in at most 1
    case of 20. Over many items it is narrow and would block for a lead that nobody feels, so the lead must be 0.01
    AUROC, about what another seed moves. Synthetic anomalies are not those that will come: on tables where real ones
    are known, baselines led by up to 0.05 (the interval from 0.013 at most) on synthetic anomalies and were behind on
    the real ones. There the whole interval must lie above 0.03, as it does for a model of 2 steps (from 0.05).
    """
    if synthetic:
        return rival.low > LEAST_SYNTHETIC_LOW
    return rival.low > 0 and rival.lead >= LEAST_LEAD


def drifts(drift: DriftFacts) -> bool:
    """Whether either test of first against last third has p < 0.001: two tests of data at rest do in 1 of 500 cases."""
    return min(drift.kolmogorov_smirnov_p, drift.mann_whitney_p) < DRIFT_P


def alpha_reasons(facts: Facts) -> list[str]:
    """One where nothing can ever be an anomaly: known from the sizes alone, whatever else the report reaches."""
    return [] if facts.unresolved is None else [facts.unresolved]


def alarms_ahead(trend: TrendFacts) -> bool:
    """Whether a model of the first 80 % alarms too often on the last tenth: rows in random order do in 1 of 2,000.

    Only too many alarms count: ties at the threshold make them fewer, and a quieter end breaks no promise.
    """
    return trend.check.alarms > trend.check.high


def missing_baselines(facts: Facts) -> list[str]:
    """One where no baseline was compared: nobody then knows whether the model is worth more than its neighbours."""
    found = facts.baselines
    if isinstance(found, NotChecked):
        why = found.because
    elif found.rivals:
        return []
    else:
        why = next(iter(found.skipped.values()), "there is none")
    advice = f"; give --report-budget {_longer(facts):.0f}" if "budget" in why else ""
    return [f"no baseline was compared ({why}){advice}"]


def missing_groups(facts: Facts) -> list[str]:
    """One where so few groups calibrate that nobody sees how much their rates of false alarms differ.

    The rate is promised over items; the items of one group are alike, and new groups are what comes.
    """
    if facts.held_out_groups is None or facts.held_out_groups >= LEAST_GROUPS:
        return []
    return [
        f"{facts.held_out_groups} groups of --split-by calibrate, too few to see whether the false-alarm rate holds "
        f"for new groups; it takes {LEAST_GROUPS}, so about {5 * LEAST_GROUPS} groups of about the same size in all"
    ]


def collapse_reasons(facts: Facts) -> list[str]:
    """One for each model that does not use its latent although columns depend on each other."""
    if isinstance(facts.collapse, NotChecked) or facts.independent_columns:
        return []
    return [
        f"the latent of the model {use.name!r} has collapsed (posterior collapse): what it decodes hardly depends on "
        f"the item; try fewer dimensions (--latent), more steps (--steps) or more data"
        for use in facts.collapse
        if is_collapsed(use)
    ]


def baseline_reasons(facts: Facts) -> list[str]:
    """One for each baseline that leads."""
    if isinstance(facts.baselines, NotChecked):
        return []
    kind = "synthetic" if facts.baselines.synthetic else "given"
    return [
        f"{rival.name} ({rival.note}) does better on the {kind} anomalies: AUROC {rival.auroc:.3f} against "
        f"{facts.baselines.auroc:.3f}, a lead of {rival.lead:.3f} ({rival.low:.3f} to {rival.high:.3f}); train longer "
        f"(--steps), or use {rival.name}"
        for rival in facts.baselines.rivals
        if leads(rival, synthetic=facts.baselines.synthetic)
    ]


def calibration_reasons(facts: Facts) -> list[str]:
    """One where any count of alarms is outside of what a kept promise allows."""
    if not isinstance(facts.calibration, CalibrationFacts) or not facts.calibration.broken:
        return []
    broken = facts.calibration.broken
    shown = "; ".join(
        f"{check.what}: {check.alarms} of {check.items} at alpha = {check.alpha:g} = {check.rate:.3f}, allowed are "
        f"{check.low} to {check.high}"
        for check in sorted(broken, key=lambda check: -abs(check.rate - check.alpha))[:SHOWN]
    )
    rest = f" and {len(broken) - SHOWN} more" if len(broken) > SHOWN else ""
    return [
        f"the false-alarm rate is not the one that was asked for in {facts.calibration.by} ({shown}{rest}); "
        f"{_advice(facts.calibration)}"
    ]


def change_reasons(facts: Facts) -> list[str]:
    """One where the data change along the file, with all that shows it and the column that moves most."""
    shown: list[str] = []
    column: ColumnChange | None = None
    if isinstance(facts.trend, TrendFacts):
        trend = facts.trend
        moved = trend.moved if trend.moved is not None and abs(trend.moved.shift) >= LEAST_SHIFT else None
        if alarms_ahead(trend):
            check = trend.check
            shown.append(
                f"a model of the first 80 % (distance to the 5th neighbour) alarms on {check.alarms} of {check.items} "
                f"later rows at alpha = {check.alpha:.3g} (at most {check.high} allowed)"
            )
            column = moved
        if trend.growing:
            column = trend.growing[0]
            more = f", and {len(trend.growing) - 1} more" if len(trend.growing) > 1 else ""
            shown.append(f"column {column.name!r} {_direction(column)} from the first row to the last{more}")
    if isinstance(facts.drift, DriftFacts) and drifts(facts.drift):
        drift = facts.drift
        shown.append(
            f"held-out scores of the first and the last third differ (p = "
            f"{min(drift.kolmogorov_smirnov_p, drift.mann_whitney_p):.1g}, medians {drift.first_median:.3g} and "
            f"{drift.last_median:.3g})"
        )
    if not shown:
        return []
    leave = "" if column is None else f", take out the column that moves ({column.name!r}: {_moves(column)})"
    return [
        f"the data change along the file: {'; '.join(shown)}; train on recent data{leave}, say with --split-by which "
        f"rows belong together where neighbours are alike, or, where the order means nothing (rows sorted by kind), "
        f"shuffle them"
    ]


def _direction(column: ColumnChange) -> str:
    return "rises" if column.correlation > 0 else "falls"


def _moves(column: ColumnChange) -> str:
    return f"its mean in the last tenth lies {column.shift:+.2g} standard deviations from that of the rows before"


def _longer(facts: Facts) -> float:
    """Seconds of a budget in which the first baseline should come to its turn."""
    return max(60.0, LONGER * facts.budget_seconds)


def _advice(calibration: CalibrationFacts) -> str:
    if calibration.by.startswith("groups"):
        return (
            "the items of one group are alike, and the promise counts each as a new one; more groups in the training "
            "data bring it nearer"
        )
    return "say what belongs together with --split-by, train on recent data, or shuffle rows that are sorted by kind"
