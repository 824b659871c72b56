"""Which kinds of known defects the model finds, and whether its heat maps show where they are."""

import numpy as np

from elbound.calibration.calibration import ScoredItems
from elbound.evaluation import allowed_alarms, auroc
from elbound.explain.heat import heat_maps
from elbound.schema import ImageSchema
from elbound.scorer import Scorer
from training.inputs.source import KnownItems
from training.report.budget import Budget
from training.report.facts import DefectFacts, DefectKind, NotChecked

AT_ONCE = 64
FALSE_REPORTS = 0.001
"""How often a promise that is kept may be reported as broken."""
LEAST_NORMALS = 10
"""Fewer known normal items do not make an AUROC; the calibration items do then."""
MOST_MAPPED = 400
"""Images whose heat maps are compared with masks; there are many pixels in each."""
SCORING_SHARE = 0.6
"""Of the time; the rest is for heat maps."""


def evaluate_defects(scorer: Scorer, known: KnownItems, budget: Budget, *, seed: int) -> DefectFacts | NotChecked:
    """Alarms at the bundle's alpha and AUROC for each kind of defect, worst first, and pixel AUROC where masks are.

    Items are scored in a random order, so that those which the budget reaches are a fair sample.
    """
    assert isinstance(scorer.schema, ImageSchema)
    order = np.random.default_rng(seed).permutation(len(known.kinds))
    scored = _score(scorer, known, order, budget.share(SCORING_SHARE))
    if scored is None:
        return budget.not_checked
    order = order[: len(scored)]
    kinds = np.array([known.kinds[place] or "" for place in order])
    defect, alarm = kinds != "", scorer.decide(scored).is_anomaly
    if not defect.any():
        return NotChecked("no picture of a defect was read")
    normals = int((~defect).sum())
    reference = scored.score[~defect] if normals >= LEAST_NORMALS else scorer.calibration.calibration_verdict()
    heat = _Heat(scorer, known, order, budget)
    found = []
    for kind in sorted({*kinds[defect].tolist()}):
        own = np.flatnonzero(kinds == kind)
        typical = own[np.argsort(scored.score[own])[len(own) // 2]]
        found.append(
            DefectKind(
                kind=kind,
                items=len(own),
                found=int(alarm[own].sum()),
                auroc=auroc(reference, scored.score[own]),
                pixel_auroc=heat.auroc(kind),
                example=int(order[typical]),
                example_p_value=float(scored.p_value[typical]),
            )
        )
    verdict = scorer.calibration.verdict
    k = verdict.rank(scorer.alpha, scorer.guarantee)
    low, high = allowed_alarms(normals, k, verdict.n, 1 - FALSE_REPORTS) if k and normals else (0, 0)
    return DefectFacts(
        alpha=scorer.alpha,
        kinds=sorted(found, key=lambda one: (one.auroc, one.found / one.items)),
        items=int(defect.sum()),
        found=int(alarm[defect].sum()),
        auroc=auroc(reference, scored.score[defect]),
        normals=normals,
        false_alarms=int(alarm[~defect].sum()),
        low=low,
        high=high,
        resize=scorer.schema.resize,
        pixel_auroc=heat.auroc(),
        mapped=len(heat.places),
        left_out=_left_out(known, order, heat, budget),
    )


def defect_reasons(found: DefectFacts | NotChecked | None) -> list[str]:
    """One where more of the known normal items raise an alarm than a kept promise allows."""
    if not isinstance(found, DefectFacts) or found.false_alarms <= found.high:
        return []
    borders = "; where their shapes differ, try --resize stretch" if found.resize == "fit" else ""
    return [
        f"{found.false_alarms} of {found.normals} good pictures that came with the data raise a false alarm at alpha = "
        f"{found.alpha:g}, allowed are {found.low} to {found.high}: they differ from those that trained, or these "
        "repeat each other; say what belongs together with --split-by, or train on pictures of every kind that is "
        f"normal{borders}"
    ]


def _score(scorer: Scorer, known: KnownItems, order: np.ndarray, budget: Budget) -> ScoredItems | None:
    """Scores of the items in `order`, as many as the time does for; None where it does for none."""
    parts = []
    for start in range(0, len(order), AT_ONCE):
        if budget.over():
            break
        places = order[start : start + AT_ONCE].tolist()
        part = scorer.score_tensor(known.x[places])
        if known.groups is not None:
            part = scorer.calibration.judge_by_group(part, [known.groups[place] for place in places])
        parts.append(part)
    return ScoredItems.concatenate(parts) if parts else None


class _Heat:
    """Heat maps of the images whose defects are known to the pixel, the normal ones included."""

    def __init__(self, scorer: Scorer, known: KnownItems, order: np.ndarray, budget: Budget) -> None:
        self.kinds = known.kinds
        self.places: list[int] = []
        self.maps: list[np.ndarray] = []
        self.masks: list[np.ndarray] = []
        self.telling = [place for place in order.tolist() if place in known.masks or known.kinds[place] is None]
        nothing = np.zeros(known.x.shape[-2:], dtype=bool)
        wanted = self.telling[:MOST_MAPPED] if known.masks else []
        for start in range(0, len(wanted), AT_ONCE):
            if budget.over():
                break
            places = wanted[start : start + AT_ONCE]
            self.maps += list(heat_maps(scorer, known.x[places]))
            self.masks += [known.masks.get(place, nothing) for place in places]
            self.places += places

    def auroc(self, kind: str | None = None) -> float | None:
        """The chance that a pixel of a defect is hotter than another one, over the images of a kind, or over all.

        None where there are no pixels of defects, or no others.
        """
        own = [i for i, place in enumerate(self.places) if kind is None or self.kinds[place] == kind]
        if not own:
            return None
        heat = np.concatenate([self.maps[i].ravel() for i in own]).astype(np.float64)
        mask = np.concatenate([self.masks[i].ravel() for i in own])
        return auroc(heat[~mask], heat[mask]) if 0 < mask.sum() < len(mask) else None


def _left_out(known: KnownItems, order: np.ndarray, heat: _Heat, budget: Budget) -> list[str]:
    """What was not computed, in sentences."""
    sentences = []
    if len(order) < len(known.kinds):
        sentences.append(
            f"{len(order):,} of {len(known.kinds):,} pictures were scored, drawn at random, since "
            f"{budget.not_checked.because}"
        )
    if not known.masks:
        sentences.append("there are no masks, so nothing is said of the heat maps")
    elif len(heat.places) < len(heat.telling):
        why = f"{MOST_MAPPED:,} are enough" if len(heat.places) == MOST_MAPPED else budget.not_checked.because
        sentences.append(
            f"heat maps of {len(heat.places):,} of {len(heat.telling):,} pictures were compared with masks, drawn at "
            f"random, since {why}"
        )
    return sentences
