"""Tail surprise and the fused verdict: closed forms, order, and a p-value that is valid."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from elbound.calibration.calibration import Calibration
from elbound.calibration.fusion import STEEPEST, FusedSurprise, SingleScore, TailSurprise, build_rule

NAMES = ("a", "b", "other.a")
GROUPS = (("a", "b"), ("other.a",))


def test_surprise_inside_is_the_log_of_the_rank() -> None:
    tail = TailSurprise(np.arange(1.0, 100.0))
    assert tail(np.array([50.0])) == pytest.approx(-np.log(51 / 100))
    assert tail(np.array([0.0])) == pytest.approx(0, abs=0.011)
    assert tail(np.array([50.5]))[0] == pytest.approx(-(np.log(51 / 100) + np.log(50 / 100)) / 2)


def test_the_tail_of_exponential_scores_is_exponential() -> None:
    """-log P(score >= s) = s for Exp(1), also far beyond what was seen."""
    tail = TailSurprise(np.random.default_rng(0).exponential(size=100_000))
    for s in (1.0, 3.0, 8.0, 40.0):
        assert tail(np.array([s]))[0] == pytest.approx(s, rel=0.02)


@given(
    reference=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60),
    scores=st.lists(st.floats(-1e9, 1e9), min_size=2, max_size=20),
)
@settings(deadline=None)
def test_surprise_never_falls_as_the_score_rises(reference: list[float], scores: list[float]) -> None:
    ordered = np.sort(scores)
    surprise = TailSurprise(np.array(reference))(ordered)
    assert np.isfinite(surprise).all()
    assert (np.diff(surprise) >= 0).all()


def test_what_is_not_a_number_is_as_surprising_as_can_be() -> None:
    tail = TailSurprise(np.array([1.0, 2.0, np.nan, np.inf]))
    assert tail(np.array([np.nan]))[0] == np.inf
    assert TailSurprise(np.array([]))(np.array([1.0]))[0] > 0


def test_rounding_is_not_magnified_where_normals_all_score_the_same() -> None:
    tail = TailSurprise(np.full(50, 200.0))
    low, high = tail(np.array([200.0, 200.0 * (1 + 1e-6)]))
    assert high - low < 0.01


def test_surprises_add_within_a_group_and_the_loudest_group_decides() -> None:
    draw = np.random.default_rng(1)
    reference = {name: draw.normal(size=400) for name in NAMES}
    rule = FusedSurprise(GROUPS, reference)
    scores = {"a": np.array([1.0, 0.0, 9.0]), "b": np.array([1.5, 0.0, 0.0]), "other.a": np.array([0.0, 5.0, 0.0])}
    tails = {name: TailSurprise(reference[name])(scores[name]) for name in NAMES}
    np.testing.assert_allclose(rule.combine(scores), np.maximum(tails["a"] + tails["b"], tails["other.a"]))
    assert rule.fired(scores) == ["b", "other.a", "a"]


def test_a_rule_is_found_by_its_name_or_is_one_score() -> None:
    reference = {name: np.arange(5.0) for name in NAMES}
    assert isinstance(build_rule("fused", GROUPS, reference), FusedSurprise)
    assert isinstance(build_rule("b", (), reference), SingleScore)
    with pytest.raises(KeyError):
        build_rule("no such rule", (), reference)


def test_the_fused_verdict_has_a_valid_p_value() -> None:
    """Over 400 splits the alarms among fresh normals follow the beta-binomial law of split conformal p-values.

    The scores depend on each other and the rule is fitted on 40 items: neither may move the rate.
    """
    n, m, fresh, alpha = 99, 40, 50, 0.05
    draw = np.random.default_rng(2)
    alarms = []
    for _ in range(400):
        common = draw.standard_t(3, size=(n + m + fresh, 1))
        scores = common + draw.gamma(1.0, size=(n + m + fresh, len(NAMES)))
        calibration = Calibration(NAMES, scores[:n], scores[n : n + m], rule="fused", groups=GROUPS)
        judged = calibration.judge(dict(zip(NAMES, scores[n + m :].T, strict=True)))
        alarms.append(int((judged.p_value <= alpha).sum()))
    law = stats.betabinom(fresh, 5, n + 1 - 5)
    assert np.mean(alarms) == pytest.approx(law.mean(), abs=4 * law.std() / np.sqrt(400))
    assert (
        stats.kstest(
            np.array(alarms) + draw.random(400), lambda x: law.cdf(np.floor(x) - 1) + (x % 1) * law.pmf(np.floor(x))
        ).pvalue
        > 0.01
    )


@given(st.integers(0, 2**32 - 1))
def test_rounding_does_not_decide_between_reference_scores_that_are_all_but_equal(seed: int) -> None:
    draw = np.random.default_rng(seed)
    reference = draw.normal(size=30)
    reference = np.concatenate([reference, reference + draw.normal(scale=1e-7, size=30)])
    tail = TailSurprise(reference)
    near = np.concatenate([reference, reference + 1e-6])
    spread = tail.start - np.median(reference)
    allowed = 1e-6 * max(STEEPEST / spread, 1 / tail.scale)
    assert (np.diff(tail(np.sort(near))) >= 0).all()
    assert (np.abs(tail(near + 1e-6) - tail(near)) <= 1.001 * allowed + 1e-12).all()
