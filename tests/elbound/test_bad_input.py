"""Data that nobody wishes for: the detector trains, or refuses with the reason, and no score is ever NaN."""

import numpy as np
import pytest
import torch

from elbound import VAEDetector
from elbound.errors import ConfigError, TooFewItems
from elbound.fit.detector import DetectorConfig, fit_detector
from elbound.schema import ImageSchema

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*too few to hold any out:UserWarning", "ignore:.*decide no finer one:UserWarning"
)


def normal(n: int, d: int = 4, seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return draw.normal(size=(n, 1)) + 0.3 * draw.normal(size=(n, d))


def heavy(n: int) -> np.ndarray:
    draw = np.random.default_rng(1)
    return draw.choice([-1.0, 1.0], (n, 3)) * 10 ** draw.uniform(-30, 30, (n, 3))


def with_constant_and_duplicate_columns(n: int) -> np.ndarray:
    x = normal(n)
    return np.column_stack([x, x[:, 0], np.full(n, 3.0), np.zeros(n), np.full(n, 1e30)])


def missing_but_in_a_few(n: int) -> np.ndarray:
    """A column with three values: most likely none of them is in the calibration part."""
    x = normal(n)
    x[3:, 1] = np.nan
    return x


CASES = {
    "two rows": normal(2),
    "25 rows": normal(25),
    "49 rows": normal(49),
    "one column": normal(100, 1),
    "heavy tails to 1e30": heavy(150),
    "constant and duplicate columns": with_constant_and_duplicate_columns(150),
    "identical rows": np.ones((150, 3)),
    "all zero": np.zeros((60, 2)),
    "a column with three values": missing_but_in_a_few(150),
    "a column without a value": np.column_stack([normal(80), np.full(80, np.nan)]),
    "whole numbers of two values": np.random.default_rng(0).integers(0, 2, (300, 6)).astype(float),
}


@pytest.mark.parametrize("profile", ["default", "fast"])
@pytest.mark.parametrize("name", CASES)
def test_it_trains_and_no_score_is_nan(name: str, profile: str) -> None:
    x = CASES[name]
    scorer = VAEDetector(steps=30, profile=profile).fit(x).scorer_
    d = x.shape[1]
    odd = np.array([[1e30] * d, [-1e30] * d, [1e-30] * d, [np.nan] * d, [0.5] * d])
    scored = scorer.score_tensor(torch.from_numpy(np.r_[x, odd]))
    for values in (scored.score, scored.p_value, *scored.scores.values(), *scored.p_values.values()):
        assert np.isfinite(values).all()
    assert ((scored.p_value > 0) & (scored.p_value <= 1)).all()


def test_more_than_five_thousand_columns_train() -> None:
    x = normal(60, 5_200)
    scorer = VAEDetector(steps=5).fit(x).scorer_
    assert np.isfinite(scorer.score_tensor(torch.from_numpy(x)).score).all()


def test_what_so_few_rows_can_promise_is_said() -> None:
    with pytest.warns(UserWarning, match="no false-alarm rate is promised"):
        VAEDetector(steps=5).fit(normal(19))
    with pytest.warns(UserWarning, match=r"alpha = 0.1, one false alarm in 10: 49 rows decide no finer one"):
        VAEDetector(steps=5).fit(normal(49))
    with pytest.warns(UserWarning, match=r"12 calibration items decide nothing finer than 0.077; ask for alpha = 0.1,"):
        VAEDetector(alpha=0.05, steps=5).fit(normal(49))
    with pytest.raises(TooFewItems, match="1 items"):
        VAEDetector().fit(np.zeros((1, 28, 28), np.uint8))


@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_one_colour(channels: int) -> None:
    images = torch.full((40, channels, 16, 16), 200, dtype=torch.uint8)
    schema = ImageSchema(height=16, width=16, channels=1 if channels == 1 else 3)
    scorer = fit_detector(images, schema, DetectorConfig(device="cpu", steps=10, mode="pixels"))
    black = torch.zeros((1, channels, 16, 16), dtype=torch.uint8)
    scored = scorer.score_tensor(torch.cat([images[:2], black]))
    for values in (scored.score, *scored.scores.values()):
        assert np.isfinite(values).all()
    assert scored.score[2] > scored.score[0]


@pytest.mark.parametrize(("field", "value"), [("profile", "quick"), ("mode", "feature")])
def test_a_profile_or_mode_that_does_not_exist_is_named(field: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"{field} must be one of .*{value!r}"):
        VAEDetector(**{field: value}).fit(normal(50))  # type: ignore[arg-type]
