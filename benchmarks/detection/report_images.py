"""The image tables of the report."""

from collections.abc import Sequence

import numpy as np

from benchmarks.detection.images import PATCH, TILE_SIDE, TILE_TEST_SHARE
from benchmarks.detection.measure import ALPHAS, PARTS
from benchmarks.detection.record import Line
from benchmarks.detection.summary import Shown, alarms_of, measured, per_set, seconds, sets_of, shown_of
from benchmarks.detection.text import alarm_cell, grid, percent


def render_images(lines: Sequence[Line]) -> list[str]:
    """A section for each part that was measured."""
    own = [line for line in lines if line["part"] != "tables" and "results" in line]
    if not own:
        return []
    shown = shown_of(own)
    sections = {
        "shift": ("Foreign pictures", "", _shift),
        "one-class": ("One class is normal", "Trained on one class, tested against all others.", _one_class),
        "circuits": ("Printed circuits", "Patches of 64 x 64 with and without a defect.", _each),
        "tiles": (
            "Magnetic tiles",
            f"Stretched to {TILE_SIDE} x {TILE_SIDE}. Blocks of pictures that were taken one after the other stay "
            f"whole; those that show a defect too, and others up to {TILE_TEST_SHARE:.0%} of the good tiles, test.",
            _each,
        ),
        "patches": (
            "Where it is",
            f"Test images with a patch of {PATCH} x {PATCH} pixels of another one pasted in, in pixel mode.",
            _each,
        ),
    }
    parts = ["## Images\n\n" + _protocol(own)]
    for part, (title, text, table) in sections.items():
        found = measured(lines, part)
        if found:
            columns = [one for one in shown if one.method in {line["method"] for line in found}]
            parts.append("\n\n".join(piece for piece in (f"### {title}", text, table(found, columns)) if piece))
            parts += [text for text in (_maps(found),) if text]
    return [*parts, "### Seconds\n\n" + _seconds(own, shown), "### False alarms on images\n\n" + _alarms(own)]


def _protocol(lines: Sequence[Line]) -> str:
    most = max(line["limit"] for line in lines)
    cut = f" At most {most:,} training images: a quick look, no result." if most else ""
    return (
        f"AUROC, seeds {', '.join(str(seed) for seed in sorted({line['seed'] for line in lines}))}. elbound is "
        "`VAEDetector()` with no argument but the seed; a mode that is named was asked for. pixel 1-NN and pixel PCA "
        f"(squared reconstruction error at 95% of the variance) see the same images, each method on one core.{cut}"
    )


def _shift(lines: Sequence[Line], shown: Sequence[Shown]) -> str:
    kinds = {line["set"]: list(line["results"]) for line in lines}
    pairs = [(name, kind) for name in sets_of(lines) for kind in kinds[name]]
    values = {(one.title, kind): per_set(lines, one, "auroc", kind) for one in shown for _, kind in pairs}
    rows = [[f"{name} → {kind}", *(_cell(values[one.title, kind].get(name)) for one in shown)] for name, kind in pairs]
    means = [
        _mean([values[one.title, kind][name] for name, kind in pairs if name in values[one.title, kind]])
        for one in shown
    ]
    return grid(["trained → tested", *_titles(shown)], [*rows, ["**mean**", *means]])


def _one_class(lines: Sequence[Line], shown: Sequence[Shown]) -> str:
    values = [per_set(lines, one, "auroc") for one in shown]
    rows = []
    for source in dict.fromkeys(name.partition("-")[0] for name in sets_of(lines)):
        names = [name for name in sets_of(lines) if name.partition("-")[0] == source]
        rows += [[name, *(_cell(by_set.get(name)) for by_set in values)] for name in names]
        means = [_mean([by_set[name] for name in names if name in by_set]) for by_set in values]
        rows.append([f"**{source}, mean of {len(names)}**", *means])
    return grid(["normal class", *_titles(shown)], rows)


def _each(lines: Sequence[Line], shown: Sequence[Shown]) -> str:
    values = [per_set(lines, one, "auroc") for one in shown]
    rows = [[name, *(_cell(by_set.get(name)) for by_set in values)] for name in sets_of(lines)]
    return grid(["set", *_titles(shown)], rows)


def _maps(lines: Sequence[Line]) -> str:
    """Pixel AUROC of the heat map, mean over seeds."""
    found = [line for line in lines if line.get("pixel_auroc")]
    rows = []
    for name, method in dict.fromkeys((line["set"], line["method"]) for line in found):
        values = [
            value
            for line in found
            if (line["set"], line["method"]) == (name, method)
            for value in line["pixel_auroc"].values()
        ]
        rows.append([name, method, _mean(values)])
    text = "Pixel AUROC of the heat map against the masks, over all pixels of the images that have one.\n\n"
    return text + grid(["set", "method", "pixel AUROC"], rows) if rows else ""


def _seconds(lines: Sequence[Line], shown: Sequence[Shown]) -> str:
    rows = []
    for part in PARTS[1:]:
        found = measured(lines, part)
        for one in {one.method: one for one in shown}.values():
            fit, score = (list(seconds(found, one, name).values()) for name in ("fit_s", "score_s"))
            if fit:
                each = sum(line["scored"] for line in found if line["method"] == one.method)
                taken = sum(line["score_s"] for line in found if line["method"] == one.method)
                cells = [
                    f"{np.mean(fit):.1f}",
                    f"{max(fit):.1f}",
                    f"{np.mean(score):.1f}",
                    f"{1000 * taken / each:.2f}",
                ]
                rows.append([part, one.method, *cells])
    return grid(["part", "method", "fit s, mean", "fit s, longest", "score s, mean", "ms an image"], rows)


def _alarms(lines: Sequence[Line]) -> str:
    rows = []
    for part in PARTS[1:]:
        for method in dict.fromkeys(line["method"] for line in lines):
            counts = [one for line in measured(lines, part) if line["method"] == method for one in alarms_of(line)]
            if counts:
                rows.append([part, method, *(alarm_cell(counts, alpha) for alpha in ALPHAS)])
    return (
        "Summed over the sets and seeds of a part, with the interval as for tables. Where test images are not "
        "exchangeable with training images (blocks of tiles, test files that were made apart) no promise covers "
        "them, and what the rate becomes is read here.\n\n"
        + grid(["part", "method", *(f"alpha = {alpha:g}" for alpha in ALPHAS)], rows)
    )


def _titles(shown: Sequence[Shown]) -> list[str]:
    return [one.title for one in shown]


def _cell(value: float | None) -> str:
    return "" if value is None else percent(value)


def _mean(values: Sequence[float]) -> str:
    return percent(float(np.mean(values))) if values else ""
