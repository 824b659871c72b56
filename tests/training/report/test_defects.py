"""Known defects by kind: what alarms, AUROC, heat maps against masks, what the budget cut, and the verdict's reason."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from elbound.evaluation import auroc
from elbound.explain.heat import heat_maps
from elbound.fit.detector import DetectorConfig, Fitted, fit_all
from elbound.schema import ImageSchema
from tests.conftest import squares
from training.bundles.evaluate import show_defects
from training.config import ReportConfig
from training.inputs.source import KnownItems, Source
from training.report.budget import Budget
from training.report.build import build_report
from training.report.defects import defect_reasons, evaluate_defects
from training.report.facts import DefectFacts, NotChecked
from training.train.judgement import check_before

pytestmark = pytest.mark.slow

GOOD = 30


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    schema = ImageSchema(height=12, width=12, channels=1)
    config = DetectorConfig(name="pictures", alpha=0.05, device="cpu", steps=120)
    return fit_all(torch.from_numpy(squares(400)[:, None]), schema, config)


def known(*, masks: bool = True) -> KnownItems:
    """Thirty good pictures, twelve with a bright corner, eight as the good ones that are called defects."""
    images = squares(GOOD + 20, seed=7)
    corner = np.zeros((12, 12), dtype=bool)
    corner[:3, :3] = True
    images[GOOD : GOOD + 12, corner] = 250
    kinds = [None] * GOOD + ["corner"] * 12 + ["nothing"] * 8
    places = range(GOOD, GOOD + 12) if masks else ()
    return KnownItems(torch.from_numpy(images[:, None]), kinds, dict.fromkeys(places, corner))


@pytest.fixture(scope="module")
def found(fitted: Fitted) -> DefectFacts:
    facts = evaluate_defects(fitted.scorer, known(), Budget(100), seed=0)
    assert isinstance(facts, DefectFacts)
    return facts


def test_each_kind_is_counted_and_the_worst_stands_first(fitted: Fitted, found: DefectFacts) -> None:
    assert [(one.kind, one.items) for one in found.kinds] == [("nothing", 8), ("corner", 12)]
    assert (found.items, found.normals) == (20, GOOD)
    x = known().x
    score = fitted.scorer.score_tensor(x)
    alarm = fitted.scorer.decide(score).is_anomaly
    nothing, corner = found.kinds
    assert corner.found == alarm[GOOD : GOOD + 12].sum() > 9
    assert nothing.found == alarm[GOOD + 12 :].sum() < 4
    assert found.false_alarms == alarm[:GOOD].sum()
    assert corner.auroc == pytest.approx(auroc(score.score[:GOOD], score.score[GOOD : GOOD + 12]), abs=0.01)
    assert found.auroc == pytest.approx(auroc(score.score[:GOOD], score.score[GOOD:]), abs=0.01)
    assert GOOD <= corner.example < GOOD + 12
    assert not found.left_out


def test_heat_is_compared_with_the_masks_pixel_by_pixel(fitted: Fitted, found: DefectFacts) -> None:
    items = known()
    heat = heat_maps(fitted.scorer, items.x[GOOD : GOOD + 12]).astype(float)
    mask = np.stack([items.masks[place] for place in range(GOOD, GOOD + 12)])
    nothing, corner = found.kinds
    assert corner.pixel_auroc == pytest.approx(auroc(heat[~mask], heat[mask]), abs=1e-3)
    assert corner.pixel_auroc > 0.8
    assert nothing.pixel_auroc is None
    assert found.pixel_auroc is not None
    assert found.mapped == GOOD + 12


def test_without_masks_or_time_it_is_said(fitted: Fitted) -> None:
    plain = evaluate_defects(fitted.scorer, known(masks=False), Budget(100), seed=0)
    assert isinstance(plain, DefectFacts)
    assert plain.pixel_auroc is None
    assert plain.left_out == ["there are no masks, so nothing is said of the heat maps"]
    nothing = evaluate_defects(fitted.scorer, known(), Budget(0), seed=0)
    assert nothing == NotChecked("the report's budget of 0 s was spent")
    answers = iter([False] * 2 + [True] * 100)  # scoring is reached, the first heat map is not
    cut = evaluate_defects(fitted.scorer, known(), Budget(100, lambda: next(answers)), seed=0)
    assert isinstance(cut, DefectFacts)
    assert cut.mapped == 0
    assert cut.left_out == [
        "heat maps of 0 of 42 pictures were compared with masks, drawn at random, since the report was interrupted"
    ]


def test_few_good_pictures_leave_auroc_to_the_calibration_items(fitted: Fitted) -> None:
    items = known()
    few = KnownItems(items.x[GOOD:], items.kinds[GOOD:])
    found = evaluate_defects(fitted.scorer, few, Budget(100), seed=0)
    assert isinstance(found, DefectFacts)
    assert found.normals == found.false_alarms == found.high == 0
    expected = auroc(fitted.scorer.calibration.calibration_verdict(), fitted.scorer.score_tensor(few.x).score)
    assert found.auroc == pytest.approx(expected, abs=0.01)
    assert not defect_reasons(found)


def test_false_alarms_beyond_the_promise_are_a_reason(fitted: Fitted, found: DefectFacts) -> None:
    assert not defect_reasons(found)
    assert not defect_reasons(None)
    assert not defect_reasons(NotChecked("no time"))
    items = known()
    odd = KnownItems(items.x, ["corner" if kind is None else None for kind in items.kinds])
    facts = evaluate_defects(fitted.scorer, odd, Budget(100), seed=0)
    assert isinstance(facts, DefectFacts)
    (reason,) = defect_reasons(facts)
    assert reason.startswith(f"{facts.false_alarms} of 20 good pictures that came with the data raise a false alarm")
    assert reason.endswith("try --resize stretch")
    assert not defect_reasons(replace(facts, resize="stretch"))[0].endswith("stretch")


def test_the_report_and_the_console_have_a_table(fitted: Fitted, capsys: pytest.CaptureFixture[str]) -> None:
    made = build_report(
        fitted, groups=None, anomalous=None, seconds=20, stop=lambda: False, say=lambda _: None, known=known()
    )
    page = made.files["index.html"].decode()
    assert "Which defects are found?" in page
    assert page.index("<td>nothing</td>") < page.index("<td>corner</td>") < page.index("<td>all</td>")
    assert made.files["defects.png"].startswith(b"\x89PNG")
    document = json.loads(made.files["report.json"])["defects"]
    assert [one["kind"] for one in document["kinds"]] == ["nothing", "corner"]
    assert isinstance(made.facts.defects, DefectFacts)
    show_defects(made.facts.defects)
    shown = capsys.readouterr().out
    assert shown.index("nothing") < shown.index("corner")
    assert f"false alarms among the good pictures of test: {made.facts.defects.false_alarms}/30" in shown


def test_known_defects_are_compared_with_the_baselines(fitted: Fitted) -> None:
    source = Source(fitted.x, fitted.scorer.schema, known=known())
    anomalies = check_before(ReportConfig(), source)
    assert isinstance(anomalies, torch.Tensor)
    assert torch.equal(anomalies, known().x[GOOD:])
    few = KnownItems(known().x[: GOOD + 3], known().kinds[: GOOD + 3])
    assert check_before(ReportConfig(), Source(fitted.x, fitted.scorer.schema, known=few)) is None
