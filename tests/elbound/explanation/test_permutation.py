"""Columns in another order have the same shares, each at its column's new place."""

import numpy as np
import pyarrow as pa
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from elbound.detector import Detector, DetectorSpec
from elbound.explain import explain_rows
from elbound.model.likelihoods.columns import ColumnsLikelihood
from elbound.model.models.bodies import RowEncoder
from elbound.model.models.vae import VAE
from elbound.schema import TableSchema
from elbound.scorer import Scorer
from elbound.views.table import StandardView


def permuted(scorer: Scorer, order: list[int]) -> Scorer:
    """The first member of `scorer` for rows whose columns stand in `order`: the same function, its weights moved."""
    old = next(scorer.detector.each())
    assert isinstance(scorer.schema, TableSchema)
    schema = scorer.schema.model_copy(update={"columns": tuple(scorer.schema.columns[j] for j in order)})
    spec = old.spec.model_copy(update={"scores": ("negative_elbo",)})
    detector = Detector(DetectorSpec(models=(spec,)), schema)
    new = next(detector.each())
    state = {name: value for name, value in old.state_dict().items() if not name.startswith("scores.")}
    new.load_state_dict(state)
    assert isinstance(new.view, StandardView)
    assert isinstance(old.view, StandardView)
    new.view.mean.copy_(old.view.mean[order])
    new.view.scale.copy_(old.view.scale[order])
    assert isinstance(new.model, VAE)
    assert isinstance(old.model, VAE)
    inputs = moved(input_keys(old.model), input_keys(new.model), order)
    outputs = moved(output_keys(old.model), output_keys(new.model), order)
    new.model.encoder.body.first.weight.data = old.model.encoder.body.first.weight.data[:, inputs]
    new.model.decoder.last.weight.data = old.model.decoder.last.weight.data[..., outputs]
    new.model.decoder.last.bias.data = old.model.decoder.last.bias.data[..., outputs]
    other = object.__new__(Scorer)
    manifest = scorer.manifest.model_copy(update={"item": schema})
    vars(other).update(manifest=manifest, detector=detector.eval(), device=scorer.device)
    return other


def moved(old: list[tuple[str, int, int]], new: list[tuple[str, int, int]], order: list[int]) -> list[int]:
    """Where each of the new layer's numbers stood in the old one: (what, column, which) with the column's old place."""
    return [old.index((what, order[column], which)) for what, column, which in new]


def input_keys(model: VAE) -> list[tuple[str, int, int]]:
    encoder = model.encoder
    assert isinstance(encoder, RowEncoder)
    hot = zip(encoder.hot_column.tolist(), encoder.hot_level.tolist(), strict=True)
    return [
        *(("plain", column, 0) for column in encoder.plain.tolist()),
        *(("hot", column, level) for column, level in hot),
        *(("gap", column, 0) for column in encoder.gaps.tolist()),
    ]


def output_keys(model: VAE) -> list[tuple[str, int, int]]:
    likelihood = model.likelihood
    assert isinstance(likelihood, ColumnsLikelihood)
    keys: list[tuple[str, int, int]] = []
    pieces = likelihood.order.split(likelihood.widths)
    for columns, width in zip(pieces, likelihood.parameter_widths, strict=True):
        own = columns.tolist()
        if len(own) == 1:  # a boolean's logit or the logits of one category
            keys += [("out", own[0], which) for which in range(width)]
        else:  # means, then log-variances
            keys += [("out", column, which) for which in range(width // len(own)) for column in own]
    return keys


@settings(max_examples=10, deadline=None)
@given(order=st.permutations(range(5)))
def test_permuting_columns_permutes_shares(table_scorer: Scorer, normal_rows: pa.Table, order: list[int]) -> None:
    x = table_scorer.to_tensor(normal_rows).only()[:20].clone()
    x[0, 0] = 30.0
    x[1, 1] = torch.nan
    found, again = explain_rows(table_scorer, x), explain_rows(permuted(table_scorer, order), x[:, order])
    np.testing.assert_allclose(again.latent, found.latent, rtol=1e-4, atol=1e-4)
    for name in ("shares", "expected", "low", "high", "probability"):
        np.testing.assert_allclose(
            getattr(again, name), getattr(found, name)[:, order], rtol=1e-4, atol=2e-3, err_msg=name
        )
