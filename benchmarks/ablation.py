"""What each part of the default detector of tables is worth: `python -m benchmarks.ablation`.

Protocol *clean* on the tables of ELBOUND_DATA, seed 0, at most 3,000 test rows: mean AUROC and average precision
over the sets. Parts of the fit are left out one at a time and fitted anew; parts of the verdict are left out of the
joint scores of one fit.
"""

import argparse
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from rich.progress import track
from torch import Tensor, nn

from benchmarks.detection.tables import ANOMALIES, load, names
from benchmarks.tables import keep
from elbound import Scorer, VAEDetector
from elbound.calibration.fusion import FusedSurprise, Groups
from elbound.detector import DetectorSpec
from elbound.evaluation import auroc, average_precision
from elbound.fit.defaults import FUSED, Plan, table_plan
from elbound.model.likelihoods import NUMERIC_LIKELIHOODS
from elbound.model.likelihoods.base import where_seen
from elbound.model.likelihoods.gaussian import PredictedGaussian, normal_log_prob
from elbound.schema import TableSchema

Joint = Mapping[str, np.ndarray]
ELBOS: Groups = (("negative_elbo",), ("normal.negative_elbo",))
VERDICTS: dict[str, Groups] = {
    "the whole": (FUSED, tuple(f"normal.{name}" for name in FUSED)),
    "without the normal view": (FUSED,),
    "without the standard view": (tuple(f"normal.{name}" for name in FUSED),),
    **{
        f"without {left}": tuple(tuple(f"{view}{name}" for name in FUSED if name != left) for view in ("", "normal."))
        for left in FUSED
    },
    "−ELBO alone, both views": ELBOS,
    "−ELBO alone, first view": ELBOS[:1],
    "neighbours alone, both views": (("neighbours",), ("normal.neighbours",)),
}


class ColumnGaussian(PredictedGaussian):
    """One learned variance for each column, the same in every row."""

    def __init__(self, features: int, variance_floor: float) -> None:
        super().__init__(features, variance_floor)
        self.logvar = nn.Parameter(torch.zeros(features))

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        mean, _ = parameters.split(self.features, -1)
        return where_seen(x, normal_log_prob(torch.nan_to_num(x), mean, self.clamp(self.logvar)))


def changed(**fields: object) -> Callable[[TableSchema, Tensor], Plan]:
    """The default plan with fields of its models changed."""

    def plan(schema: TableSchema, train: Tensor) -> Plan:
        default = table_plan(schema, train)
        models = tuple(model.model_copy(update=fields) for model in default.detector.models)
        return Plan(DetectorSpec(models=models), default.rule, default.groups)

    return plan


FITS: dict[str, Callable[[TableSchema, Tensor], Plan]] = {
    "one variance a column instead of one a row and column": changed(likelihood="column"),
    "one net a view instead of two": changed(nets=1),
    "no typed columns": changed(typed={}),
}


def scores(scorer: Scorer, x: np.ndarray) -> Joint:
    """All scores of rows, by name."""
    return scorer.score_tensor(scorer.to_tensor(x).only()).scores


def measure(name: str, max_test: int) -> dict[str, tuple[float, float]]:
    """AUROC and AUPR of every variant on one set."""
    task = load(Path(os.environ["ELBOUND_DATA"]), name, seed=0, max_test=max_test)
    found: dict[str, tuple[float, float]] = {}

    def judge(title: str, scorer: Scorer, groups: Groups) -> None:
        calibration = scorer.calibration
        reference = dict(zip(calibration.names, calibration.reference_scores.T, strict=True))
        rule = FusedSurprise(groups, reference)
        normal, odd = (rule.combine(scores(scorer, x)) for x in (task.normal, task.odd[ANOMALIES]))
        found[title] = (100 * auroc(normal, odd), 100 * average_precision(normal, odd))

    whole = VAEDetector().fit(task.train).scorer_
    for title, groups in VERDICTS.items():
        judge(title, whole, groups)
    for title, plan in FITS.items():
        with patch("elbound.fit.detector.table_plan", plan):
            scorer = VAEDetector().fit(task.train).scorer_
        judge(title, scorer, VERDICTS["the whole"])
        judge(f"{title}: −ELBO alone, both views", scorer, ELBOS)
    scorer = VAEDetector(prior="standard_normal").fit(task.train).scorer_
    judge("N(0, I) as the prior", scorer, VERDICTS["the whole"])
    judge("N(0, I) as the prior: −ELBO alone, both views", scorer, ELBOS)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", default="", help="names of tables, joined by commas")
    parser.add_argument("--max-test", type=int, default=3_000)
    options = parser.parse_args()
    NUMERIC_LIKELIHOODS["column"] = ColumnGaussian
    chosen = options.sets.split(",") if options.sets else names(Path(os.environ["ELBOUND_DATA"]))
    found = {name: measure(name, options.max_test) for name in track(chosen, "ablation")}
    titles = list(next(iter(found.values())))
    means = {title: np.mean([found[name][title] for name in chosen], 0) for title in titles}
    best = means["the whole"]
    rows = [
        [title, f"{mean[0]:.1f}", f"{mean[0] - best[0]:+.1f}", f"{mean[1]:.1f}", f"{mean[1] - best[1]:+.1f}"]
        for title, mean in means.items()
    ]
    keep(
        "ablation",
        f"What each part is worth, {len(chosen)} tables",
        ["", "AUROC", "change", "AUPR", "change"],
        rows,
        f"Protocol clean, seed 0, at most {options.max_test:,} test rows; differences under 0.5 are noise.",
    )


if __name__ == "__main__":
    main()
