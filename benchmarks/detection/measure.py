"""One job: load, fit, score, and say what came out. Runs in a worker process on one core."""

import multiprocessing
import os
import threading
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.detection import images, tables
from benchmarks.detection.ours import OURS, VERDICT, Ours, pixel_auroc
from benchmarks.detection.peers import IMAGE_PEERS, TABLE_PEERS, import_of
from benchmarks.detection.task import Job, Task
from elbound.evaluation import auroc, average_precision, realised_rate
from elbound.scorer import Scorer

ALPHAS = (0.01, 0.05, 0.1)
PARTS = ("tables", "shift", "one-class", "circuits", "tiles", "patches")


def start_worker() -> None:
    """One thread for torch; the environment has said so to the others.

    The first optimiser of a process makes torch import a good deal more of itself: that is no fit's time.
    """
    import torch

    torch.set_num_threads(1)
    torch.optim.AdamW([torch.zeros(1, requires_grad=True)])
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    warnings.simplefilter("ignore")


def _end_with_the_parent() -> None:
    """A worker whose parent was killed would wait for jobs for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def run_job(data: Path, job: Job) -> dict[str, Any]:
    """What the line of `job` says; `failed` with the reason where it could not be measured."""
    started = time.perf_counter()
    try:
        found = measure(load(data, job), job)
    except Exception as error:  # one method's failure costs its own line
        found = {"failed": f"{type(error).__name__}: {str(error).strip()[:300]}"}
    return {**found, "wall_s": round(time.perf_counter() - started, 3)}


def load(data: Path, job: Job) -> Task:
    """The task of a job."""
    if job.part == "tables":
        return tables.load(data, job.set, seed=job.seed, max_test=job.limit)
    return images.load(data, job.part, job.set, seed=job.seed, max_train=job.limit)


def measure(task: Task, job: Job) -> dict[str, Any]:
    """Fit and score in seconds, AUROC and AUPR by anomaly and score, and for ours the false alarms."""
    sizes = {"train": len(task.train), "test": len(task.normal), **task.facts}
    if job.method in OURS:
        return {"sizes": sizes, **_measure_ours(task, job)}
    import_of(job.method)
    fit = (TABLE_PEERS if task.is_table else IMAGE_PEERS)[job.method]
    score, fit_s = _timed(lambda: fit(task.train, job.seed))
    return {"sizes": sizes, "fit_s": fit_s, **_separate(task, lambda items: {"score": np.float64(score(items))})[0]}


def _measure_ours(task: Task, job: Job) -> dict[str, Any]:
    ours = Ours(job.method)
    _, fit_s = _timed(lambda: ours.fit(task, job.seed))
    found, normal = _separate(task, ours.scores)
    line = {"fit_s": fit_s, **found, "alarms": _alarms(ours.scorer, normal[VERDICT])}
    if task.masks:
        line["pixel_auroc"] = pixel_auroc(ours.scorer, task)
    return line


def _separate(
    task: Task, scores: Callable[[np.ndarray], dict[str, np.ndarray]]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """AUROC and AUPR of every score on every kind of anomaly, and the scores of the test normals."""
    normal, seconds = _timed(lambda: scores(task.normal))
    results = {}
    for kind, items in task.odd.items():
        odd, more = _timed(partial(scores, items))
        seconds += more
        results[kind] = {
            name: {"auroc": auroc(values, odd[name]), "aupr": average_precision(values, odd[name])}
            for name, values in normal.items()
        }
    return {"score_s": seconds, "scored": task.scored, "results": results}, normal


def _alarms(scorer: Scorer, normal: np.ndarray) -> list[dict[str, float]]:
    """False alarms of the verdict on the test normals at each alpha, with what their law needs."""
    verdict = scorer.calibration.verdict
    if not scorer.calibration.held_out:
        return []
    return [
        {
            "alpha": alpha,
            "alarms": realised_rate(verdict, normal, alpha).alarms,
            "items": len(normal),
            "calibration": verdict.n,
            "k": verdict.rank(alpha),
        }
        for alpha in ALPHAS
    ]


def _timed(run: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    return run(), time.perf_counter() - started
