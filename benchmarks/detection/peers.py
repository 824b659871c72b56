"""What stands beside ours: simple methods of scikit-learn, and PyOD's networks.

All of scikit-learn's see rows that are standardised by the training rows (constant columns have scale 1); the
pixel methods see pixels as they are. PyOD's networks are at their defaults and standardise themselves.
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors

from elbound.evaluation import knn_yardstick

Score: TypeAlias = Callable[[np.ndarray], np.ndarray]
Fit: TypeAlias = Callable[[np.ndarray, int], Score]

NEIGHBOUR = 5
LOF_NEIGHBOURS = 20
KEPT_VARIANCE = 0.95
MAX_ROWS = {"PyOD AutoEncoder": 10_000, "PyOD VAE": 5_000}
"""The most training rows of a method, a random subsample beyond."""


def _standardised(fit: Fit) -> Fit:
    def fit_standardised(train: np.ndarray, seed: int) -> Score:
        mean, scale = train.mean(axis=0), train.std(axis=0)
        scale[scale == 0] = 1.0
        score = fit((train - mean) / scale, seed)
        return lambda x: score((x - mean) / scale)

    return fit_standardised


def _flat(fit: Fit) -> Fit:
    def fit_flat(train: np.ndarray, seed: int) -> Score:
        score = fit(_pixels(train), seed)
        return lambda x: score(_pixels(x))

    return fit_flat


def _pixels(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1).astype(np.float32) / 255


def _nearest(train: np.ndarray, seed: int) -> Score:  # noqa: ARG001
    found = NearestNeighbors(n_neighbors=1).fit(train)
    return lambda x: found.kneighbors(x)[0][:, -1]


def _knn(train: np.ndarray, seed: int) -> Score:  # noqa: ARG001
    return knn_yardstick(train, neighbour=NEIGHBOUR)


def _lof(train: np.ndarray, seed: int) -> Score:  # noqa: ARG001
    fitted = LocalOutlierFactor(n_neighbors=min(LOF_NEIGHBOURS, len(train) - 1), novelty=True).fit(train)
    return lambda x: -fitted.score_samples(x)


def _forest(train: np.ndarray, seed: int) -> Score:
    fitted = IsolationForest(random_state=seed).fit(train)
    return lambda x: -fitted.score_samples(x)


def _pca(train: np.ndarray, seed: int) -> Score:  # noqa: ARG001
    fitted = PCA(n_components=KEPT_VARIANCE, svd_solver="full").fit(train)
    return lambda x: ((x - fitted.inverse_transform(fitted.transform(x))) ** 2).sum(axis=1)


def _autoencoder(train: np.ndarray, seed: int) -> Score:
    from pyod.models.auto_encoder import AutoEncoder

    return _pyod(AutoEncoder(verbose=0, device="cpu", random_state=seed), train, "PyOD AutoEncoder", seed)


def _vae(train: np.ndarray, seed: int) -> Score:
    from pyod.models.vae import VAE

    return _pyod(VAE(verbose=0, device="cpu", random_state=seed), train, "PyOD VAE", seed)


def _pyod(model: object, train: np.ndarray, name: str, seed: int) -> Score:
    if len(train) > MAX_ROWS[name]:
        train = train[np.random.default_rng(seed).permutation(len(train))[: MAX_ROWS[name]]]
    model.fit(train)  # type: ignore[attr-defined]
    return model.decision_function  # type: ignore[attr-defined, no-any-return]


def import_of(name: str) -> None:
    """Import what the method needs, so that its time does not count."""
    if name == "PyOD AutoEncoder":
        import pyod.models.auto_encoder
    elif name == "PyOD VAE":
        import pyod.models.vae  # noqa: F401


TABLE_PEERS: dict[str, Fit] = {
    "kNN": _knn,
    "LOF": _standardised(_lof),
    "isolation forest": _standardised(_forest),
    "PCA": _standardised(_pca),
    "PyOD AutoEncoder": _autoencoder,
    "PyOD VAE": _vae,
}
IMAGE_PEERS: dict[str, Fit] = {"pixel 1-NN": _flat(_nearest), "pixel PCA": _flat(_pca)}
