"""What a model decides at every rate that may be asked for: thresholds, medians and histograms of its normals."""

from weakref import WeakKeyDictionary

import numpy as np
import orjson

from elbound.calibration.conformal import ConformalCalibrator
from elbound.scorer import Scorer

MAX_ALPHAS = 256
LARGEST_ALPHA = 0.5
BINS = 40
DRAWN_SHARE = 0.995
"""The last bin holds what lies above this share of the normals: their tail may be as long as all the rest."""
_DOCUMENTS: "WeakKeyDictionary[Scorer, bytes]" = WeakKeyDictionary()


def scales_document(scorer: Scorer) -> bytes:
    """JSON, made once for a model: some ms, or tens of them where it has a guarantee or many groups."""
    document = _DOCUMENTS.get(scorer)
    if document is None:
        document = _DOCUMENTS[scorer] = orjson.dumps(_scales(scorer))
    return document


def _scales(scorer: Scorer) -> dict[str, object]:
    calibration, guarantee = scorer.calibration, scorer.guarantee
    alphas = slider_alphas(calibration.verdict)

    def scale(calibrator: ConformalCalibrator) -> dict[str, object]:
        thresholds = [calibrator.threshold(alpha, guarantee) for alpha in alphas]
        return {"median": calibrator.median, "thresholds": thresholds}

    groups = calibration.item_groups
    return {
        "model": {"name": scorer.name, "version": scorer.version},
        "alpha": scorer.alpha,
        "guarantee": guarantee,
        "n_calibration": calibration.n,
        "smallest_alpha": calibration.verdict.smallest_alpha_with(guarantee),
        "warning": scorer.unresolved(scorer.alpha, guarantee),
        "alphas": alphas,
        "verdict": {
            "rule": calibration.rule.name,
            **scale(calibration.verdict),
            "histogram": histogram(calibration.verdict.sorted_scores),
        },
        "scores": {
            name: {
                "unit": scorer.detector.units[name],
                **scale(calibrator),
                "histogram": histogram(calibrator.sorted_scores),
            }
            for name, calibrator in calibration.by_score.items()
        },
        "groups": None
        if groups is None
        else {
            "by": scorer.schema.group_by,
            "used": {
                name: {"n_calibration": ranking.verdict.n, **scale(ranking.verdict)}
                for name, ranking in zip(groups.names, calibration.by_group, strict=True)
            },
        },
    }


def slider_alphas(verdict: ConformalCalibrator) -> list[float]:
    """Rates that a rank realises, rising to a half: all, or `MAX_ALPHAS` at most, denser where they are small."""
    largest = max(1, int(LARGEST_ALPHA * (verdict.n + 1)))
    ranks = np.arange(1, largest + 1)
    if largest > MAX_ALPHAS:
        ranks = np.unique(np.geomspace(1, largest, MAX_ALPHAS).round().astype(int))
    return [verdict.alpha_of(k) for k in ranks.tolist()]


def histogram(scores: np.ndarray) -> dict[str, list[float] | list[int]]:
    """Of the finite `scores`, which rise: `BINS` counts between edges that rise."""
    finite = scores[np.isfinite(scores)]
    edges = np.histogram_bin_edges(finite, BINS)
    if len(finite):
        body = np.linspace(finite[0], np.quantile(finite, DRAWN_SHARE), BINS)
        if (np.diff([*body, finite[-1]]) > 0).all():
            edges = np.append(body, finite[-1])
    return {"edges": edges.tolist(), "counts": np.histogram(finite, edges)[0].tolist()}
