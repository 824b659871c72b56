"""A detector: views of an item -> models -> scores. Its state is all that the bundle's weights hold."""

import math
from collections.abc import Callable, Iterator
from typing import TypeAlias

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from elbound.device import chunk_pool, cpu_workers
from elbound.model.bounds import fixed_noise
from elbound.model.models import MODELS, ModelSpec
from elbound.model.networks.features import map_shape
from elbound.schema import ImageSchema, TableSchema
from elbound.scores import SCORES, Observed, Score, for_nets
from elbound.views import build_view, modelled_schema

CPU_CHUNK_VALUES = 1 << 19
CUDA_CHUNK_VALUES = 1 << 24
LOOK_ITEMS = 64
MIN_CHUNK, MAX_CHUNK, MAX_CUDA_CHUNK = 64, 1024, 8192
MOST_CHUNK_VALUES = 1 << 26
"""However wide a layer is, a chunk holds no more numbers in it, but one item's."""
MAX_MODELS = 16
MIXTURE_POINTS = 1024
"""At once, in a prior of components: 512 of them in float64."""

ChunkScore: TypeAlias = Callable[[Tensor], Tensor]
"""From events `(n, *event)` to their scores, float64 `(n, scores)`."""


class DetectorSpec(BaseModel):
    """What rebuilds a detector around its weights: one entry for each model, the first view's first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: tuple[ModelSpec, ...] = Field(min_length=1, max_length=MAX_MODELS)


class Member(nn.Module):
    """One view, the model that sees it, its stored noise `(K, 1, latent)` and its scores."""

    noise: Tensor

    def __init__(self, spec: ModelSpec, schema: TableSchema | ImageSchema) -> None:
        super().__init__()
        self.spec = spec
        self.view = build_view(spec.view, schema, spec.typed)
        self.model = MODELS[spec.name](spec, modelled_schema(schema, spec.typed))
        self.register_buffer("noise", torch.zeros(spec.samples, 1, spec.latent))
        self.scores = nn.ModuleList(SCORES[name](spec, schema) for name in spec.scores)

    @property
    def learns(self) -> bool:
        """Whether the model is fitted step by step."""
        return not self.model.closed_form

    @torch.no_grad()
    def look(self, x: Tensor) -> Tensor:
        """What the view makes of all events `(n, *event)`, on the CPU."""
        return torch.cat([self.view(part.to(self.noise.device)).cpu() for part in x.split(LOOK_ITEMS)])

    def observe(self, x: Tensor) -> Observed:
        """What the scores see of events `(n, *event)`."""
        seen = self.view(x)
        posterior = self.model.encode(for_nets(seen, self.spec.nets))
        return Observed(self.view, self.model, self.noise, x, seen, posterior)

    def forward(self, x: Tensor) -> list[Tensor]:
        """The member's scores of events `(n, *event)`, each `(n,)`."""
        observed = self.observe(x)
        return [score(self.model, observed) for score in self.scores]

    @torch.no_grad()
    def remember(self, bank: Tensor, *, chunk: int) -> None:
        """After the fit: prior and scores learn what they keep of `bank`, training events `(m, *event)`."""
        observed = [self.observe(part.to(self.noise.device)) for part in bank.split(chunk)]
        codes = (one.posterior for one in observed)
        self.model.prior.absorb(*(torch.cat(parts, 1) for parts in zip(*codes, strict=True)))
        for score in self.scores:
            assert isinstance(score, Score)
            score.fit(self.model, observed)


class Detector(nn.Module):
    """All members; `score_names` are plain for the first view and carry the view's name for the others."""

    def __init__(self, spec: DetectorSpec, schema: TableSchema | ImageSchema) -> None:
        super().__init__()
        self.spec = spec
        self.members = nn.ModuleList(Member(model, schema) for model in spec.models)
        self.score_names = tuple(
            name if i == 0 else f"{model.view}.{name}" for i, model in enumerate(spec.models) for name in model.scores
        )
        self.units = {name: SCORES[name.rpartition(".")[2]].unit for name in self.score_names}
        values = max(model.samples * model.nets * _row_values(model, schema) for model in spec.models)
        self.workers = cpu_workers()
        most = max(1, MOST_CHUNK_VALUES // max(item_values(model, schema) for model in spec.models))
        self.cpu_chunk = min(most, max(MIN_CHUNK, min(MAX_CHUNK, CPU_CHUNK_VALUES // values)))
        self.cuda_chunk = min(4 * most, max(MIN_CHUNK, min(MAX_CUDA_CHUNK, CUDA_CHUNK_VALUES // values)))

    def each(self) -> Iterator[Member]:
        """The members, typed."""
        return (member for member in self.members if isinstance(member, Member))

    def draw_noise(self, *, seed: int) -> None:
        """Draw each member's noise, once, before it is fitted."""
        for i, member in enumerate(self.each()):
            member.noise.copy_(fixed_noise(member.spec.samples, member.spec.latent, seed=seed + i))

    def remember(self, train: Tensor, *, seed: int) -> None:
        """After the fit: each member's prior and scores keep `bank` random training events of `(n, *event)`."""
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
        for member in self.each():
            if member.spec.bank:
                member.remember(train[order[: member.spec.bank]], chunk=self.cpu_chunk)

    def score(self, x: Tensor) -> Tensor:
        """Scores of one chunk of events `(n, *event)`, float64 `(n, scores)` in the order of `score_names`."""
        return torch.stack([score.double() for member in self.each() for score in member(x)], 1)

    @torch.inference_mode()
    def forward(self, x: Tensor, device: torch.device, score: ChunkScore | None = None) -> Tensor:
        """Scores of any number of events `(n, *event)`: float64 `(n, scores)` on `device`.

        `score` computes the scores of one chunk in the place of the method `score`: a trace, a graph, onnxruntime.
        Works through chunks whose activations fit the cache; only one chunk is on the device at a time.
        """
        score = score or self.score
        chunk = self.cpu_chunk if device.type == "cpu" else self.cuda_chunk
        if len(x) == 0:
            return torch.empty(0, len(self.score_names), dtype=torch.float64, device=device)
        if len(x) <= chunk:
            return score(x.to(device))
        chunks = x.split(chunk)
        if device.type == "cpu" and self.workers > 1:
            return torch.cat(list(chunk_pool(self.workers).map(torch.inference_mode()(score), chunks)))
        return torch.cat([score(part.to(device)) for part in chunks])


def _row_values(spec: ModelSpec, schema: TableSchema | ImageSchema) -> int:
    """About how many activations one sample of one item needs in the widest layer."""
    if isinstance(schema, TableSchema):
        return max(spec.width, 2 * len(schema.columns))
    return 32 * math.prod(schema.event[1:])


def item_values(spec: ModelSpec, schema: TableSchema | ImageSchema) -> int:
    """About how many numbers one item needs in the widest layer, with all levels of a table's columns."""
    if isinstance(schema, TableSchema):
        row = max(spec.width, 2 * len(schema.columns) + _padded_levels(spec, schema))
    else:
        row = max(32 * math.prod(schema.event[1:]), spec.width * math.prod(map_shape(schema)))
    return spec.samples * spec.nets * row


def kept_values(spec: ModelSpec, schema: TableSchema | ImageSchema) -> int:
    """About how many numbers a model needs beside its weights, however few items there are.

    A prior of components compares many points with all of them; places and masks are kept of a table's levels.
    """
    levels = _padded_levels(spec, schema) if isinstance(schema, TableSchema) else 0
    return max(spec.nets * spec.components * max(MIXTURE_POINTS, spec.width), 4 * levels)


def _padded_levels(spec: ModelSpec, schema: TableSchema) -> int:
    """The levels of all columns that have some, each with as many as the one with the most."""
    levels = [len(column.levels) for column in schema.columns if column.kind == "categorical"]
    typed = [len(values) for values in spec.typed.values()]
    return sum(len(sizes) * (max(sizes) + 1) for sizes in (levels, typed) if sizes)
