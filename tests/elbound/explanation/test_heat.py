"""Heat maps point at what was planted."""

import numpy as np
import pytest
import torch

from elbound.errors import SchemaError
from elbound.evaluation import auroc
from elbound.explain.heat import heat_maps
from elbound.scorer import Scorer


def test_a_planted_defect_is_where_the_map_is_hot(image_scorer: Scorer) -> None:
    x = image_scorer.golden.clone()
    x[:, :, 8:11, 1:4] = 255
    planted = torch.zeros(x.shape[-2:], dtype=torch.bool)
    planted[8:11, 1:4] = True
    heat = heat_maps(image_scorer, x).astype(np.float64)
    assert heat.shape == (len(x), 12, 12)
    assert auroc(heat[:, ~planted.numpy()].ravel(), heat[:, planted.numpy()].ravel()) > 0.9
    calm = heat_maps(image_scorer, image_scorer.golden)
    assert np.quantile(calm, 0.99) == pytest.approx(1, rel=0.05)
    alone = heat_maps(image_scorer, x[:1])
    np.testing.assert_allclose(alone, heat[:1], rtol=1e-4, atol=1e-5)


def test_a_table_has_no_heat_map(table_scorer: Scorer) -> None:
    with pytest.raises(SchemaError, match="no heat map"):
        heat_maps(table_scorer, table_scorer.golden)
