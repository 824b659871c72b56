"""Thresholds by group: who gets one, who shares the pooled one, and where the label of an item comes from."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from elbound.calibration.calibration import POOLED, Calibration, CalibrationGroups, min_group_items
from elbound.data.image import ImagePreprocessor
from elbound.data.infer import infer_schema
from elbound.fit.detector import DetectorConfig, fit_detector
from elbound.schema import ImageSchema
from elbound.scorer import Scorer
from tests.conftest import mixed_table, squares


@pytest.fixture(scope="module")
def grouped() -> Scorer:
    table = with_line(mixed_table(900))
    schema = infer_schema(table, exclude=("line",)).schema.model_copy(update={"group_by": "line"})
    config = DetectorConfig(
        name="lines", alpha=0.05, device="cpu", steps=100, item_groups=table["line"].to_pylist(),
    )  # fmt: skip
    return fit_detector(table, schema, config)


def with_line(table: pa.Table) -> pa.Table:
    """Half of the rows on line 1, nearly half on line 2, few on line 3, one in ten on none."""
    draw = np.random.default_rng(3)
    line = draw.choice([1, 2, 3, 0], size=len(table), p=[0.5, 0.38, 0.02, 0.1])
    return table.append_column("line", pa.array(line, mask=line == 0).cast(pa.string()))


def test_small_groups_and_unknown_ones_share_the_pooled_thresholds(grouped: Scorer) -> None:
    groups = grouped.calibration.item_groups
    assert groups is not None
    assert groups.names == ("1", "2")
    assert grouped.manifest.item_groups is not None
    assert grouped.manifest.item_groups.min_items == 20 == min_group_items(0.05)
    table = with_line(mixed_table(50, seed=4))
    scored = grouped.score_items(grouped.to_tensor(table))
    labels = table["line"].to_pylist()
    assert [POOLED if label not in groups.names else int(label) - 1 for label in labels] == scored.group.tolist()
    pooled = grouped.score_tensor(grouped.to_tensor(table).only())
    for i, number in enumerate(scored.group.tolist()):
        ranking = grouped.calibration.ranking(number)
        assert scored.p_value[i] == ranking.verdict.p_values(scored.score[i : i + 1])[0]
        for name, values in scored.scores.items():
            assert scored.p_values[name][i] == ranking.by_score[name].p_values(values[i : i + 1])[0]
        if number == POOLED:
            assert scored.p_value[i] == pooled.p_value[i]
    assert not grouped.group_is_feature


def test_every_format_of_a_row_says_the_same_group(grouped: Scorer) -> None:
    table = with_line(mixed_table(30, seed=5))
    expected = table["line"].to_pylist()
    numbers = table.set_column(table.column_names.index("line"), "line", table["line"].cast(pa.float64()))
    floats = pa.array([None if line is None else f"{line}.0" for line in expected])
    texts = table.set_column(table.column_names.index("line"), "line", floats)
    for items in (table, numbers, texts, table.to_pylist(), numbers.to_pylist()):
        assert grouped.to_tensor(items).groups == expected
    without = grouped.to_tensor(table.drop_columns(["line"]))
    assert without.groups is None
    assert (grouped.score_items(without).group == POOLED).all()
    assert (grouped.score_items(without.in_group("2")).group == 1).all()


def test_groups_survive_the_bundle(grouped: Scorer, tmp_path: Path) -> None:
    grouped.save(tmp_path / "lines")
    again = Scorer.from_bundle(tmp_path / "lines", device="cpu")
    items = grouped.to_tensor(with_line(mixed_table(40, seed=6)))
    first, second = grouped.score_items(items), again.score_items(items)
    assert (first.p_value == second.p_value).all()
    assert (first.group == second.group).all()
    assert again.schema.group_by == "line"


def test_severity_and_decision_are_those_of_the_group() -> None:

    scores = np.r_[np.arange(40.0), 100 + np.arange(40.0)][:, None]
    groups = CalibrationGroups.of(["low"] * 40 + ["high"] * 40, min_items=20)
    calibration = Calibration(("s",), scores, scores, rule="s", item_groups=groups)
    scored = calibration.judge_by_group(calibration.judge({"s": np.array([50.0, 50.0, 200.0])}), ["low", "high", None])
    decisions = calibration.decide(scored, 0.05, 0.5)
    assert decisions.is_anomaly.tolist() == [True, False, True]
    assert decisions.severity[0] > 1 > decisions.severity[1]
    assert decisions.conditional_p_value is not None
    assert (decisions.conditional_p_value <= 0.05).tolist() == [True, False, True]


def test_a_group_of_one_shares_the_pooled_threshold() -> None:
    assert CalibrationGroups.of(["a", None, "b", "b"], min_items=2).names == ("b",)
    assert CalibrationGroups.of(["a", None, "b", "b"], min_items=2).member.tolist() == [POOLED, POOLED, 0, 0]


@pytest.mark.parametrize(
    ("alpha", "guarantee", "least"), [(0.01, None, 99), (0.05, None, 20), (0.01, 0.9, 230), (0.001, None, 999)]
)
def test_a_group_is_large_enough_when_alpha_resolves(alpha: float, guarantee: float | None, least: int) -> None:
    assert min_group_items(alpha, guarantee) == least


def test_file_names_say_the_group_of_an_image() -> None:
    schema = ImageSchema(height=12, width=12, channels=1, group_by=r"^(\w+)/")

    packed = io.BytesIO()
    Image.fromarray(squares(1)[0]).save(packed, "PNG")
    items = ImagePreprocessor(schema).to_tensor([packed.getvalue(), b"x"], names=["left/1.png", "2.png"])
    assert items.groups == ["left", None]
    assert items.readable_groups == ["left"]
    with pytest.raises(ValueError, match="is not a regular expression"):
        ImageSchema(height=12, width=12, channels=1, group_by="(")
