"""Do explanations point at what is odd, and what do they cost? `ELBOUND_DATA=DIR python -m benchmarks.explaining`.

One cell of a normal row is changed, a patch is pasted into a normal image: how often has it the largest share, how well
do the maps tell altered pixels from the others, and how much processor time does an explanation take beside the score.
"""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from benchmarks.detection import images, tables
from benchmarks.detection.ours import Ours, pixel_auroc
from benchmarks.detection.task import Task
from benchmarks.tables import keep, table
from elbound.explain import (
    RowShares,
    explain_fired,
    explain_images,
    explain_rows,
    image_documents,
    row_documents,
)
from elbound.explain.regions import strongest_regions
from elbound.scorer import Scorer

TABLES = ("Cardiotocography", "fault", "letter", "thyroid", "vowels", "wine")
PATCHED = ("fashion", "mnist")
ALPHA = 0.05
ROWS, TRAIN_IMAGES, TEST_IMAGES = 500, 1500, 200
FAR, LEAST = 6.0, 1.0
"""Standard deviations: how far a far value lies, and how much another row's value differs at least."""
PAD = 2
"""Pixels around images of 28 x 28, which makes them 32 x 32."""
SECONDS, ROUNDS = 0.4, 5


def main() -> None:
    torch.set_num_threads(1)
    data = Path(os.environ["ELBOUND_DATA"])
    cells, places, costs = [], [], []
    for name in TABLES:
        task = tables.load(data, name, seed=0, max_test=ROWS)
        scorer = fitted(task)
        cells += [[name, str(task.train.shape[1]), *found] for found in planted_cells(scorer, task)]
        if name == "Cardiotocography":
            costs.append([f"one row, {task.train.shape[1]} columns", *row_cost(scorer)])
    for name in PATCHED:
        task = padded(images.load(data, "patches", name, seed=0, max_train=TRAIN_IMAGES))
        scorer = fitted(task)
        places.append([f"{name}, a pasted patch of 8 x 8", *planted_patches(scorer, task)])
        if name == PATCHED[0]:
            costs.append(["one image of 32 x 32", *image_cost(scorer)])
    task = images.load(data, "tiles", "tiles", seed=0)
    places.append(["magnetic tiles, the defects' masks", *planted_patches(fitted(task), task)])
    keep(
        "explaining",
        "Explanations: do they point at what is odd, and what do they cost?",
        *report(cells, places, costs),
    )


def report(
    cells: list[list[str]], places: list[list[str]], costs: list[list[str]]
) -> tuple[list[str], list[list[str]], str]:
    """The table of cells, and the other tables with their words as notes."""
    header = ["table", "columns", "the changed cell", "rows", "largest share", "among the 3 largest", "by chance"]
    header += [f"anomalies at {ALPHA:g}", "of these largest share", "largest in either explanation"]
    parts = [
        "One cell of a normal test row at a time, at a random place: `far` is 6 standard deviations from the mean of "
        "its column, `other row` is the value of another test row, at least one standard deviation away. `either` "
        "counts where the changed cell is first in the shares of `negative_elbo` or of the score that decided.",
        "\n".join(
            table(
                ["images", "images explained", "pixel AUROC", "strongest region meets it", "region by chance"], places
            )
        ),
        "`region by chance`: how often a box of the same size at a random place meets the altered pixels.",
        "\n".join(table(["", "score alone, ms", "in a trace, ms", "explanation, ms", "over the score"], costs)),
        "Processor time, the best of five rounds, one thread; the explanation with its documents (of an image with "
        "three PNGs). `in a trace` is how the service scores a few rows.",
    ]
    return header, cells, "\n\n".join(parts)


def fitted(task: Task) -> Scorer:
    method = Ours("elbound")
    method.fit(task, 0)
    return method.scorer


def planted_cells(scorer: Scorer, task: Task) -> Iterator[list[str]]:
    """How often the changed cell leads, for each way to change it."""
    draw = np.random.default_rng(0)
    rows, spread = task.normal[:ROWS], task.train.std(0)
    varies = np.flatnonzero(spread > 0)
    column = draw.choice(varies, len(rows))
    n = np.arange(len(rows))
    others = rows[draw.integers(0, len(rows), len(rows)), column]
    side = draw.choice([-1.0, 1.0], len(rows))
    values = {
        "far": (task.train.mean(0) + FAR * spread * side[:, None])[n, column],
        "other row": others,
    }
    for kind, value in values.items():
        changed = rows.copy()
        changed[n, column] = value
        differs = np.abs(value - rows[n, column]) >= LEAST * spread[column]
        yield [kind, *_cell_results(scorer, changed[differs], column[differs])]


def _cell_results(scorer: Scorer, rows: np.ndarray, column: np.ndarray) -> list[str]:
    x = scorer.to_tensor(rows).only()
    scored = scorer.score_tensor(x)
    odd = scorer.calibration.decide(scored, ALPHA).is_anomaly
    found: RowShares = explain_rows(scorer, x)
    order = (-found.shares).argsort(1)
    first, among = order[:, 0] == column, (order[:, :3] == column[:, None]).any(1)
    fired = explain_fired(scorer, x, scorer.calibration.rule.fired(scored.scores), nearest_items=0)
    by_fired = [
        one is not None and one.features is not None and int(one.features.argmax()) == column[i]
        for i, one in enumerate(fired)
    ]
    either = first | np.array(by_fired)
    return [
        str(len(x)),
        _share(first),
        _share(among),
        f"{1 / rows.shape[1]:.2f}",
        str(int(odd.sum())),
        _share(first[odd]),
        _share(either[odd]),
    ]


def planted_patches(scorer: Scorer, task: Task) -> list[str]:
    """Of the first altered images of each kind, all kinds together."""
    (name,) = task.masks
    masks, odd = task.masks[name][:TEST_IMAGES], task.odd[name][:TEST_IMAGES]
    cut = Task(task.train, task.normal, {name: odd}, masks={name: masks})
    found = explain_images(scorer, scorer.to_tensor(odd).only())
    meets, chance = [], []
    draw = np.random.default_rng(0)
    for heat, shares, mask in zip(found.heat, found.shares, masks, strict=True):
        regions = strongest_regions(heat, shares)
        meets.append(bool(regions) and _meets(mask, *regions[0][:4]))
        chance.append(bool(regions) and _meets(mask, *_elsewhere(draw, mask, *regions[0][2:4])))
    return [str(len(odd)), f"{pixel_auroc(scorer, cut)[name]:.3f}", _share(np.array(meets)), _share(np.array(chance))]


def _meets(mask: np.ndarray, left: int, top: int, width: int, height: int) -> bool:
    return bool(mask[top : top + height, left : left + width].any())


def _elsewhere(draw: np.random.Generator, mask: np.ndarray, width: int, height: int) -> tuple[int, int, int, int]:
    """A box of the same size at a random place."""
    top, left = (int(draw.integers(0, side - own + 1)) for side, own in zip(mask.shape, (height, width), strict=True))
    return left, top, width, height


def padded(task: Task) -> Task:
    """The same images with `PAD` black pixels on each side."""

    def pad(images: np.ndarray) -> np.ndarray:
        return np.pad(images, ((0, 0), (PAD, PAD), (PAD, PAD)))

    odd = {name: pad(part) for name, part in task.odd.items()}
    return Task(pad(task.train), pad(task.normal), odd, masks={name: pad(part) for name, part in task.masks.items()})


def row_cost(scorer: Scorer) -> list[str]:
    x = scorer.golden[:1]
    return _costs(scorer, lambda: row_documents(scorer, x, explain_rows(scorer, x)))


def image_cost(scorer: Scorer) -> list[str]:
    x = scorer.golden[:1]
    return _costs(scorer, lambda: image_documents(scorer, x, explain_images(scorer, x)))


def _costs(scorer: Scorer, explain: Callable[[], object]) -> list[str]:
    x = scorer.golden[:1]
    score, explained = milliseconds(lambda: scorer.score_tensor(x)), milliseconds(explain)
    scorer.hasten_small_batches()
    traced = milliseconds(lambda: scorer.score_tensor(x))
    return [f"{score:.2f}", f"{traced:.2f}", f"{explained:.2f}", f"{explained / score:.2f}"]


def milliseconds(call: Callable[[], object]) -> float:
    """Processor time of one call: the best of some rounds."""
    call()
    best = np.inf
    for _ in range(ROUNDS):
        start, calls = time.process_time(), 0
        while time.process_time() - start < SECONDS:
            call()
            calls += 1
        best = min(best, (time.process_time() - start) / calls)
    return 1000 * float(best)


def _share(hits: np.ndarray) -> str:
    return f"{hits.mean():.2f}" if len(hits) else "–"


if __name__ == "__main__":
    main()
