"""How often an anomaly has a nearest normal, and how little changes: `python -m benchmarks.counterfactuals`.

Tables and image sets of ELBOUND_DATA, the default detector with few steps of training and the first anomalies that it
finds. Beside the sets' own anomalies: normal rows of which one or three cells are moved by 6 to 12 standard deviations,
and images with a patch of another one.
"""

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from benchmarks.detection import images, tables
from benchmarks.tables import keep
from elbound import Scorer, VAEDetector
from elbound.explain.counterfactual import MAX_STEPS, NearestNormal

TABLES = ("annthyroid", "cardio", "glass", "Ionosphere", "letter", "vowels")
ALPHA = 0.05
TABLE_STEPS = 800
IMAGES = (("patches", "fashion"), ("shift", "fashion"), ("one-class", "mnist-3"), ("one-class", "cifar-1"))
IMAGE_STEPS, IMAGE_TRAIN = 250, 1_500
PLANTED = (1, 3)
SURELY_NORMAL = 0.2
"""The p-value from which a normal row gets cells planted."""
HEADER = (
    "set", "anomalies", "searched", "found", "changed, median", "planted alone", "exactly the planted", "steps, median",
    "most", "CPU ms, median", "CPU ms of a step, 99 %",
)  # fmt: skip


@dataclass
class Searches:
    """What became of the searches of one kind of anomaly."""

    found: list[bool] = field(default_factory=list)
    changed: list[np.ndarray] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    milliseconds: list[float] = field(default_factory=list)
    of_steps: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, scorer: Scorer, x: Tensor) -> "Searches":
        """Search for the nearest normal of each of the events `(n, *event)`."""
        searches = cls()
        for i in range(len(x)):
            searches.add(scorer, x[i, None])
        return searches

    def add(self, scorer: Scorer, x: Tensor) -> None:
        """Search for the nearest normal of one event `(1, *event)`."""
        search = NearestNormal(scorer, x, alpha=ALPHA)
        before = len(self.of_steps)
        while not search.done:
            started = time.process_time()
            search.step()
            self.of_steps.append(1e3 * (time.process_time() - started))
        result = search.result()
        self.found.append(result.found)
        self.changed.append(result.differs.numpy())
        self.steps.append(result.steps)
        self.milliseconds.append(sum(self.of_steps[before:]))

    def row(self, name: str, kind: str, planted: Sequence[np.ndarray] | None) -> list[str]:
        """One line of the table; `planted` are masks of what was altered."""
        if not any(self.found):
            return [name, kind, str(len(self.found)), "0 %" if self.found else "-", *["-"] * (len(HEADER) - 4)]
        changed = [mask for mask, found in zip(self.changed, self.found, strict=True) if found]
        median = np.median([mask.sum() for mask in changed]) if changed[0].ndim == 1 else None
        share = 100 * float(np.median([mask.mean() for mask in changed]))
        alone = exactly = "-"
        if planted is not None:
            pairs = [
                pair for pair, found in zip(zip(self.changed, planted, strict=True), self.found, strict=True) if found
            ]
            alone = _percent([not (mask & ~own).any() for mask, own in pairs])
            exactly = _percent([bool((mask == own).all()) for mask, own in pairs])
        return [
            name, kind, str(len(self.found)), _percent(self.found),
            f"{share:.1f} % of pixels" if median is None else f"{median:g} of {changed[0].size}",
            alone, exactly, f"{np.median(self.steps):g}", str(max(self.steps)),
            f"{np.median(self.milliseconds):.0f}", f"{np.quantile(self.of_steps, 0.99):.0f}",
        ]  # fmt: skip


def measure_table(data: Path, name: str, most: int) -> list[list[str]]:
    """The lines of one table."""
    task = tables.load(data, name, seed=0, max_test=1_000)
    scorer = VAEDetector(device="cpu", steps=TABLE_STEPS, alpha=ALPHA).fit(task.train).scorer_
    own = Searches.of(scorer, _anomalies(scorer, scorer.to_tensor(task.odd[tables.ANOMALIES]).only())[0][:most])
    lines = [own.row(name, "its own", None)]
    normal = scorer.to_tensor(task.normal).only()
    normal = normal[torch.from_numpy(scorer.score_tensor(normal).p_value >= SURELY_NORMAL)]
    for count in PLANTED:
        altered, masks = plant(normal[: 2 * most], count)
        odd, places = _anomalies(scorer, altered)
        searches = Searches.of(scorer, odd[:most])
        lines.append(searches.row(name, f"{count} planted", masks[places[:most]]))
    return lines


def plant(rows: Tensor, count: int) -> tuple[Tensor, np.ndarray]:
    """Rows `(n, d)` with `count` cells of each moved by 6 to 12 standard deviations, and where."""
    draw = np.random.default_rng(count)
    masks = draw.random(rows.shape).argsort(1) < min(count, rows.shape[1])
    moved = draw.choice([-1.0, 1.0], rows.shape) * draw.uniform(6, 12, rows.shape) * masks
    return rows + rows.std(0).clamp(min=1e-6) * torch.from_numpy(moved), masks


def measure_images(data: Path, part: str, name: str, most: int) -> list[list[str]]:
    """The lines of one set of images."""
    task = images.load(data, part, name, seed=0, max_train=IMAGE_TRAIN)
    detector = VAEDetector(device="cpu", mode="pixels", steps=IMAGE_STEPS, alpha=ALPHA)
    scorer = detector.fit(task.train).scorer_
    lines = []
    for kind, items in task.odd.items():
        odd, _ = _anomalies(scorer, scorer.to_tensor(items[: 10 * most]).only())
        searches = Searches.of(scorer, odd[:most])
        lines.append(searches.row(name, kind, None))
    return lines


def _anomalies(scorer: Scorer, x: Tensor) -> tuple[Tensor, np.ndarray]:
    """The events that the scorer finds anomalous, and their places."""
    places = np.flatnonzero(scorer.calibration.decide(scorer.score_tensor(x), ALPHA).is_anomaly)
    return x[torch.from_numpy(places)], places


def _percent(values: Sequence[bool]) -> str:
    return f"{100 * np.mean(values):.0f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--searches", type=int, default=30, help="at most so many a line")
    most = parser.parse_args().searches
    torch.set_num_threads(1)
    data = Path(os.environ["ELBOUND_DATA"])
    lines = [line for name in track(TABLES, "tables") for line in measure_table(data, name, most)]
    lines += [line for part, name in track(IMAGES, "images") for line in measure_images(data, part, name, most // 2)]
    keep(
        "counterfactuals",
        "Nearest normals",
        HEADER,
        lines,
        f"At alpha = {ALPHA:g}; tables after {TABLE_STEPS} steps of training, images (pixels) after {IMAGE_STEPS} "
        f"steps on {IMAGE_TRAIN:,} of them; one thread. *planted alone*: no cell "
        f"but planted ones changes (fewer may do). A search has at most {MAX_STEPS} steps; its result was scored by "
        "itself.",
    )


if __name__ == "__main__":
    main()
