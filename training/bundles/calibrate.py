"""`elbound calibrate`: fresh calibration for a model that stays as it is."""

from pathlib import Path

import numpy as np

from elbound.bundle.files import check_target
from elbound.errors import ConfigError, DataError
from elbound.fit.recalibration import recalibrated
from elbound.scorer import Scorer
from training.console import console, show_calibration, warn
from training.score.pieces import all_items


def calibrate(
    bundle: Path,
    normal: Path,
    out: Path | None,
    *,
    alpha: float | None,
    guarantee: float | None,
    trust: bool,
    device: str,
) -> Path:
    """Write a new version of `bundle`, calibrated on the items at `normal`; the old one is not touched.

    `out` is the new folder, by default beside the old one and called by the new version. Raises ElboundError.
    """
    if out is not None:
        check_target(out, force=False)
        if out.resolve().is_relative_to(bundle.resolve()):
            raise ConfigError(f"--out: {out} lies in the old bundle, which is not touched", where="out")
    old = Scorer.from_bundle(bundle, device=device)
    scores, labels = _scores(old, normal)
    fresh, difference = recalibrated(old, scores, labels=labels, alpha=alpha, guarantee=guarantee, trust=trust)
    if difference.is_certain:
        warn(
            f"the verdict scores are not distributed as before (Kolmogorov-Smirnov distance {difference.distance:.2f}, "
            f"p = {difference.p_value:.2g}): what is normal has moved; consider to train anew"
        )
    show_calibration(fresh)
    target = bundle.resolve().with_name(f"{bundle.resolve().name}-{fresh.version}") if out is None else out
    fresh.save(target)
    console.print(f"[green]wrote[/] {target}  ({fresh.name} {fresh.version}, calibrated on {len(scores):,} items)")
    console.print(f"it replaces the calibration of {old.version}; {bundle} is as it was", markup=False)
    console.print(f"next: elbound serve {target}", markup=False)
    return target


def _scores(scorer: Scorer, path: Path) -> tuple[np.ndarray, list[str | None] | None]:
    """Raw scores `(n, scores)` of the readable items at `path` and their calibration groups."""
    failures: list[DataError] = []
    scores, labels, unreadable = [], list[str | None](), 0
    with console.status("scoring") as status:
        for items in all_items(scorer, path, failures):
            scores.append(scorer.raw_scores(items.x))
            labels += items.readable_groups or [None] * len(items.x)
            unreadable += len(items.errors)
            status.update(f"scored {len(labels):,} items")
    if failures and not labels:
        raise failures[0]
    if unreadable:
        warn(f"{unreadable:,} items of {path} could not be read and are left out")
    return np.concatenate(scores), labels
