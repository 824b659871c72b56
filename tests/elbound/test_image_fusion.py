"""The verdict on images: terms, their order, and what each of them is for."""

import numpy as np

from elbound.calibration.fusion import (
    TAIL_ITEMS,
    Conditional,
    JointSurprise,
    NormalScore,
    OneSided,
    TailSurprise,
    TwoSided,
)

GROUPS = (("error", "shape"), ("near", "near given size"), ("|size|",))


def reference(n: int = 300, seed: int = 0) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    size = draw.normal(size=n)
    near = size + 0.3 * draw.normal(size=n)
    return {"size": size, "near": near, "error": draw.gamma(2, size=n), "shape": draw.normal(size=n)}


def one(**values: float) -> dict[str, np.ndarray]:
    return {
        name: np.array([value])
        for name, value in {"size": 0.0, "near": 0.0, "error": 1.0, "shape": 0.0, **values}.items()
    }


def test_a_sided_term_rises_on_its_sides() -> None:
    scores = {"size": np.linspace(-9, 9, 101)}
    assert (np.diff(OneSided("size", reference())(scores)) >= 0).all()
    both = TwoSided("size", reference())(scores)
    assert both[0] > both[50] < both[-1]


def test_a_normal_score_is_the_normal_quantile() -> None:
    """Of a normal sample it is the standardised value, in the middle and, by extrapolation, not absurdly beyond."""
    sample = np.random.default_rng(0).normal(5, 2, 4000)
    scores = np.array([1.0, 3.0, 5.0, 7.0, 9.0])
    np.testing.assert_allclose(NormalScore(sample)(scores), (scores - 5) / 2, atol=0.12)
    far = NormalScore(sample)(np.array([-1e9, -100.0, 100.0, 1e9]))
    assert np.isfinite(far).all()
    assert (np.diff(far) > 0).all()


def test_a_conditional_term_finds_what_is_odd_for_its_size() -> None:
    """near = 1.5 is ordinary alone and for a size of 1.5, and odd for a size of -1.5."""
    term = Conditional("near", "size", reference())
    odd, ordinary = term(one(near=1.5, size=-1.5))[0], term(one(near=1.5, size=1.5))[0]
    assert odd > 5 > 3 > ordinary


def test_every_question_can_raise_the_verdict_and_says_so() -> None:
    rule = JointSurprise(GROUPS, reference())
    calm = rule.combine(one())[0]
    for odd, name in (
        ({"error": 30.0}, "error"),
        ({"shape": 9.0}, "shape"),
        ({"near": 9.0}, "near"),
        ({"size": -9.0}, "size"),
    ):
        assert rule.combine(one(**odd))[0] > calm + 3
        assert rule.fired(one(**odd))[0] == name or name == "size"


def test_the_norm_is_that_of_the_groups_surprises() -> None:
    def mean(scores: dict[str, np.ndarray]) -> np.ndarray:
        return (OneSided("error", reference())(scores) + OneSided("shape", reference())(scores)) / 2

    def size(scores: dict[str, np.ndarray]) -> np.ndarray:
        return TwoSided("size", reference())(scores)

    scores = reference(20, seed=1)
    rule = JointSurprise((("error", "shape"), ("|size|",)), reference())
    groups = [TailSurprise(term(reference()), tail_items=TAIL_ITEMS)(term(scores)) for term in (mean, size)]
    np.testing.assert_allclose(rule.combine(scores), np.hypot(*groups))


def test_constant_and_few_reference_scores_stay_finite() -> None:
    for n in (2, 5, 30):
        flat = {name: np.zeros(n) for name in ("size", "near", "error", "shape")}
        verdict = JointSurprise(GROUPS, flat).combine(one(near=1e30, size=-1e6, error=0.0))
        assert np.isfinite(verdict).all()
