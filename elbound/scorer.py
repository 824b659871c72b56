"""A loaded model: items in, scores and p-values out. The one path of training, service and bulk."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from elbound.bundle import BundleContent, Manifest, load_bundle, save_bundle
from elbound.bundle.files import MAX_BUNDLE_BYTES, MISFITS, first_line
from elbound.bundle.signature import Trust
from elbound.calibration.calibration import Calibration, CalibrationGroups, Decisions, ScoredItems
from elbound.calibration.resolution import alpha_sentence, unresolved
from elbound.data.image import DEFAULT_MAX_PIXELS, ImagePreprocessor
from elbound.data.items import TensorItems
from elbound.data.preprocessor import Items, Preprocessor
from elbound.data.table import TablePreprocessor
from elbound.detector import Detector
from elbound.device import choose_device
from elbound.diagnostics.regret import likelihood_regret
from elbound.engines.agreement import worst_difference
from elbound.engines.engine import choose_engine, with_small_batches
from elbound.errors import BundleCorrupt, GoldenMismatch, SchemaError
from elbound.schema import ImageSchema, TableSchema

GOLDEN_ITEMS = 8
MAX_GOLDEN_ITEMS = 64
GOLDEN_TOLERANCE = 1e-3
"""Largest difference of a golden score, relative to its own size or to 1."""


class Scorer:
    """A detector with its preprocessing and calibration, on one device.

    Scores are a fixed function of the item: no randomness, no dependence on the other items of a batch
    (up to float32 rounding, about 1e-6 of a score's terms).
    """

    def __init__(
        self,
        manifest: Manifest,
        detector: Detector,
        calibration: Calibration,
        golden: Tensor,
        *,
        device: torch.device,
        export: bytes | None = None,
    ) -> None:
        self.manifest = manifest
        self.detector = detector.to(device).eval().requires_grad_(False)
        self.calibration = calibration
        self.golden = golden
        self.device = device
        self.export = export
        self.engine = choose_engine(self.detector, golden, device, export)
        self.preprocessor = Preprocessor(manifest.name, manifest.item)

    @classmethod
    def from_bundle(
        cls,
        path: Path | str,
        *,
        device: str = "auto",
        trust: Trust | None = None,
        max_bytes: int = MAX_BUNDLE_BYTES,
    ) -> "Scorer":
        """Load a bundle of at most `max_bytes`, check what `trust` asks and its hashes, and re-score its golden rows.

        Raises BundleError, BundleUntrusted, BundleCorrupt (names the file), GoldenMismatch.
        """
        content = load_bundle(Path(path), trust, max_bytes=max_bytes)
        try:
            manifest = content.manifest
            detector = Detector(manifest.detector, manifest.item)
            detector.load_state_dict(content.weights)
            content.weights.clear()  # they need not be in memory twice
            calibration = Calibration(
                detector.score_names,
                content.calibration["calibration_scores"].numpy(),
                content.calibration["reference_scores"].numpy(),
                rule=manifest.verdict.rule,
                groups=manifest.verdict.groups,
                held_out=manifest.training.held_out,
                item_groups=_item_groups(content),
            )
            golden, expected = content.golden["x"], content.golden["scores"]
            _check_golden_size(golden)
            scorer = cls(manifest, detector, calibration, golden, device=choose_device(device), export=content.export)
            scorer.check_golden(expected)
        except MISFITS as error:
            raise BundleCorrupt(
                f"{path} does not hold the model of its manifest: {first_line(error)}", where=str(path)
            ) from error
        return scorer

    def hasten_small_batches(self) -> None:
        """Take what time it takes to score small batches faster from now on; for who scores many of them.

        One row costs less than half then, on a CPU by torch; everything else stays as it is.
        """
        if self.device.type == "cpu":
            self.engine = with_small_batches(self.engine, self.detector, self.schema, self.golden)

    def with_export(self) -> "Scorer":
        """The same scorer with the ONNX graph of its detector, which `save` writes into the bundle.

        Raises MissingExtra, ConfigError for images, and BundleError where the graph does not score as torch does.
        """
        from elbound.engines.onnx_export import exported  # needs the extra `export`

        graph = exported(self.detector, self.schema, self.golden, name=self.name)
        return Scorer(self.manifest, self.detector, self.calibration, self.golden, device=self.device, export=graph)

    @property
    def table(self) -> TablePreprocessor | None:
        """The preprocessor of rows, where the model scores rows."""
        return self.preprocessor.table

    @property
    def image(self) -> ImagePreprocessor | None:
        """The preprocessor of images, where the model scores images."""
        return self.preprocessor.image

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def version(self) -> str:
        return self.manifest.version

    @property
    def schema(self) -> TableSchema | ImageSchema:
        return self.manifest.item

    @property
    def alpha(self) -> float:
        """The bundle's default false-alarm rate."""
        return self.manifest.verdict.alpha

    @property
    def guarantee(self) -> float | None:
        """The bundle's default confidence that the rate stays below alpha; None promises it on average."""
        return self.manifest.verdict.guarantee

    @property
    def alpha_chosen(self) -> str:
        """What the bundle's alpha means, and why training chose no smaller one where it had the choice."""
        record = self.manifest.training
        return alpha_sentence(
            self.calibration.n,
            self.alpha,
            self.guarantee,
            items=record.items,
            kind=self.schema.kind,
            grouped=record.grouped,
        )

    def unresolved(self, alpha: float, guarantee: float | None) -> str | None:
        """The one line about an `alpha` at which nothing can ever be an anomaly; None where it decides."""
        return unresolved(self.calibration.verdict, alpha, guarantee)

    @property
    def group_is_feature(self) -> bool:
        """Whether the column that groups the items is also scored."""
        return self.table is not None and self.table.schema.group_by in self.table.schema.names

    def to_tensor(self, items: Items) -> TensorItems:
        """Items as the event tensor of the schema; see `Preprocessor.to_tensor`. Raises SchemaError."""
        return self.preprocessor.to_tensor(items)

    def images_to_tensor(
        self,
        files: Sequence[bytes],
        *,
        names: Sequence[str] | None = None,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        max_total_pixels: int | None = None,
    ) -> TensorItems:
        """Encoded images as the event tensor; one that cannot be read is the error of that item."""
        return self.preprocessor.images_to_tensor(
            files, names=names, max_pixels=max_pixels, max_total_pixels=max_total_pixels
        )

    def raw_scores(self, x: Tensor) -> np.ndarray:
        """Scores of events `(n, *event)`: float64 `(n, scores)` in the order of `detector.score_names`."""
        if tuple(x.shape[1:]) != self.schema.event:
            raise SchemaError(f"expected events of shape {('n', *self.schema.event)}, but got {tuple(x.shape)}")
        scores: np.ndarray = self.engine.score(x).numpy()
        return scores

    def score_tensor(self, x: Tensor) -> ScoredItems:
        """Scores and p-values of events `(n, *event)`."""
        columns = self.raw_scores(x).T
        return self.calibration.judge(dict(zip(self.detector.score_names, columns, strict=True)))

    def score_items(self, items: TensorItems) -> ScoredItems:
        """Scores and p-values of the readable items, each within its calibration group where it has one."""
        return self.within_groups(self.score_tensor(items.x), items)

    def within_groups(self, scored: ScoredItems, items: TensorItems) -> ScoredItems:
        """`scored`, the readable items of `items`, ranked within their calibration groups."""
        labels = items.readable_groups
        return scored if labels is None else self.calibration.judge_by_group(scored, labels)

    def decide(self, scored: ScoredItems) -> Decisions:
        """What follows at the bundle's own alpha and guarantee."""
        return self.calibration.decide(scored, self.alpha, self.guarantee)

    def likelihood_regret(self, x: Tensor) -> np.ndarray:
        """How much better the best posterior explains each event than the encoder's, nats, `(n,)`.

        A deep look at a few events `(n, *event)`, some hundred times the work of a score and no part of the
        verdict: see `regret.py`.
        """
        regret: np.ndarray = likelihood_regret(self.detector, x, self.device).numpy()
        return regret

    def check_golden(self, expected: Tensor) -> None:
        """Raise GoldenMismatch where the golden rows do not score as they did when the bundle was written."""
        worst = worst_difference(torch.from_numpy(self.raw_scores(self.golden)), expected)
        if worst > GOLDEN_TOLERANCE:
            raise GoldenMismatch(
                f"{self.name} {self.version} scores its golden rows {worst:.2g} off (relative; at most "
                f"{GOLDEN_TOLERANCE:g}): this machine or these library versions compute something else",
                where="golden.safetensors",
            )

    def __getstate__(self) -> dict[str, object]:
        """All but the engine, which is of this process."""
        return {name: value for name, value in vars(self).items() if name != "engine"}

    def __setstate__(self, state: dict[str, object]) -> None:
        vars(self).update(state)
        self.engine = choose_engine(self.detector, self.golden, self.device, self.export)

    def _group_members(self) -> dict[str, Tensor]:
        groups = self.calibration.item_groups
        return {} if groups is None else {"item_groups": torch.from_numpy(groups.member)}

    def save(self, path: Path | str, *, force: bool = False, report: dict[str, bytes] | None = None) -> Manifest:
        """Write the bundle and re-score it from disk before success is reported. Raises BundleError."""
        content = BundleContent(
            manifest=self.manifest,
            weights=self.detector.state_dict(),
            calibration={
                "calibration_scores": torch.from_numpy(self.calibration.calibration_scores),
                "reference_scores": torch.from_numpy(self.calibration.reference_scores),
                "verdict_scores": torch.from_numpy(self.calibration.verdict.sorted_scores),
                **self._group_members(),
            },
            golden={"x": self.golden, "scores": torch.from_numpy(self.raw_scores(self.golden))},
            report=report or {},
            export=self.export,
        )
        manifest = save_bundle(content, Path(path), force=force)
        Scorer.from_bundle(path, device=str(self.device))
        return manifest


def _check_golden_size(golden: Tensor) -> None:
    if not 1 <= len(golden) <= MAX_GOLDEN_ITEMS:
        raise BundleCorrupt(
            f"golden.safetensors has {len(golden):,} items; it may have 1 to {MAX_GOLDEN_ITEMS}",
            where="golden.safetensors",
        )


def _item_groups(content: BundleContent) -> CalibrationGroups | None:
    groups = content.manifest.item_groups
    return None if groups is None else CalibrationGroups(groups.names, content.calibration["item_groups"].numpy())
