"""Each rule of the verdict, from facts made by hand."""

import json

import numpy as np
import pytest

from training.report.facts import (
    BaselineFacts,
    CalibrationFacts,
    ColumnChange,
    DriftFacts,
    Facts,
    ModelUse,
    NetUse,
    NotChecked,
    RateCheck,
    Rival,
    TrendFacts,
    as_json,
)
from training.report.verdict import judge, leads

IN_USE = NetUse([1.0, 0.0], [True, False], 5.0)
SWITCHED_OFF = NetUse([0.0, 0.0], [False, False], 5.0)
NOT_HEARD = NetUse([3.0, 2.0], [True, True], 0.01)


def rival(lead: float, low: float, name: str = "PCA") -> Rival:
    return Rival(name, 0.8 + lead, lead, low, lead + (lead - low), {}, "all of it")


def baselines(*rivals: Rival, synthetic: bool = False, skipped: dict[str, str] | None = None) -> BaselineFacts:
    return BaselineFacts(synthetic, 100, 100, 0.8, {}, list(rivals), skipped or {})


def calibration(*checks: RateCheck) -> CalibrationFacts:
    return CalibrationFacts("stretches of the data's order", list(checks), [], [], np.array([0.5]), np.array([0.5]))


def trend(alarms: int, *growing: ColumnChange, moved: ColumnChange | None = None) -> TrendFacts:
    return TrendFacts(RateCheck(alarms, 100, 0, 11, "the last tenth", 0.05), 400, 400, list(growing), moved)


def good() -> Facts:
    return Facts(
        "m", "v", 0.05,
        collapse=[ModelUse("standard", [IN_USE])],
        baselines=baselines(rival(-0.1, -0.2)),
        calibration=calibration(RateCheck(5, 100, 0, 12, "block 1", 0.05)),
        drift=DriftFacts(50, 1.0, 1.0, 0.4, 0.5),
        trend=trend(11),
    )  # fmt: skip


def test_nothing_against_it_is_ship() -> None:
    verdict = judge(good())
    assert (verdict.ship, verdict.words, verdict.unchecked) == (True, "ship", {})


def test_an_alpha_at_which_nothing_can_alarm_is_not_shipped_whatever_else_was_reached() -> None:
    line = "at alpha = 0.01 nothing can ever be an anomaly: 75 calibration items decide nothing finer than 0.0132"
    for facts in (good(), Facts("m", "v", 0.01)):
        facts.unresolved = line
        assert judge(facts).words == f"do not ship, because {line}"
        assert json.loads(as_json(facts))["unresolved"] == line


@pytest.mark.parametrize(("nets", "collapsed"), [
    ([SWITCHED_OFF], True),
    ([NOT_HEARD], True),
    ([SWITCHED_OFF, NOT_HEARD], True),
    ([IN_USE, SWITCHED_OFF], False),
])  # fmt: skip
def test_collapse_is_judged_model_by_model(nets: list[NetUse], collapsed: bool) -> None:
    facts = good()
    facts.collapse = [ModelUse("standard", [IN_USE]), ModelUse("normal", nets)]
    verdict = judge(facts)
    assert verdict.ship != collapsed
    assert ("posterior collapse" in verdict.words and "'normal'" in verdict.words) == collapsed


@pytest.mark.parametrize(("lead", "low", "synthetic", "blocks"), [
    (0.05, 0.01, False, True),
    (0.05, -0.01, False, False),  # may be chance
    (0.001, 0.0005, False, False),  # certain, and worth nothing
    (0.05, 0.01, True, False),  # the order of methods on made anomalies is not that on real ones
    (0.09, 0.05, True, True),
])  # fmt: skip
def test_a_lead_counts_where_it_is_certain_and_worth_the_change(
    lead: float, low: float, synthetic: bool, blocks: bool
) -> None:
    assert leads(rival(lead, low), synthetic=synthetic) == blocks
    facts = good()
    facts.baselines = baselines(rival(-0.2, -0.3, "kNN"), rival(lead, low), synthetic=synthetic)
    assert judge(facts).ship != blocks


def test_a_broken_rate_is_told_with_its_counts() -> None:
    facts = good()
    facts.calibration = calibration(RateCheck(30, 100, 0, 12, "block 3", 0.05))
    words = judge(facts).words
    assert words.startswith("do not ship, because the false-alarm rate")
    assert "block 3: 30 of 100 at alpha = 0.05 = 0.300, allowed are 0 to 12" in words


def test_drift_is_told_with_its_p_value() -> None:
    facts = good()
    facts.drift = DriftFacts(50, 1.0, 2.0, 0.4, 0.0009)
    assert "the data change along the file: held-out scores" in judge(facts).words
    facts.drift = DriftFacts(50, 1.0, 2.0, 0.4, 0.0011)
    assert judge(facts).ship


def test_alarms_on_later_rows_are_told_with_the_column_that_moves() -> None:
    facts = good()
    load = ColumnChange("load", 2.1, 0.1, 0.5)
    facts.trend = trend(12, moved=load)
    words = judge(facts).words
    assert words.startswith("do not ship, because the data change along the file: a model of the first 80 %")
    assert "alarms on 12 of 100 later rows at alpha = 0.05 (at most 11 allowed)" in words
    assert "take out the column that moves ('load': its mean in the last tenth lies +2.1 standard" in words
    facts.trend = trend(12, moved=ColumnChange("load", 0.1, 0.1, 0.5))
    assert "take out" not in judge(facts).words
    facts.trend = trend(0, ColumnChange("load", -1.0, -0.4, 1e-9), ColumnChange("b", -1.0, -0.3, 1e-9))
    assert "column 'load' falls from the first row to the last, and 1 more" in judge(facts).words


@pytest.mark.parametrize(("found", "why"), [
    (NotChecked("the report's budget of 12 s was spent"), "budget of 12 s was spent); give --report-budget 60"),
    (baselines(skipped={"kNN": "the report's budget of 12 s was spent"}), "give --report-budget 60"),
    (NotChecked("it takes 10 held-out normals and as many anomalies"), "(it takes 10 held-out normals and as many"),
])  # fmt: skip
def test_no_baseline_is_undecided(found: BaselineFacts | NotChecked, why: str) -> None:
    facts = good()
    facts.baselines, facts.budget_seconds = found, 12
    verdict = judge(facts)
    assert (verdict.ship, verdict.state) == (False, "undecided")
    assert verdict.words.startswith("undecided, because no baseline was compared (")
    assert why in verdict.words
    facts.drift = DriftFacts(50, 1.0, 2.0, 0.4, 1e-9)
    assert judge(facts).state == "do not ship"  # a reason is worth more than what is missing


@pytest.mark.parametrize(("groups", "state"), [(None, "ship"), (10, "ship"), (9, "undecided")])
def test_few_groups_that_calibrate_are_undecided(groups: int | None, state: str) -> None:
    facts = good()
    facts.held_out_groups = groups
    assert judge(facts).state == state


def test_a_collapse_is_right_where_no_two_columns_depend() -> None:
    facts = good()
    facts.collapse, facts.independent_columns = [ModelUse("standard", [SWITCHED_OFF])], True
    verdict = judge(facts)
    assert verdict.ship
    assert "no two columns depend on each other" in verdict.unchecked["posterior collapse of the model standard"]


def test_every_reason_is_given() -> None:
    facts = good()
    facts.collapse = [ModelUse("standard", [SWITCHED_OFF])]
    facts.drift = DriftFacts(50, 1.0, 2.0, 1e-9, 0.5)
    facts.baselines = baselines(rival(0.1, 0.05))
    verdict = judge(facts)
    assert len(verdict.reasons) == 3
    assert verdict.words.count("; and because ") == 2


def test_what_was_not_checked_is_no_verdict_and_is_named() -> None:
    verdict = judge(Facts("m", "v", 0.05))
    assert verdict.state == "undecided"
    assert set(verdict.unchecked) == {
        "posterior collapse", "baselines", "calibration", "drift", "alarms along the file"
    }  # fmt: skip
    facts = good()
    facts.collapse = [ModelUse("standard", NotChecked("the model pca has no rate that could collapse"))]
    facts.baselines = baselines(rival(-0.1, -0.2), skipped={"kNN": "no time"})
    assert judge(facts).ship
    assert judge(facts).unchecked == {
        "posterior collapse of the model standard": "the model pca has no rate that could collapse",
        "baseline kNN": "no time",
    }


def test_the_numbers_are_strict_json() -> None:
    facts = good()
    facts.drift = DriftFacts(50, float("nan"), float("inf"), 0.4, 0.5)
    facts.verdict = judge(facts)
    document = json.loads(as_json(facts), parse_constant=lambda _: pytest.fail("not strict"))
    assert document["drift"]["first_median"] is None
    assert document["verdict"] == {
        "ship": True, "state": "ship", "words": "ship", "reasons": [], "unchecked": {}, "missing": []
    }  # fmt: skip
    assert document["calibration"]["blocks"][0]["rate"] == 0.05
    assert document["latent"] == {"not_checked_because": "it was not reached"}
