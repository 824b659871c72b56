"""The promises, measured: rates of every score and of the verdict over hundreds of random calibration sets.

The normals that neither trained nor fitted the verdict's rule are a pool. A random part of it calibrates, another is
scored: such splits are exchangeable whatever the pool, so without ties the number of alarms follows the beta-binomial
law exactly.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import betabinom, kstest

from elbound.calibration.calibration import Calibration, CalibrationGroups
from elbound.calibration.conformal import ConformalCalibrator
from elbound.calibration.fdr import discover
from elbound.scorer import Scorer
from tests.conftest import fit_table, mixed_table

SPLITS = 200
SIZES = (50, 100, 1_000)
ALPHAS = (0.01, 0.05, 0.1)
CHANCE = 1e-5
"""A test of a true law fails so often; there are some 300 of them."""


class Pool:
    """Scores of a fitted model for normals that it never saw."""

    def __init__(self, scorer: Scorer, rows: pa.Table) -> None:
        self.scorer = scorer
        self.joint = scorer.raw_scores(scorer.to_tensor(rows).only())

    def splits(self, n: int, m: int, seed: int) -> "list[tuple[Calibration, np.ndarray]]":
        """Random calibrations of `n` items and joint scores of `m` others."""
        draw = np.random.default_rng(seed)
        old, found = self.scorer.calibration, []
        for _ in range(SPLITS):
            chosen = self.joint[draw.choice(len(self.joint), n + m, replace=False)]
            spec = self.scorer.manifest.verdict
            fresh = Calibration(old.names, chosen[:n], old.reference_scores, rule=spec.rule, groups=spec.groups)
            found.append((fresh, chosen[n:]))
        return found


@pytest.fixture(scope="module")
def toy() -> Pool:
    return Pool(fit_table(mixed_table(600)), mixed_table(8_000, seed=5))


@pytest.fixture(scope="module")
def real(data_sets: Path) -> Pool:
    """Handwritten digits as pen strokes: 16 whole numbers a row."""
    with np.load(data_sets / "tables" / "pendigits.npz") as data:
        rows = np.random.default_rng(0).permutation(data["X"][data["y"] == 0].astype(np.float64))
    table = pa.table({f"x{i}": column for i, column in enumerate(rows.T)})
    return Pool(fit_table(table.slice(0, 1_500), steps=200), table.slice(1_500))


def calibrators(calibration: Calibration) -> dict[str, ConformalCalibrator]:
    return {"": calibration.verdict, **calibration.by_score}


def alarms(pool: Pool, n: int, m: int, seed: int) -> dict[tuple[str, float], np.ndarray]:
    """How many of `m` new normals each score and the verdict ("") call anomalies, split by split."""
    counts: dict[tuple[str, float], list[int]] = {}
    for calibration, fresh in pool.splits(n, m, seed):
        judged = calibration.judge(dict(zip(calibration.names, fresh.T, strict=True)))
        for name, calibrator in calibrators(calibration).items():
            values = judged.scores[name] if name else judged.score
            for alpha in ALPHAS:
                alarmed = calibrator.is_anomaly(values, alpha)
                p_values = judged.p_values[name] if name else judged.p_value
                assert (alarmed == (p_values <= alpha)).all()
                counts.setdefault((name, alpha), []).append(int(alarmed.sum()))
    return {key: np.array(values) for key, values in counts.items()}


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("kind", ["toy", "real"])
def test_the_rate_that_was_asked_for_is_realised(kind: str, n: int, request: pytest.FixtureRequest) -> None:
    pool: Pool = request.getfixturevalue(kind)
    m = 1_000
    jitter = np.random.default_rng(n)
    for (name, alpha), counts in alarms(pool, n, m, seed=n).items():
        k = int(alpha * (n + 1) + 1e-9)
        if k == 0:
            assert not counts.any()
            continue
        law = betabinom(m, k, n + 1 - k)
        error = law.std() / m / np.sqrt(SPLITS)
        assert abs(counts.mean() / m - k / (n + 1)) < 4.5 * error, (name, alpha)
        uniform = law.cdf(counts - 1) + jitter.random(SPLITS) * law.pmf(counts)
        assert kstest(uniform, "uniform").pvalue > CHANCE, (name, alpha)


@pytest.mark.parametrize(("alpha", "n"), [(0.05, 100), (0.1, 100), (0.01, 1_000), (0.05, 1_000)])
def test_the_guarantee_holds_at_its_confidence(toy: Pool, alpha: float, n: int) -> None:
    """In at least 90 % of calibration sets the rate among all other normals of the pool stays below alpha."""
    m, guarantee = 4_000, 0.9
    kept = []
    for calibration, fresh in toy.splits(n, m, seed=n):
        scores = calibration.judge(dict(zip(calibration.names, fresh.T, strict=True))).score
        alarmed = calibration.verdict.is_anomaly(scores, alpha, guarantee)
        conditional = calibration.verdict.conditional_p_values(scores, guarantee)
        assert (alarmed == (conditional <= alpha)).all()
        kept.append(alarmed.mean() <= alpha)
    k = ConformalCalibrator(np.arange(n, dtype=float), spread=1).rank(alpha, guarantee)
    exact = float(betabinom(m, k, n + 1 - k).cdf(int(alpha * m)))  # with m items the rate is seen through a grid
    error = np.sqrt(exact * (1 - exact) / SPLITS)
    assert abs(np.mean(kept) - exact) < 4.5 * error
    assert exact > guarantee - 0.03


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
@pytest.mark.parametrize(("fdr", "n"), [(0.05, 1_000), (0.2, 100), (0.2, 1_000)])
def test_the_false_discovery_rate_of_uploads_stays_below_its_level(toy: Pool, fdr: float, n: int, share: float) -> None:
    m = 200
    odd = mixed_table(2_000, seed=9)
    odd = odd.set_column(0, "a", pa.array(odd["a"].to_numpy() + 3.0))
    anomalies = toy.scorer.raw_scores(toy.scorer.to_tensor(odd).only())
    draw = np.random.default_rng(n)
    proportions, found = [], []
    for calibration, fresh in toy.splits(n, m, seed=n + 1):
        is_odd = np.arange(m) < share * m
        joint = np.where(is_odd[:, None], anomalies[draw.choice(len(anomalies), m)], fresh)
        scores = calibration.judge(dict(zip(calibration.names, joint.T, strict=True))).score
        discovery = discover(calibration.verdict, scores, fdr).is_discovery
        proportions.append((discovery & ~is_odd).sum() / max(1, discovery.sum()))
        found.append((discovery & is_odd).sum())
    error = np.std(proportions) / np.sqrt(SPLITS)
    assert np.mean(proportions) <= fdr + 3 * error
    if share == 0.5:
        assert np.mean(found) > 0.2 * m  # and it is not kept by finding nothing


def test_a_group_has_the_rate_that_was_asked_for_where_pooling_breaks_it() -> None:
    """Two machines whose scores lie apart: pooled thresholds alarm for one alone, thresholds by group for both."""
    draw = np.random.default_rng(0)
    rates: dict[str, list[float]] = {"pooled": [], "by group": []}
    for _ in range(SPLITS):
        machine = draw.integers(0, 2, 400)
        calibration_scores = (draw.normal(size=400) + 3 * machine)[:, None]
        calibration = grouped(calibration_scores, [str(one) for one in machine])
        scored = calibration.judge({"s": draw.normal(size=500) + 3})  # machine 1
        by_group = calibration.judge_by_group(scored, ["1"] * 500)
        rates["pooled"].append(calibration.decide(scored, 0.05).is_anomaly.mean())
        rates["by group"].append(calibration.decide(by_group, 0.05).is_anomaly.mean())
    assert np.mean(rates["pooled"]) > 0.08
    error = np.std(rates["by group"]) / np.sqrt(SPLITS)
    assert np.mean(rates["by group"]) < 0.05 + 3 * error
    assert np.mean(rates["by group"]) > 0.04


def grouped(scores: np.ndarray, labels: list[str | None], min_items: int = 20) -> Calibration:

    groups = CalibrationGroups.of(labels, min_items=min_items)
    return Calibration(("s",), scores, scores, rule="s", item_groups=groups)
