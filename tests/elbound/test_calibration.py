"""Ranking all scores together says bit for bit what each calibrator says alone."""

import numpy as np
import pytest

from elbound.calibration.calibration import Calibration, CalibrationGroups

NAMES = ("a", "b", "c")


@pytest.fixture(scope="module", params=[False, True], ids=["pooled", "groups"])
def calibration(request) -> Calibration:  # type: ignore[no-untyped-def]
    draw = np.random.default_rng(0)
    scales = np.array([1e-6, 1.0, 1e9])
    labels = [("x", "y", None)[i % 3] for i in range(200)]
    return Calibration(
        NAMES,
        draw.normal(size=(200, 3)) * scales,
        draw.normal(size=(100, 3)) * scales,
        rule="fused",
        groups=(("a", "b"), ("c",)),
        item_groups=CalibrationGroups.of(labels, min_items=20) if request.param else None,
    )


@pytest.mark.parametrize("n", [1, 2, 50])
@pytest.mark.parametrize(("alpha", "guarantee"), [(0.05, None), (0.2, 0.9), (1e-6, None)])
def test_together_is_as_alone(calibration: Calibration, n: int, alpha: float, guarantee: float | None) -> None:
    draw = np.random.default_rng(n)
    columns = draw.normal(size=(3, n)) * np.array([[2e-6], [2.0], [2e9]])
    columns[draw.random((3, n)) < 0.1] = np.nan
    columns[draw.random((3, n)) < 0.1] = np.inf
    scored = calibration.judge(dict(zip(NAMES, columns, strict=True)))
    scored = calibration.judge_by_group(scored, [("x", "y", None, "z")[i % 4] for i in range(n)])
    decisions = calibration.decide(scored, alpha, guarantee)
    np.testing.assert_array_equal(scored.score, calibration.rule.combine(scored.scores))
    for i in range(n):
        ranking, one = calibration.ranking(int(scored.group[i])), slice(i, i + 1)
        for name in NAMES:
            alone = ranking.by_score[name].p_values(scored.scores[name][one])
            np.testing.assert_array_equal(scored.p_values[name][one], alone)
        verdict, score = ranking.verdict, scored.score[one]
        np.testing.assert_array_equal(scored.p_value[one], verdict.p_values(score))
        np.testing.assert_array_equal(decisions.is_anomaly[one], verdict.is_anomaly(score, alpha, guarantee))
        severity = verdict.severity(score, alpha, guarantee)
        np.testing.assert_array_equal(decisions.severity[one], np.nan if severity is None else severity)
        if guarantee is not None:
            assert decisions.conditional_p_value is not None
            alone = verdict.conditional_p_values(score, guarantee)
            np.testing.assert_array_equal(decisions.conditional_p_value[one], alone)
