"""The verdict: *ship*, or *do not ship, because*, with every reason. Each rule is a function of its own."""

from elbound.errors import ElboundError
from training.report.collapse import is_collapsed
from training.report.defects import defect_reasons
from training.report.facts import BaselineFacts, CalibrationFacts, DriftFacts, Facts, NotChecked, Rival, Verdict

LEAST_LEAD, LEAST_SYNTHETIC_LOW = 0.01, 0.03
DRIFT_P = 0.001
SHOWN = 2


class DoNotShip(ElboundError):
    """The verdict of `--strict`: the bundle is written, and should not be served."""

    default_code = "do_not_ship"


def judge(facts: Facts) -> Verdict:
    """All reasons, and every part on which there is no verdict."""
    reasons = [
        *alpha_reasons(facts),
        *collapse_reasons(facts),
        *baseline_reasons(facts),
        *calibration_reasons(facts),
        *drift_reasons(facts),
        *defect_reasons(facts.defects),
    ]
    parts = {
        "posterior collapse": facts.collapse,
        "baselines": facts.baselines,
        "calibration": facts.calibration,
        "drift": facts.drift,
    }
    unchecked = {name: part.because for name, part in parts.items() if isinstance(part, NotChecked)}
    if isinstance(facts.collapse, list):
        unchecked |= {
            f"posterior collapse of the model {use.name}": use.nets.because
            for use in facts.collapse
            if isinstance(use.nets, NotChecked)
        }
    if isinstance(facts.baselines, BaselineFacts):
        unchecked |= {f"baseline {name}": why for name, why in facts.baselines.skipped.items()}
    return Verdict(reasons, unchecked)


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


def collapse_reasons(facts: Facts) -> list[str]:
    """One for each model that does not use its latent."""
    if isinstance(facts.collapse, NotChecked):
        return []
    return [
        f"the latent of the model {use.name!r} has collapsed (posterior collapse): what it decodes hardly depends on "
        f"the item; try fewer dimensions (--latent), more steps (--steps) or more data; columns that have nothing to "
        f"do with each other leave nothing to encode"
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


def drift_reasons(facts: Facts) -> list[str]:
    """One where the scores of the first and the last third of the data differ."""
    drift = facts.drift
    if not isinstance(drift, DriftFacts) or not drifts(drift):
        return []
    return [
        f"the data drift: held-out scores of the first and the last third differ (p = "
        f"{min(drift.kolmogorov_smirnov_p, drift.mann_whitney_p):.1g}, medians {drift.first_median:.3g} and "
        f"{drift.last_median:.3g}); train on recent data, or, where the order means nothing (rows sorted by kind), "
        f"shuffle them"
    ]


def _advice(calibration: CalibrationFacts) -> str:
    if calibration.by.startswith("groups"):
        return "more groups in the training data bring it nearer"
    return "say what belongs together with --split-by, train on recent data, or shuffle rows that are sorted by kind"
