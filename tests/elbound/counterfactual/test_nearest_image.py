"""The nearest normal image: the defect goes, the rest stays."""

import base64
import io
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from PIL import Image

from elbound.detector import Detector, DetectorSpec
from elbound.errors import ConfigError
from elbound.explain.counterfactual import MAX_STEPS, NearestNormal, check_counterfactual
from elbound.fit.image_defaults import feature_model
from elbound.schema import ImageSchema
from elbound.scorer import Scorer
from elbound.views import PixelView
from elbound.views.image import UnitView
from tests.conftest import squares

ALPHA = 0.05


def test_a_pasted_patch_goes_and_the_rest_stays(image_scorer: Scorer) -> None:
    """A chequered patch, 6 % of the image: all find a normal image, half of them change at most a tenth."""
    images = squares(12, seed=5)
    images[:, :3, :3] = np.array([[0, 255, 0], [255, 0, 255], [0, 255, 0]])
    x = image_scorer.to_tensor(images).only()
    odd = image_scorer.calibration.decide(image_scorer.score_tensor(x), ALPHA).is_anomaly
    assert odd.sum() >= 8
    shares = []
    for item in x[torch.from_numpy(odd)].split(1):
        found = NearestNormal(image_scorer, item, alpha=ALPHA).finish()
        assert found.found
        assert found.steps <= MAX_STEPS
        assert image_scorer.score_tensor(found.nearest).p_value[0] == found.p_value > ALPHA
        document = found.document(image_scorer)
        shares.append(float((found.nearest != item).any(1).double().mean()))
        assert document["changed_share"] == shares[-1] > 0
        drawn = np.asarray(Image.open(io.BytesIO(base64.b64decode(str(document["image"])))))
        np.testing.assert_array_equal(drawn, found.nearest[0, 0].numpy())
    assert np.median(shares) <= 0.1


def test_a_picture_of_something_else_becomes_normal_the_same_each_time(image_scorer: Scorer) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1, 12, 12), dtype=np.uint8)
    for pixels in (noise, np.full((1, 12, 12), 130, dtype=np.uint8)):
        x = image_scorer.to_tensor(pixels).only()
        found = NearestNormal(image_scorer, x, alpha=ALPHA).finish()
        assert found.found
        assert found.p_value > ALPHA
        assert torch.equal(found.nearest, NearestNormal(image_scorer, x, alpha=ALPHA).finish().nearest)


def test_features_have_no_nearest_normal() -> None:
    schema = ImageSchema(height=32, width=32, channels=3)
    detector = Detector(DetectorSpec(models=(feature_model(schema, 20),)), schema)
    scorer = cast(Scorer, SimpleNamespace(name="photographs", image=schema, detector=detector))
    with pytest.raises(
        ConfigError, match=r"photographs models pretrained features.* train with mode=pixels"
    ) as refused:
        check_counterfactual(scorer)
    assert refused.value.code == "counterfactual_unsupported"


@pytest.mark.parametrize("view", [PixelView, UnitView])
def test_what_a_model_sees_of_pixels_leads_back_to_them(view: type[PixelView | UnitView]) -> None:
    x = torch.from_numpy(squares(20))[:, None]
    seen = view(ImageSchema(height=12, width=12, channels=1)).fit(x)
    torch.testing.assert_close(seen.inverse(seen(x)), x.float(), rtol=0, atol=1e-3)
