"""Whether the promised rate holds: block by block, and on the validation part; and whether the data drift."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from elbound.calibration.calibration import Calibration
from elbound.calibration.conformal import ConformalCalibrator
from elbound.data.split import Split
from elbound.evaluation import allowed_alarms, realised_rate
from elbound.schema import list_names
from training.report.facts import CalibrationFacts, DriftFacts, NotChecked, RateCheck

ALPHAS = (0.1, 0.05, 0.01)
BLOCKS = 10
LEAST_BLOCK = 5
FALSE_REPORTS = 0.001
"""How often data that keep the promise may be reported as broken, over all counts of one check."""
LEAST_THIRD = 20


def check_calibration(
    calibration: Calibration, split: Split, groups: Sequence[object] | None, *, alpha: float
) -> CalibrationFacts | NotChecked:
    """Alarms of each block by the thresholds of the others, and of the validation part by those of the bundle.

    Random folds of exchangeable items keep every promise by construction and would test nothing. A block is some
    whole `groups` where they are known, else a stretch of the data's order: where blocks differ, the next block will
    too. The verdict's tails were fitted on the validation part, so that part tests each score and not the verdict.
    """
    if not calibration.held_out:
        return NotChecked("the same few items trained and calibrated")
    verdict = calibration.calibration_verdict()
    label = block_labels(split.calibration, groups)
    names = _block_names(split.calibration, label, groups)
    if label.max() == 0:
        return NotChecked("the calibration part has one block alone")
    alphas = sorted({*ALPHAS, alpha}, reverse=True)
    spread = calibration.verdict.spread
    p_values = block_p_values(verdict, label, spread=spread)
    reference = dict(zip(calibration.names, calibration.reference_scores.T, strict=True))
    first = calibration.names[0]
    blocks = _block_checks(verdict, label, names, alphas, spread=spread)
    return CalibrationFacts(
        by=_kind_of_block(groups, pooled=calibration.item_groups is not None),
        blocks=blocks,
        overall=_overall(blocks, len(verdict)),
        validation=_validation_checks(calibration, reference, alphas),
        p_values=p_values,
        validation_p_values=calibration.by_score[first].p_values(reference[first]),
    )


def block_labels(places: np.ndarray, groups: Sequence[object] | None) -> npt.NDArray[np.int64]:
    """A block from 0 on for each of the items at `places`, at most `BLOCKS` of about the same size.

    Whole groups, the small ones together, or stretches of the order of at least `LEAST_BLOCK` items.
    """
    n = len(places)
    if groups is None:
        count = max(1, min(BLOCKS, n // LEAST_BLOCK))
        stretches: npt.NDArray[np.int64] = np.arange(n) * count // n
        return stretches
    names, group = np.unique([str(groups[i]) for i in places], return_inverse=True)
    sizes, filled = np.bincount(group), np.zeros(min(BLOCKS, len(names)), dtype=np.int64)
    block_of = np.zeros(len(names), dtype=np.int64)
    for g in np.argsort(-sizes, kind="stable"):
        block_of[g] = filled.argmin()
        filled[block_of[g]] += sizes[g]
    blocks: npt.NDArray[np.int64] = block_of[group]
    return blocks


def block_p_values(scores: np.ndarray, label: npt.NDArray[np.int64], *, spread: float) -> np.ndarray:
    """The p-value of each score `(n,)` against the items of all other blocks."""
    p_values = np.empty(len(scores))
    for block in range(label.max() + 1):
        inside = label == block
        p_values[inside] = ConformalCalibrator(scores[~inside], spread=spread).p_values(scores[inside])
    return p_values


def drift(verdict: np.ndarray, groups: Sequence[object] | None = None) -> DriftFacts | NotChecked:
    """Two-sample tests of the first and the last third of held-out verdict scores, `(n,)` in the order of the data.

    Of `groups` (one label an item) each counts once, with its median: its items are no independent evidence.
    Kolmogorov and Smirnov's test sees any change of the law, Mann and Whitney's a shift. With ties the first one has
    its asymptotic law (exact counts fail there), in which ties make p larger, and the second one corrects for them.
    """
    from scipy.stats import ks_2samp, mannwhitneyu

    if groups is not None:
        labels = np.array([str(group) for group in groups])
        verdict = np.array([np.median(verdict[labels == group]) for group in dict.fromkeys(labels.tolist())])
    third = len(verdict) // 3
    if third < LEAST_THIRD:
        kind = "items" if groups is None else "groups"
        return NotChecked(
            f"it takes {3 * LEAST_THIRD} calibration {kind} to compare the first third with the last, and there are "
            f"{len(verdict)}"
        )
    first, last = verdict[:third], verdict[-third:]
    method = "auto" if len(np.unique(verdict)) == len(verdict) else "asymp"
    return DriftFacts(
        items=third,
        first_median=float(np.median(first)),
        last_median=float(np.median(last)),
        kolmogorov_smirnov_p=float(ks_2samp(first, last, method=method).pvalue),
        mann_whitney_p=float(mannwhitneyu(first, last).pvalue),
    )


def _kind_of_block(groups: Sequence[object] | None, *, pooled: bool) -> str:
    """What a block is, and that thresholds are those of all items where groups have their own."""
    kind = "groups that were held out together" if groups is not None else "stretches of the data's order"
    return kind + (", by the thresholds of all items and not those of each group of --group-by" if pooled else "")


def _block_names(places: np.ndarray, label: npt.NDArray[np.int64], groups: Sequence[object] | None) -> list[str]:
    """The number of each block with its first and last place in the data, or with its groups."""
    names = []
    for block in range(int(label.max()) + 1):
        inside = places[label == block]
        if groups is None:
            what = f"items {inside[0]:,} to {inside[-1]:,}"
        else:
            what = f"groups {list_names(dict.fromkeys(str(groups[i]) for i in inside))}"
        names.append(f"block {block + 1}, {what}")
    return names


def _block_checks(
    verdict: np.ndarray, label: npt.NDArray[np.int64], names: list[str], alphas: Sequence[float], *, spread: float
) -> list[RateCheck]:
    confidence = 1 - FALSE_REPORTS / (len(names) * len(alphas))
    checks = []
    for block, name in enumerate(names):
        inside = label == block
        others = ConformalCalibrator(verdict[~inside], spread=spread)
        checks += _checks(name, others, verdict[inside], alphas, confidence)
    return checks


def _validation_checks(
    calibration: Calibration, reference: dict[str, np.ndarray], alphas: Sequence[float]
) -> list[RateCheck]:
    confidence = 1 - FALSE_REPORTS / (len(reference) * len(alphas))
    return [
        check
        for name, scores in reference.items()
        for check in _checks(name, calibration.by_score[name], scores, alphas, confidence)
    ]


def _checks(
    what: str, calibrator: ConformalCalibrator, scores: np.ndarray, alphas: Sequence[float], confidence: float
) -> list[RateCheck]:
    """Those of the alphas that resolve."""
    found = []
    for alpha in alphas:
        if calibrator.rank(alpha):
            rate = realised_rate(calibrator, scores, alpha, confidence=confidence)
            found.append(RateCheck(rate.alarms, rate.items, rate.low, rate.high, what, alpha, tied=rate.tied))
    return found


def _overall(blocks: Sequence[RateCheck], n: int) -> list[RateCheck]:
    """All blocks together, beside the 95 % interval of `n` fresh normals and `n` calibration items."""
    found = []
    for alpha in sorted({check.alpha for check in blocks}, reverse=True):
        low, high = allowed_alarms(n, max(1, int(alpha * (n + 1))), n, 0.95)
        alarms = sum(check.alarms for check in blocks if check.alpha == alpha)
        tied = sum(check.tied for check in blocks if check.alpha == alpha)
        found.append(RateCheck(alarms, n, low, high, "all blocks", alpha, tied=tied))
    return found
