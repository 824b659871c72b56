"""Held-out normals that are typical and those that surprise most, and how well each feature is explained."""

import numpy as np
import torch
from torch import Tensor

from elbound.data.image import ImagePreprocessor
from elbound.detector import Member
from elbound.fit.detector import Fitted
from elbound.scorer import Scorer
from training.report.facts import Example, Examples, FeatureFit, NotChecked
from training.report.latent import decoded

SHOWN = 6
SHOWN_CELLS = 5
FIT_ITEMS = 500


def find_examples(fitted: Fitted) -> Examples:
    """Calibration items around the median of the verdict, and those with the largest scores."""
    calibration, split = fitted.scorer.calibration, fitted.split
    verdict = calibration.calibration_verdict()
    order = np.argsort(verdict, kind="stable")
    middle = max(0, len(order) // 2 - SHOWN // 2)
    picked = {"typical": order[middle : middle + SHOWN], "worst": order[: -SHOWN - 1 : -1]}
    p_values = calibration.verdict.p_values(verdict)
    found = {
        name: [
            Example(int(split.calibration[place]), float(p_values[place]), cells)
            for place, cells in zip(places, _cells(fitted.scorer, fitted.x[split.calibration[places]]), strict=True)
        ]
        for name, places in picked.items()
    }
    return Examples(**found)


@torch.inference_mode()
def feature_errors(member: Member, x: Tensor, *, chunk: int) -> Tensor:
    """The mean reconstruction error of each feature over events `(n, *event)`, `(*event)`; NaN where none was seen."""
    total, seen = torch.zeros(x.shape[1:]).double(), torch.zeros(x.shape[1:]).double()
    for part in x[:FIT_ITEMS].split(chunk):
        terms = member.observe(part.to(member.noise.device)).terms
        total += member.model.likelihood.error(terms.prediction, terms.x).mean(0).sum(0).cpu()
        seen += (~terms.x[0].isnan()).sum(0).cpu()
    return total / torch.where(seen > 0, seen, torch.nan)


def fit_of_features(scorer: Scorer, x: Tensor) -> FeatureFit | NotChecked:
    """The columns' errors on held-out rows; for images the picture of the errors is all there is."""
    if scorer.table is None:
        return NotChecked("the features of an image have no names")
    errors = feature_errors(next(scorer.detector.each()), x, chunk=scorer.detector.cpu_chunk)
    return FeatureFit(list(scorer.table.schema.names), errors.tolist())


@torch.inference_mode()
def rebuilt(scorer: Scorer, x: Tensor) -> Tensor | None:
    """What the first model's first net expects of events `(n, *event)`, in the units of the data; None if it cannot."""
    member = next(scorer.detector.each())
    if member.view.costly or len(x) == 0:
        return None
    seen = decoded(member, member.observe(x.to(scorer.device)).posterior.mu, scorer.schema)
    found = member.view.inverse(seen.to(scorer.device))
    return None if found is None else found.cpu()


def pixels_of(scorer: Scorer, x: Tensor) -> np.ndarray:
    """Events or rebuilt ones as pixels for people, `(n, height, width[, 3])` uint8."""
    assert scorer.image is not None
    top = 2**scorer.image.schema.bits - 1
    pixels: np.ndarray = ImagePreprocessor(scorer.image.schema).from_tensor(x.float().round().clamp(0, top))
    return pixels


def _cells(scorer: Scorer, x: Tensor) -> list[list[tuple[str, str, str]]]:
    """For each row the columns that differ most from what was expected: name, seen, expected."""
    expected = None if scorer.table is None else rebuilt(scorer, x)
    if scorer.table is None or expected is None:
        return [[] for _ in range(len(x))]
    member = next(scorer.detector.each())
    with torch.inference_mode():
        terms = member.observe(x.to(scorer.device)).terms
        error = member.model.likelihood.error(terms.prediction, terms.x).mean(0).cpu()
    seen, wanted = scorer.table.from_tensor(x), scorer.table.from_tensor(expected)
    names = scorer.table.schema.names
    return [
        [(names[j], _text(seen[names[j]][i]), _text(wanted[names[j]][i])) for j in row[:SHOWN_CELLS]]
        for i, row in enumerate(error.argsort(1, descending=True).tolist())
    ]


def _text(value: object) -> str:
    if value is None:
        return "missing"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
