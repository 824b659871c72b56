"""Scores of photographs in the view `features`: the worst patches, their mean, and the whole image."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from elbound.errors import ConfigError
from elbound.model.models.base import Model, ModelSpec
from elbound.model.networks.features import DEEP_CHANNELS, deep_features, local_features, map_channels, map_shape
from elbound.schema import ImageSchema, TableSchema
from elbound.scores.base import Observed, Reasons, Score
from elbound.scores.latent import whitening_of
from elbound.scores.neighbours import nearest_distances

TOP_SHARE = 0.05
COMPONENTS = 64
PROJECTED = 64
SHRINKAGE = 0.01
"""As in PaDiM: a covariance drawn further to the round one forgets the directions in which normals hardly differ, and
defects show there (mean patch, circuits and tiles: AUROC +2; deep features: +0.3)."""
REGULARISATION = 0.01
POOLING_ITEMS = 50
NEAREST = 5


class PatchScore(Score):
    """The mean of the largest 5 % of a smoothed map over the places: the worst patches."""

    unit = "relative"

    def __init__(self, spec: ModelSpec, schema: TableSchema | ImageSchema) -> None:
        super().__init__(spec, schema)
        if not isinstance(schema, ImageSchema) or spec.view != "features":
            raise ConfigError(f"{self.name} reads the view 'features' of images", where="scores")
        self.map_shape = map_shape(schema)

    def forward(self, model: Model, observed: Observed) -> Tensor:
        flat = self.patch_map(model, observed).flatten(1)
        return flat.topk(max(1, round(TOP_SHARE * flat.shape[1])), 1).values.mean(1)

    def reasons(self, model: Model, observed: Observed) -> Reasons:
        return Reasons(places=self.patch_map(model, observed))

    def patch_map(self, model: Model, observed: Observed) -> Tensor:
        """Each place and its neighbours, `(n, height, width)`: the mean over 3 x 3 places, fewer at the border."""
        values = self.values(model, observed).unflatten(1, self.map_shape)
        smooth = functional.avg_pool2d(values[:, None], 3, 1, padding=1, count_include_pad=False)
        return smooth[:, 0]

    def values(self, model: Model, observed: Observed) -> Tensor:
        """How odd each place is, `(n, places)`."""
        raise NotImplementedError


class PatchError(PatchScore):
    """Of the patch VAE: the mean over channels of (x - prediction)^2 in units of the training variance."""

    name = "patch_error"

    def values(self, model: Model, observed: Observed) -> Tensor:
        terms = observed.terms
        errors: Tensor = model.likelihood.error(terms.prediction, terms.x).mean(0)
        patches: Tensor = errors.unflatten(-1, (-1, map_channels()))
        return patches.mean(-1)


class PatchResidual(PatchScore):
    """What the 64 largest principal components of all patches leave: the mean over channels of its square.

    Shyu et al., A Novel Anomaly Detection Scheme Based on Principal Component Classifier, 2003.
    """

    name = "patch_residual"

    mean: Tensor
    components: Tensor

    def __init__(self, spec: ModelSpec, schema: TableSchema | ImageSchema) -> None:
        super().__init__(spec, schema)
        self.register_buffer("mean", torch.zeros(map_channels()))
        self.register_buffer("components", torch.zeros(map_channels(), COMPONENTS))

    def fit(self, model: Model, bank: Sequence[Observed]) -> None:  # noqa: ARG002 - the contract
        sums = torch.zeros(map_channels(), dtype=torch.float64, device=self.mean.device)
        products, count = sums[:, None] * sums, 0
        for observed in bank:
            patches = local_features(observed.seen).flatten(0, 1).double()
            sums, products = sums + patches.sum(0), products + patches.mT @ patches
            count += len(patches)
        mean = sums / count
        covariance = products / count - mean[:, None] * mean
        self.mean.copy_(mean)
        self.components.copy_(torch.linalg.eigh(covariance).eigenvectors[:, -COMPONENTS:])

    def values(self, model: Model, observed: Observed) -> Tensor:  # noqa: ARG002 - the contract
        deviation = local_features(observed.seen) - self.mean
        rest = deviation - (deviation @ self.components) @ self.components.mT
        return rest.square().mean(-1)


class PatchDistance(PatchScore):
    """The Mahalanobis distance of each patch to the patches at its own place, over the root of the dimensions.

    Defard, Setkov, Loesch and Audigier, PaDiM: a Patch Distribution Modeling Framework, 2020. Of the channels a
    random rotation keeps 64 dimensions; a place's covariance is drawn towards that of all places by 50 / bank,
    for too few images cannot tell it.
    """

    name = "patch_distance"
    unit = "standard deviations"

    mean: Tensor
    rotation: Tensor
    whitening: Tensor

    def __init__(self, spec: ModelSpec, schema: TableSchema | ImageSchema) -> None:
        super().__init__(spec, schema)
        places = self.map_shape[0] * self.map_shape[1]
        draw = torch.Generator().manual_seed(0)
        normal = torch.randn(map_channels(), map_channels(), generator=draw, device=draw.device)
        self.register_buffer("rotation", torch.linalg.qr(normal).Q[:, :PROJECTED].contiguous())
        self.register_buffer("mean", torch.zeros(places, PROJECTED))
        self.register_buffer("whitening", torch.zeros(places, PROJECTED, PROJECTED))

    def fit(self, model: Model, bank: Sequence[Observed]) -> None:  # noqa: ARG002 - the contract
        patches = torch.cat([self._projected(observed) for observed in bank])  # (m, places, 64)
        mean = patches.mean(0)
        deviation = (patches - mean).transpose(0, 1)
        covariance = (deviation.mT @ deviation / max(1, len(patches) - 1)).double()
        pooling = min(1.0, POOLING_ITEMS / len(patches))
        eye = torch.eye(PROJECTED, dtype=torch.float64, device=patches.device)
        covariance = (1 - pooling) * covariance + pooling * covariance.mean(0) + REGULARISATION * eye
        root = torch.linalg.cholesky(covariance)
        self.mean.copy_(mean)
        self.whitening.copy_(torch.linalg.solve_triangular(root, eye.expand_as(root), upper=False).mT)

    def values(self, model: Model, observed: Observed) -> Tensor:  # noqa: ARG002 - the contract
        deviation = (self._projected(observed) - self.mean).transpose(0, 1)  # (places, n, 64)
        return (deviation @ self.whitening).square().mean(-1).sqrt().mT

    def _projected(self, observed: Observed) -> Tensor:
        return local_features(observed.seen) @ self.rotation


class MeanDistance(Score):
    """The Mahalanobis distance of the mean patch to those of training images, over the root of the dimensions."""

    name = "mean_distance"
    unit = "standard deviations"

    mean: Tensor
    whitening: Tensor

    def __init__(self, spec: ModelSpec, schema: TableSchema | ImageSchema) -> None:
        super().__init__(spec, schema)
        size = self.size()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("whitening", torch.eye(size))

    @classmethod
    def size(cls) -> int:
        """How many numbers `pooled` gives."""
        return map_channels()

    def pooled(self, seen: Tensor) -> Tensor:
        """One vector an image, `(n, size)`."""
        return local_features(seen).mean(1)

    def fit(self, model: Model, bank: Sequence[Observed]) -> None:  # noqa: ARG002 - the contract
        mean, whitening = whitening_of(torch.cat([self.pooled(observed.seen) for observed in bank]), SHRINKAGE)
        self.mean.copy_(mean)
        self.whitening.copy_(whitening)

    def forward(self, model: Model, observed: Observed) -> Tensor:  # noqa: ARG002 - the contract
        return ((self.pooled(observed.seen) - self.mean) @ self.whitening).square().mean(1).sqrt()


class DeepDistance(MeanDistance):
    """The Mahalanobis distance of the deep features, over the root of the dimensions.

    Rippel, Mertens and Merhof, Modeling the Distribution of Normal Data in Pre-Trained Deep Features, 2021.
    """

    name = "deep_distance"

    @classmethod
    def size(cls) -> int:
        return DEEP_CHANNELS

    def pooled(self, seen: Tensor) -> Tensor:
        return deep_features(seen)


class DeepNeighbours(Score):
    """1 - cosine of the deep features and those of the 5 nearest training images, their mean.

    Bergman, Cohen and Hoshen, Deep Nearest Neighbor Anomaly Detection, 2020.
    """

    name = "deep_neighbours"
    unit = "relative"

    directions: Tensor

    def __init__(self, spec: ModelSpec, schema: TableSchema | ImageSchema) -> None:
        super().__init__(spec, schema)
        self.register_buffer("directions", torch.zeros(spec.bank, DEEP_CHANNELS))

    def fit(self, model: Model, bank: Sequence[Observed]) -> None:  # noqa: ARG002 - the contract
        self.directions.copy_(torch.cat([_direction(observed) for observed in bank]))

    def forward(self, model: Model, observed: Observed) -> Tensor:  # noqa: ARG002 - the contract
        distances = nearest_distances(_direction(observed), self.directions, NEAREST)
        return 0.5 * distances.square().mean(1)  # of unit vectors: |a - b|^2 = 2 (1 - cos)


def _direction(observed: Observed) -> Tensor:
    return functional.normalize(deep_features(observed.seen), dim=1)
