"""Drift: what following the scores costs beside scoring, how often quiet streams alarm, how soon a shift is found.

python -m benchmarks.drift [--rounds N]
"""

import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from statistics import NormalDist

import numpy as np
import pyarrow as pa
import torch

from benchmarks.scoring import microseconds_on_one_core
from benchmarks.tables import keep, rounds
from benchmarks.training import correlated
from elbound.calibration.conformal import ConformalCalibrator
from elbound.calibration.drift import LOG_THRESHOLD, DriftMartingale, OnlineRanks
from elbound.data.infer import infer_schema
from elbound.fit.detector import DetectorConfig, fit_detector
from elbound.scorer import Scorer
from service.monitoring.drift import SLICE, ModelDrift

TRAIN_ROWS, ROWS, ONE_BY_ONE = 5_000, 20_000, 2_000
QUIET_STREAMS, QUIET_SCORES = 2_000, 10_000
SHIFTED_STREAMS, SHIFTED_SCORES = 200, 2_000
SHIFT = NormalDist().inv_cdf(0.75)
"""Added to normal scores, it lowers the median p-value to 0.25."""
REMEMBERED = 25_000
JUMPING = 0.01


def following(scorer: Scorer, scores: np.ndarray, size: int, times: int) -> float:
    """Microseconds a score in uploads of `size`, `REMEMBERED` others being remembered; the median round."""
    taken = []
    for _ in range(times):
        martingale = DriftMartingale(scorer.calibration.verdict)
        martingale.observe(np.resize(scores, REMEMBERED))
        drift = ModelDrift(scorer, martingale, since=datetime.now(UTC))
        started = time.perf_counter()
        for start in range(0, len(scores), size):
            drift.add(scores[start : start + size])
        taken.append(time.perf_counter() - started)
    return float(np.median(taken)) / len(scores) * 1e6


def scoring_alone(scorer: Scorer, x: torch.Tensor) -> float:
    """Microseconds to score one row by itself; the median row."""
    taken = []
    for row in x.split(1):
        started = time.perf_counter()
        scorer.score_tensor(row)
        taken.append(time.perf_counter() - started)
    return float(np.median(taken)) * 1e6


def costs(times: int) -> list[list[str]]:
    torch.set_num_threads(1)
    X = correlated(TRAIN_ROWS + ROWS, 32)
    table = pa.table({f"c{i}": column for i, column in enumerate(X[:TRAIN_ROWS].T)})
    rows = []
    for profile, most in (("default", "2 %"), ("fast", "")):
        config = DetectorConfig(device="cpu", steps=100, profile=profile)
        scorer = fit_detector(table, infer_schema(table).schema, config)
        x = torch.from_numpy(X[TRAIN_ROWS:])
        scores = scorer.score_tensor(x).score
        for name, size, score in (
            ("one row a request", 1, scoring_alone(scorer, x[:ONE_BY_ONE])),
            ("one upload of 20,000 rows", SLICE, microseconds_on_one_core(scorer, x, times)),
        ):
            follow = following(scorer, scores, size, times)
            rows.append([name, profile, f"{score:.1f}", f"{follow:.2f}", f"{100 * follow / score:.2f} %", most])
    return rows


def smooth(draw: np.random.Generator, n: int) -> np.ndarray:
    return draw.normal(size=n)


def tied(draw: np.random.Generator, n: int) -> np.ndarray:
    """About nine values in all."""
    return np.rint(2 * draw.normal(size=n)) / 2


Draw = Callable[[np.random.Generator, int], np.ndarray]


def quiet_alarms(scores: Draw, n: int) -> int:
    """How many of `QUIET_STREAMS` alarm."""
    draw = np.random.default_rng(n)
    alarms = 0
    for _ in range(QUIET_STREAMS):
        martingale = DriftMartingale(ConformalCalibrator(scores(draw, n), spread=1.0))
        martingale.observe(scores(draw, QUIET_SCORES))
        alarms += martingale.alarmed
    return alarms


def delays(n: int, quiet: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores from the shift to the alarm, of ours and of the simple jumper; infinite where there is none."""
    draw = np.random.default_rng(n + quiet)
    ours, p_values = [], []
    for _ in range(SHIFTED_STREAMS):
        calibrator = ConformalCalibrator(draw.normal(size=n), spread=1.0)
        stream = np.concatenate([draw.normal(size=quiet), draw.normal(size=SHIFTED_SCORES) + SHIFT])
        martingale = DriftMartingale(calibrator)
        martingale.observe(stream)
        ours.append((martingale.alarmed_after or math.inf) - quiet)
        on_grid = calibrator.on_grid(stream)
        p_values.append(OnlineRanks(calibrator, np.empty(0)).p_values(on_grid, draw.random(len(stream))))
    return np.array(ours), simple_jumper(np.array(p_values)) - quiet


def simple_jumper(p_values: np.ndarray) -> np.ndarray:
    """Scores until the simple jumper of Vovk et al. 2021 passes 100, by stream `(streams,)`; bets 1 + e (p - 1/2)."""
    bets = np.array([-1.0, 0.0, 1.0])[:, None]
    weights, log_capital = np.full((3, len(p_values)), 1 / 3), np.zeros(len(p_values))
    found = np.full(len(p_values), math.inf)
    for i, p in enumerate(p_values.T):
        weights = ((1 - JUMPING) * weights + JUMPING / 3) * (1 + bets * (p - 0.5))
        capital = weights.sum(axis=0)
        weights /= capital
        log_capital += np.log(capital)
        found = np.where((log_capital >= LOG_THRESHOLD) & np.isinf(found), i + 1.0, found)
    return found


def told(delay: np.ndarray, within: int) -> list[str]:
    """Median, 95 % quantile and the share found in time, of the streams without an alarm before the shift."""
    delay = np.sort(delay[delay > 0])
    high = delay[math.ceil(0.95 * len(delay)) - 1]
    return [
        f"{np.median(delay):.0f}",
        f"{high:.0f}" if high <= SHIFTED_SCORES else "-",
        f"{(delay <= within).mean():.1%}",
    ]


def main() -> None:
    times = rounds("Measure drift.", 5)
    keep(
        "drift",
        "Following drift over scoring",
        ["what", "profile", "scoring, us a row", "following, us a row", "ratio", "at most"],
        costs(times),
        f"One thread; rows of 32 columns, 1,000 calibration scores, {REMEMBERED:,} scores remembered; the median of "
        f"{times} rounds (of {ONE_BY_ONE:,} rows where they are scored one by one). Scores of small requests are "
        "followed together.",
    )
    rows = []
    for n in (100, 500, 2000):
        early, late = delays(n, 0), delays(n, QUIET_SCORES)
        rows.append(
            [
                f"{n:,}",
                *(f"{quiet_alarms(scores, n) / QUIET_STREAMS:.2%}" for scores in (smooth, tied)),
                *told(early[0], 300),
                *told(late[0], 1000),
                *told(early[1], 300)[::2],
                *told(late[1], 1000)[::2],
            ]
        )
    keep(
        "drift_alarms",
        "Alarms of quiet streams, and scores until a shift is found",
        [
            "calibration scores",
            *("quiet, smooth", "quiet, tied"),
            *("at once: median", "95 %", "within 300"),
            *("after 10,000: median", "95 %", "within 1,000"),
            *("jumper, at once: median", "within 300"),
            *("jumper, after 10,000: median", "within 1,000"),
        ],
        rows,
        f"Quiet: the share of {QUIET_STREAMS:,} streams of {QUIET_SCORES:,} scores that alarm, 1 % at most promised; "
        f"tied scores take about nine values. Shifts: {SHIFTED_STREAMS} streams whose scores rise so that the median "
        f"p-value among quiet ones is 0.25, at once or after {QUIET_SCORES:,} quiet scores; a dash where fewer than "
        f"95 % are found within {SHIFTED_SCORES:,}. The simple jumper (Vovk et al. 2021) has jumping rate {JUMPING} "
        "and, unlike ours, keeps nothing back for later epochs.",
    )


if __name__ == "__main__":
    main()
