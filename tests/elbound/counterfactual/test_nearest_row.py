"""The nearest normal row: the model's own verdict, the fewest changes, valid values, bounded work."""

import datetime
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from elbound.data.infer import infer_schema
from elbound.errors import ConfigError, SchemaError
from elbound.explain.counterfactual import MAX_STEPS, NearestNormal, search
from elbound.fit.detector import DetectorConfig, fit_detector
from elbound.schema import Column, TableSchema
from elbound.scorer import Scorer
from tests.conftest import mixed_table

ALPHA = 0.05
NUMBERS = 10
START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def linked(n: int, seed: int) -> pa.Table:
    """Ten numbers of three causes, a count and a time that follow the first of them."""
    causes = np.random.default_rng(0).normal(size=(3, NUMBERS))
    draw = np.random.default_rng(seed)
    z = draw.normal(size=(n, 3))
    x = z @ causes + 0.2 * draw.normal(size=(n, NUMBERS))
    count = np.rint(40 + 10 * z[:, 0] + draw.normal(size=n)).astype(int)
    at = [START + datetime.timedelta(hours=float(hours)) for hours in np.rint(500 + 100 * z[:, 1])]
    return pa.table({**{f"x{i}": column for i, column in enumerate(x.T)}, "count": count, "at": at})


@pytest.fixture(scope="module")
def linked_scorer() -> Scorer:
    numbers = tuple(Column(name=name, kind="numeric") for name in (*(f"x{i}" for i in range(NUMBERS)), "count"))
    schema = TableSchema(columns=(*numbers, Column(name="at", kind="datetime")))
    return fit_detector(linked(600, 1), schema, DetectorConfig(alpha=ALPHA, device="cpu", steps=300))


@pytest.fixture(scope="module")
def by_site() -> Scorer:
    """A group for each site, which is scored too."""
    table = mixed_table(600)
    schema = infer_schema(table).schema.model_copy(update={"group_by": "site"})
    labels = table["site"].to_pylist()
    config = DetectorConfig(alpha=ALPHA, device="cpu", steps=60, profile="fast", item_groups=labels)
    return fit_detector(table, schema, config)


def event(scorer: Scorer, row: Mapping[str, object]) -> Tensor:
    return scorer.to_tensor([row]).only()


def is_normal(scorer: Scorer, x: Tensor) -> bool:
    """What the scorer says of the event by itself."""
    return not scorer.calibration.decide(scorer.score_tensor(x), ALPHA).is_anomaly[0]


cells = st.fixed_dictionaries(
    {
        "a": st.floats(-30, 30) | st.sampled_from([1e300, -1e9]),
        "b": st.none() | st.floats(-40, 40),
        "c": st.floats(-5, 60) | st.just(1e12),
        "ok": st.booleans(),
        "site": st.sampled_from(["north", "south", "east", "nowhere", None]),
    }
)


@settings(max_examples=20, deadline=None)
@given(row=cells)
def test_a_nearest_normal_is_normal_by_itself_and_needs_each_change(
    table_scorer: Scorer, row: dict[str, object]
) -> None:
    x = event(table_scorer, row)
    found = NearestNormal(table_scorer, x, alpha=ALPHA).finish()
    assert found.found
    assert found.steps <= MAX_STEPS
    scored = table_scorer.score_tensor(found.nearest)
    assert scored.p_value[0] == found.p_value > ALPHA
    assert scored.score[0] == found.score
    changed = np.flatnonzero(found.differs)
    same = np.flatnonzero(~found.differs)
    assert found.nearest.numpy()[0, same].tobytes() == x.numpy()[0, same].tobytes()
    assert (len(changed) == 0) == is_normal(table_scorer, x)
    for column in changed:
        reverted = found.nearest.clone()
        reverted[0, column] = x[0, column]
        assert not is_normal(table_scorer, reverted)
    ok, site = found.nearest[0, 3:].tolist()
    assert ok in (0, 1)
    assert site in (0, 1, 2) or 4 not in changed  # a known level
    again = NearestNormal(table_scorer, x, alpha=ALPHA).finish()
    assert again.nearest.numpy().tobytes() == found.nearest.numpy().tobytes()
    assert again.document(table_scorer) == found.document(table_scorer)


def test_a_normal_row_is_its_own_nearest_normal_at_once(table_scorer: Scorer, normal_rows: pa.Table) -> None:
    x = table_scorer.to_tensor(normal_rows).only()
    place = int(table_scorer.score_tensor(x).p_value.argmax())
    walk = NearestNormal(table_scorer, x[place, None], alpha=ALPHA)
    walk.step()
    assert walk.done
    document = walk.result().document(table_scorer)
    assert (document["found"], document["changes"], document["steps"]) == (True, [], 1)
    odd = event(table_scorer, {"a": 30, "b": 0, "c": 1, "ok": True, "site": "east"})
    unresolved = NearestNormal(table_scorer, odd, alpha=1e-9).finish()
    assert (unresolved.found, unresolved.steps) == (True, 1)


def test_planted_cells_are_what_changes(linked_scorer: Scorer) -> None:
    """One to three cells of normal rows moved by 6 to 12 deviations: 29 of 30 find no other column to change."""
    rows = linked_scorer.to_tensor(linked(60, 2)).only()
    rows = rows[torch.from_numpy(linked_scorer.score_tensor(rows).p_value > 0.2)]
    draw = np.random.default_rng(0)
    spread = rows.std(0)
    planted_alone = 0
    for i in range(30):
        planted = draw.permutation(rows.shape[1])[: 1 + i % 3]
        x = rows[i, None].clone()
        x[0, planted] += spread[planted] * torch.from_numpy(draw.choice([-1, 1], len(planted)) * draw.uniform(6, 12))
        found = NearestNormal(linked_scorer, x, alpha=ALPHA).finish()
        assert found.found
        assert found.differs.any()
        planted_alone += set(np.flatnonzero(found.differs)) <= set(planted)
    assert planted_alone >= 28


def test_counts_stay_whole_and_times_are_told_as_they_are_read(linked_scorer: Scorer) -> None:
    table = linked(1, 4)
    row = {name: table[name][0].as_py() for name in table.column_names}
    row |= {"count": row["count"] + 300, "at": (START + datetime.timedelta(days=3000)).isoformat()}
    x = event(linked_scorer, row)
    document = NearestNormal(linked_scorer, x, alpha=ALPHA).finish().document(linked_scorer)
    assert document["found"]
    changes = document["changes"]
    assert isinstance(changes, list)
    assert [change["name"] for change in changes] == ["count", "at"]
    assert changes[0]["seen"] == row["count"]
    assert changes[0]["nearest"] == round(changes[0]["nearest"])
    told = {change["name"]: change["nearest"] for change in changes}
    assert datetime.datetime.fromisoformat(told["at"]) < START + datetime.timedelta(days=200)
    changed = event(linked_scorer, row | told)
    assert linked_scorer.score_tensor(changed).p_value[0] > ALPHA


def test_group_and_guarantee_decide(by_site: Scorer) -> None:
    """The column that says by which group a row is judged stays."""
    calibration = by_site.calibration
    odd = [{"a": a, "b": b, "c": 1.0, "ok": True, "site": "south"} for a in (-3.0, 3.0, 9.0) for b in (-9.0, 9.0)]
    for row in odd:
        x = event(by_site, row)
        for alpha, guarantee in ((ALPHA, None), (0.2, 0.9)):
            found = NearestNormal(by_site, x, alpha=alpha, guarantee=guarantee, group="south").finish()
            assert found.found
            scored = calibration.judge_by_group(by_site.score_tensor(found.nearest), ["south"])
            decided = calibration.decide(scored, alpha, guarantee)
            assert not decided.is_anomaly[0]
            assert found.p_value == scored.p_value[0]
            assert not found.differs[4]
            document = found.document(by_site)
            if guarantee is None:
                assert "conditional_p_value" not in document
            else:
                assert decided.conditional_p_value is not None
                assert document["conditional_p_value"] == decided.conditional_p_value[0] > alpha


def test_a_gap_is_filled_only_where_training_had_none(table_scorer: Scorer) -> None:
    x = event(table_scorer, {"a": 8.0, "b": None, "c": 1.0, "ok": False, "site": None})
    found = NearestNormal(table_scorer, x, alpha=ALPHA).finish()
    assert found.found
    assert found.nearest[0, [1, 4]].isnan().all()
    x[0, 2:4] = torch.nan
    found = NearestNormal(table_scorer, x, alpha=ALPHA).finish()
    assert found.found
    assert found.nearest[0, [1, 4]].isnan().all()


def test_steps_are_bounded_and_what_was_reached_is_told(table_scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "MAX_STEPS", 2)
    x = event(table_scorer, {"a": 30, "b": -30, "c": 50, "ok": False, "site": "nowhere"})
    walk = NearestNormal(table_scorer, x, alpha=ALPHA)
    found = walk.finish()
    walk.step()
    assert (walk.done, walk.steps, found.found) == (True, 2, False)
    assert found.document(table_scorer)["p_value"] <= ALPHA  # type: ignore[operator]


def test_what_cannot_be_searched_is_refused(table_scorer: Scorer, normal_rows: pa.Table) -> None:
    x = table_scorer.to_tensor(normal_rows).only()
    with pytest.raises(SchemaError, match=r"one event of shape \(1, 5\), but got \(2, 5\)"):
        NearestNormal(table_scorer, x[:2], alpha=ALPHA)
    with pytest.raises(ConfigError, match="alpha must be a rate"):
        NearestNormal(table_scorer, x[:1], alpha=1.5)
    with pytest.raises(ConfigError, match="guarantee must be a confidence"):
        NearestNormal(table_scorer, x[:1], alpha=ALPHA, guarantee=2.0)
