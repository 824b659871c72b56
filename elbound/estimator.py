"""VAEDetector: the scikit-learn face of the same steps as the command."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from elbound.bundle import Manifest
from elbound.calibration.resolution import DEFAULT_ALPHAS
from elbound.data.cells import is_number, list_to_arrow
from elbound.data.frames import as_table, without_mask
from elbound.data.image import ImagePreprocessor
from elbound.data.infer import infer_schema
from elbound.errors import DataError, SchemaError, TooFewItems
from elbound.fit.detector import DetectorConfig, fit_detector
from elbound.fit.image_defaults import settle_mode
from elbound.schema import Column, ImageSchema, TableSchema, list_names


class VAEDetector(OutlierMixin, BaseEstimator):  # type: ignore[misc]
    """Outlier detector that fuses the negative ELBO of variational autoencoders with nearest neighbours.

    Trained on normal items, calibrated on some of them that it holds out: `predict` then raises a false
    alarm on a share of at most `alpha` of new normal items.

    Parameters
    ----------
    alpha : float in (0, 1), optional
        The false-alarm rate of `predict`. By default the smallest of 0.01, 0.02, 0.05, 0.1, 0.2 and 0.5 that the
        calibration items can decide, with a warning where that is not 0.01; 0.01 needs 396 items.
    guarantee : float in [0.5, 1), optional
        The confidence with which the rate stays below alpha; on average by default.
    profile : "default" or "fast"
        "fast" scores rows by the negative ELBO of one small net alone, about a tenth of the work.
    mode : "auto", "pixels" or "features"
        For images: what the detector looks at; by size and colour by default.
    steps, batch_items, learning_rate, latent, width : optional
        Override the rules that choose them from the data.
    device : "auto", "cpu" or "cuda"
    random_state : int
        Fixed by default: two fits on the same data on a CPU agree bit for bit.

    Attributes
    ----------
    scorer_ : Scorer
        The fitted detector with its calibration.
    alpha_ : float
        The rate in force: `alpha`, or the one that was chosen.
    offset_ : float
        `decision_function = score_samples - offset_`; minus the threshold. So low that nothing is an
        outlier where too few items calibrate for `alpha`.
    n_features_in_, feature_names_in_
        As in scikit-learn, for tables.

    Directions are scikit-learn's: `score_samples` and `decision_function` are larger for normal items.
    Input is an array `(n, d)` (NaN is a missing cell), a DataFrame or Arrow table whose columns are numbers,
    booleans or categories, or images as integer arrays `(n, height, width[, channels])`.
    """

    def __init__(
        self,
        *,
        alpha: float | None = None,
        guarantee: float | None = None,
        profile: str = "default",
        mode: str = "auto",
        steps: int | None = None,
        batch_items: int | None = None,
        learning_rate: float | None = None,
        latent: int | None = None,
        width: int | None = None,
        prior: str | None = None,
        likelihood: str | None = None,
        categories: int | None = None,
        device: str = "auto",
        random_state: int = 0,
    ) -> None:
        self.alpha = alpha
        self.guarantee = guarantee
        self.profile = profile
        self.mode = mode
        self.steps = steps
        self.batch_items = batch_items
        self.learning_rate = learning_rate
        self.latent = latent
        self.width = width
        self.prior = prior
        self.likelihood = likelihood
        self.categories = categories
        self.device = device
        self.random_state = random_state

    def fit(self, X: object, y: object = None, *, groups: Sequence[object] | None = None) -> Self:  # noqa: ARG002
        """Fit on normal items.

        `groups` (one label an item) keeps items that belong together in one part of the split. Fewer than 20
        items are fitted with a warning that no rate is promised. Raises DataError, FitError.
        """
        items, schema = self._training_items(X)
        mode, advice = settle_mode(schema, self.mode)
        if advice:
            warnings.warn(advice, stacklevel=2)
        config = DetectorConfig(
            name="vae-detector",
            alpha=self.alpha,
            guarantee=self.guarantee,
            profile=self.profile,
            mode=mode,
            seed=self.random_state,
            device=self.device,
            steps=self.steps,
            batch_items=self.batch_items,
            learning_rate=self.learning_rate,
            latent=self.latent,
            width=self.width,
            prior=self.prior,
            likelihood=self.likelihood,
            categories=self.categories,
            groups=groups,
            allow_tiny=True,
        )
        self.scorer_ = fit_detector(items, schema, config)
        calibration = self.scorer_.calibration
        if not calibration.held_out:
            warnings.warn(
                f"{len(items)} items are too few to hold any out: the thresholds come from training items "
                "and no false-alarm rate is promised",
                stacklevel=2,
            )
        self.alpha_ = self.scorer_.alpha
        threshold = calibration.verdict.threshold(self.alpha_, self.guarantee)
        if (silent := self.scorer_.unresolved(self.alpha_, self.guarantee)) is not None:
            warnings.warn(silent, stacklevel=2)
        elif self.alpha is None and self.alpha_ != DEFAULT_ALPHAS[0] and calibration.held_out:
            warnings.warn(self.scorer_.alpha_chosen, stacklevel=2)
        self.offset_ = float(np.finfo(np.float64).min) / 2 if threshold is None else -threshold
        return self

    def score_samples(self, X: object) -> np.ndarray:
        """Minus the verdict's score in nats, `(n,)`; larger is more normal."""
        return -self._quantised_scores(X)

    def decision_function(self, X: object) -> np.ndarray:
        """`score_samples - offset_`, `(n,)`; negative exactly for outliers."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: object) -> np.ndarray:
        """-1 for outliers, 1 for normal items, `(n,)`."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def p_values(self, X: object) -> np.ndarray:
        """Conformal p-values of the verdict, `(n,)`; uniform or larger for normal items."""
        check_is_fitted(self)
        return self.scorer_.score_tensor(self._tensor(X)).p_value

    def save(self, path: Path | str, *, force: bool = False) -> Manifest:
        """Write a bundle that `elbound serve` and `Scorer.from_bundle` load."""
        check_is_fitted(self)
        return self.scorer_.save(path, force=force)

    def _quantised_scores(self, X: object) -> np.ndarray:
        check_is_fitted(self)
        scored = self.scorer_.score_tensor(self._tensor(X))
        return self.scorer_.calibration.verdict.on_grid(scored.score)

    def _training_items(self, X: object) -> tuple[pa.Table | torch.Tensor, TableSchema | ImageSchema]:
        X = without_mask(X)
        table = as_table(X)
        self.fitted_on_array_ = table is None
        if table is not None:
            _need_two(table.num_rows)
            inferred = infer_schema(table)
            for warning in (*inferred.warnings, *inferred.doubts):
                warnings.warn(warning, stacklevel=4)
            self.n_features_in_ = table.num_columns
            self.feature_names_in_ = np.array(table.column_names, dtype=object)
            return inferred.table, inferred.schema
        if _is_images(X):
            images = np.asarray(X)
            _need_two(len(images))
            schema = _schema_of_images(images)
            self.__dict__.pop("n_features_in_", None)  # of an earlier fit on rows
            self.__dict__.pop("feature_names_in_", None)
            return ImagePreprocessor(schema).array_to_tensor(images).x, schema
        array = self._numbers(X, ensure_min_samples=2)
        self.__dict__.pop("feature_names_in_", None)  # of an earlier fit on a frame
        names = [f"x{i}" for i in range(array.shape[1])]
        columns = tuple(Column(name=name, kind="numeric") for name in names)
        return pa.table(dict(zip(names, array.T, strict=True))), TableSchema(columns=columns)

    def _tensor(self, X: object) -> torch.Tensor:
        """Events of items of the kind that was fitted.

        After a frame an array is read by position as that frame's columns, and a frame after an array likewise.
        """
        X = without_mask(X)
        if _is_images(X):
            return self.scorer_.to_tensor(np.asarray(X)).only()
        table = as_table(X)
        if self.fitted_on_array_:
            return self.scorer_.to_tensor(self._numbers(X if table is None else _array_of(table), reset=False)).only()
        return self.scorer_.to_tensor(self._as_fitted(X) if table is None else table).only()

    def _as_fitted(self, X: object) -> pa.Table:
        """An array or rows `(n, d)` as a table with the columns of the frame that was fitted. Raises SchemaError."""
        names = [str(name) for name in getattr(self, "feature_names_in_", ())]
        rows = np.asarray(X, dtype=object)
        if not names or rows.ndim != 2 or rows.shape[1] != len(names):
            wanted = f"a frame or an array of shape (n, {len(names)})" if names else "images"
            raise SchemaError(f"{wanted} as in fit is expected, but got an array of shape {rows.shape}")
        warnings.warn(f"the array has no names: its columns are read as {list_names(names)}", stacklevel=5)
        cells = rows.astype(np.float64) if np.asarray(X).dtype.kind in "fiub" else rows
        columns = [pa.array(one) if cells is not rows else list_to_arrow(one.tolist()) for one in cells.T]
        return pa.table(dict(zip(names, columns, strict=True)))

    def _numbers(self, X: object, **checks: object) -> np.ndarray:
        """`X` as float64 `(n, d)`, by scikit-learn's checks. Raises DataError that names a column of text."""
        try:
            array: np.ndarray = validate_data(self, X, dtype=np.float64, ensure_all_finite="allow-nan", **checks)
        except ValueError as error:
            cells = np.asarray(X, dtype=object) if isinstance(X, list | np.ndarray) else np.empty(0)
            texts = (
                [i for i, one in enumerate(cells.T) if any(isinstance(cell, str) for cell in one)]
                if cells.ndim == 2
                else []
            )
            if not texts:
                raise
            raise DataError(
                f"column {texts[0]} of the array holds text: {error}; give a DataFrame, whose columns may be text",
                where=str(texts[0]),
            ) from error
        return array

    def __sklearn_tags__(self):  # type: ignore[no-untyped-def]
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        return tags


def _array_of(table: pa.Table) -> np.ndarray:
    """A frame of numbers as an array `(n, d)`, NaN where a cell is missing. Raises SchemaError that names a column."""
    for field in table.schema:
        if not (is_number(field.type) or pa.types.is_boolean(field.type) or pa.types.is_null(field.type)):
            raise SchemaError(
                f"the detector was fitted on an array of numbers; column {field.name!r} is of type {field.type}",
                where=field.name,
            )
    columns = [pc.cast(column, pa.float64(), safe=False).to_numpy() for column in table.columns]
    return np.stack(columns, axis=1) if columns else np.empty((table.num_rows, 0))


def _need_two(n: int) -> None:
    if n < 2:
        raise TooFewItems(f"{n} items; at least 2 are needed to fit")


def _is_images(X: object) -> bool:
    return isinstance(X, np.ndarray) and X.ndim in (3, 4)


def _schema_of_images(images: np.ndarray) -> ImageSchema:
    if images.dtype not in (np.uint8, np.uint16):
        raise DataError(f"images must be uint8 or uint16. Got dtype {images.dtype} instead")
    channels = images.shape[3] if images.ndim == 4 else 1
    if channels not in (1, 3):
        raise DataError(f"images must have 1 or 3 channels in the last place. Got shape {images.shape} instead")
    return ImageSchema(
        height=images.shape[1],
        width=images.shape[2],
        channels=3 if channels == 3 else 1,
        bits=8 if images.dtype == np.uint8 else 16,
    )
