"""The encoder and decoder bodies that the models share, for rows and for images."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from elbound.errors import ConfigError
from elbound.model.likelihoods import IMAGE_LIKELIHOODS
from elbound.model.likelihoods.base import Likelihood
from elbound.model.likelihoods.columns import ColumnsLikelihood
from elbound.model.models.base import ModelSpec
from elbound.model.networks.conv import ConvDecoder, ConvEncoder
from elbound.model.networks.mlp import ResidualMLP
from elbound.schema import ImageSchema, TableSchema
from elbound.torch_graph import gaps_as_zero

MAX_INPUT = 30.0
"""The encoder sees standardised numbers clipped here, the likelihood as they are: further out the decoder would follow
an outlier and cancel most of its surprise in float32. 18 tables: AUROC 89.2 without and with it."""


class Encoder(nn.Module):
    """Maps `(nets, n, *event)` to `(nets, n, outputs)`: `inputs` codes an event, `body` has the weights.

    `input_shape` is that of one coded event.
    """

    input_shape: tuple[int, ...]

    def inputs(self, x: Tensor) -> Tensor:
        """What the first layer sees, `(nets, n, *input_shape)`."""
        raise NotImplementedError

    def encode_inputs(self, inputs: Tensor) -> Tensor:
        """From `(nets, n, *input_shape)` to `(nets, n, outputs)`."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return self.encode_inputs(self.inputs(x))


class RowEncoder(Encoder):
    """Encodes rows: numbers with 0 for a gap, levels one-hot, and a mark for each gap that training saw.

    A gap in a column that had none in training is filled with the mean (0) or with no level, unmarked: a
    mark that was never set in training would have an untrained weight.
    """

    plain: Tensor
    gaps: Tensor
    hot_column: Tensor
    hot_level: Tensor

    def __init__(self, schema: TableSchema, spec: ModelSpec, outputs: int) -> None:
        super().__init__()
        plain = [i for i, column in enumerate(schema.columns) if column.kind != "categorical"]
        self.register_buffer("plain", torch.tensor(plain, dtype=torch.long), persistent=False)
        gaps = [i for i, column in enumerate(schema.columns) if column.nullable]
        self.register_buffer("gaps", torch.tensor(gaps, dtype=torch.long), persistent=False)
        one_hot = [
            (i, level)
            for i, c in enumerate(schema.columns)
            if c.kind == "categorical"
            for level in range(len(c.levels) + 1)
        ]
        self.register_buffer("hot_column", torch.tensor([i for i, _ in one_hot], dtype=torch.long), persistent=False)
        self.register_buffer("hot_level", torch.tensor([level for _, level in one_hot]), persistent=False)
        self.only_numbers = len(plain) == len(schema.columns) and not gaps
        self.input_shape = (len(plain) + len(one_hot) + len(gaps),)
        self.body = ResidualMLP(spec.nets, *self.input_shape, spec.width, outputs)

    def encode_inputs(self, inputs: Tensor) -> Tensor:
        encoded: Tensor = self.body(inputs)
        return encoded

    def inputs(self, x: Tensor) -> Tensor:
        if self.only_numbers:
            return gaps_as_zero(x).clamp(-MAX_INPUT, MAX_INPUT)
        return torch.cat(
            [
                gaps_as_zero(x.index_select(-1, self.plain)).clamp(-MAX_INPUT, MAX_INPUT),
                (x.index_select(-1, self.hot_column) == self.hot_level).to(x.dtype),
                torch.isnan(x.index_select(-1, self.gaps)).to(x.dtype),
            ],
            -1,
        )


class Stacked(nn.Module):
    """Nets that cannot be one batched product, run in turn: `(nets, n, ...)` to `(nets, n, ...)`."""

    def __init__(self, nets: list[nn.Module]) -> None:
        super().__init__()
        self.nets = nn.ModuleList(nets)

    def forward(self, x: Tensor) -> Tensor:
        if len(self.nets) == 1:
            only: Tensor = self.nets[0](x[0])
            return only[None]
        return torch.stack([net(part) for net, part in zip(self.nets, x, strict=True)])


class ImageEncoder(Encoder):
    """Encodes images as they are, each net in turn."""

    def __init__(self, schema: ImageSchema, spec: ModelSpec, outputs: int) -> None:
        super().__init__()
        self.input_shape = schema.event
        self.body = Stacked([ConvEncoder(*schema.event, outputs) for _ in range(spec.nets)])

    def inputs(self, x: Tensor) -> Tensor:
        return x

    def encode_inputs(self, inputs: Tensor) -> Tensor:
        encoded: Tensor = self.body(inputs)
        return encoded


class Bodies(NamedTuple):
    """`encoder` maps `(nets, n, *event)` to `(nets, n, outputs)`, `decoder` `(nets, m, code)` to
    `(nets, m, *parameter_shape)` of the `likelihood`."""

    encoder: Encoder
    decoder: nn.Module
    likelihood: Likelihood


def build_bodies(spec: ModelSpec, schema: TableSchema | ImageSchema, *, outputs: int, code: int) -> Bodies:
    """Untrained bodies for items of `schema`; draws the weights from torch's default generator.

    Raises ConfigError for a likelihood of other units than those of the view.
    """
    if isinstance(schema, TableSchema):
        columns = ColumnsLikelihood(
            schema,
            variance_floor=spec.variance_floor,
            novelty=spec.novelty,
            numeric=spec.likelihood,
            odd_gaps=spec.odd_gaps,
        )
        decoder = ResidualMLP(spec.nets, code, spec.width, math.prod(columns.parameter_shape))
        return Bodies(RowEncoder(schema, spec, outputs), decoder, columns)
    pixels = IMAGE_LIKELIHOODS[spec.likelihood](schema.event, spec.nets, spec.variance_floor)
    if pixels.view not in (None, spec.view):
        raise ConfigError(
            f"the likelihood {spec.likelihood!r} reads the view {pixels.view!r}. Got {spec.view!r} instead",
            where="likelihood",
        )
    encoder = ImageEncoder(schema, spec, outputs)
    channels, height, width = pixels.parameter_shape
    decoders: list[nn.Module] = [ConvDecoder(code, channels, height, width) for _ in range(spec.nets)]
    return Bodies(encoder, Stacked(decoders), pixels)
