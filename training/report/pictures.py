"""The report's pictures, as PNG bytes: colours that colour-blind people tell apart, axes with units."""

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from torch import Tensor

from elbound.calibration.calibration import Calibration
from elbound.explain.heat import heat_maps
from elbound.explain.pictures import overlay
from elbound.fit.detector import Fitted
from elbound.scorer import Scorer
from training.inputs.source import KnownItems
from training.report.calibration import ALPHAS, LEAST_THIRD
from training.report.examples import feature_errors, pixels_of, rebuilt
from training.report.facts import (
    BaselineFacts,
    CalibrationFacts,
    DefectFacts,
    Example,
    Facts,
    FeatureFit,
    History,
    LatentFacts,
    ModelUse,
    NotChecked,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#777777"
"""Okabe and Ito, Color Universal Design, 2008."""
DPI = 100
WIDTH = 9.0
MAX_BARS = 30
BINS = 20
SHOWN_KINDS = 8


def learning_curves(history: History) -> bytes | None:
    """Reconstruction and KL apart, in nats; None where the model was solved at once."""
    if not all("kl" in row for row in history) or not history:
        return None
    steps = [row["step"] for row in history]
    figure, axes = _figure(3, 2.6)
    named = (
        ("reconstruction", BLUE, "reconstruction"),
        ("kl", ORANGE, "KL"),
        ("validation_elbo", GREEN, "ELBO, validation"),
    )
    for axis, (key, colour, title) in zip(axes, named, strict=True):
        axis.plot(steps, [row[key] for row in history], color=colour, marker=".", markersize=4)
        axis.set(title=title, xlabel="step", ylabel="nats an item")
    return _png(figure)


def latent_bars(uses: list[ModelUse] | NotChecked) -> bytes | None:
    """The KL of each dimension, the largest first, for each net of each model; inactive ones are grey."""
    nets = [] if isinstance(uses, NotChecked) else [
        (f"{use.name}, net {i + 1}", net) for use in uses if not isinstance(use.nets, NotChecked)
        for i, net in enumerate(use.nets)
    ]  # fmt: skip
    if not nets:
        return None
    figure, axes = _figure(len(nets), 2.6)
    for axis, (name, net) in zip(axes, nets, strict=True):
        order = np.argsort(net.kl)[::-1]
        colours = [BLUE if net.active[i] else GREY for i in order]
        axis.bar(range(len(order)), np.array(net.kl)[order], color=colours, width=0.9 if len(order) < 100 else 1.0)
        axis.set(title=name, xlabel="dimension, by its KL", ylabel="KL (nats)")
    return _png(figure)


def p_value_histograms(found: CalibrationFacts | NotChecked) -> bytes | None:
    """Both sets of p-values beside the flat line."""
    if isinstance(found, NotChecked):
        return None
    figure, axes = _figure(2, 2.8)
    titles = "verdict: each block against the others", "validation part, first score"
    for axis, values, title in zip(axes, (found.p_values, found.validation_p_values), titles, strict=True):
        bins = min(BINS, max(4, len(values) // 10))
        axis.hist(values, bins=np.linspace(0, 1, bins + 1).tolist(), color=BLUE, edgecolor="white")
        axis.axhline(len(values) / bins, color=RED, linestyle="--", label="flat: as promised")
        axis.set(title=title, xlabel="p-value", ylabel="held-out normals")
        axis.legend(fontsize=8)
    return _png(figure)


def realised_rates(found: CalibrationFacts | NotChecked, alpha: float) -> bytes | None:
    """The rate of each block and what is allowed, at the bundle's alpha or the next that a block can tell of."""
    if isinstance(found, NotChecked) or not found.blocks:
        return None
    telling = {check.alpha for check in found.blocks if check.alpha >= alpha and check.alpha * check.items >= 2}
    shown = min(telling) if telling else max(check.alpha for check in found.blocks)
    checks = [check for check in found.blocks if check.alpha == shown]
    figure, (axis,) = _figure(1, 2.8)
    for i, check in enumerate(checks, 1):
        ends = check.low / check.items, check.high / check.items
        axis.plot(
            [i, i], ends, color=GREY, linewidth=7, alpha=0.4, solid_capstyle="butt", label=None if i > 1 else "allowed"
        )
        colour, marker = (BLUE, "o") if check.as_promised else (RED, "X")
        axis.plot(i, check.rate, color=colour, marker=marker, markersize=8, linestyle="none")
    axis.axhline(shown, color=GREEN, linestyle="--", label=f"asked for: {shown:g}")
    axis.set(xlabel="block", ylabel="share of false alarms", xticks=range(1, len(checks) + 1))
    axis.legend(fontsize=8)
    return _png(figure)


def score_histogram(calibration: Calibration, alpha: float) -> bytes:
    """The verdict's scores of the calibration items with the thresholds at the usual rates."""
    verdict = calibration.verdict
    figure, (axis,) = _figure(1, 2.8)
    axis.hist(drawn_in(verdict.sorted_scores), bins=60, color=BLUE)
    styles = ("-", "--", "-.", ":")
    for style, rate in zip(styles, sorted({*ALPHAS, alpha}, reverse=True), strict=False):
        threshold = verdict.threshold(rate)
        if threshold is not None and np.isfinite(threshold):
            axis.axvline(threshold, color=RED, linestyle=style, label=f"threshold at {rate:g}: {threshold:.3g}")
    unit = "nats" if calibration.rule.name not in calibration.names else "as it is"
    axis.set(xlabel=f"score of the verdict ({unit}; the outermost are drawn in)", ylabel="held-out normals")
    axis.legend(fontsize=8)
    return _png(figure)


def scores_in_order(fitted: Fitted) -> bytes | None:
    """The verdict's scores of the calibration items in the order of the data, and the medians of some stretches."""
    places = fitted.split.calibration
    if len(places) < 3 * LEAST_THIRD:
        return None
    scores = drawn_in(fitted.scorer.calibration.calibration_verdict())
    figure, (axis,) = _figure(1, 2.8)
    axis.plot(places, scores, ".", color=BLUE, markersize=3, alpha=0.5)
    stretches = np.array_split(np.arange(len(places)), BINS)
    middles = [float(np.median(scores[stretch])) for stretch in stretches]
    axis.plot([places[len(stretch) // 2 + stretch[0]] for stretch in stretches], middles, color=RED, linewidth=2)
    axis.set(xlabel="place in the data", ylabel="score (outermost drawn in)")
    return _png(figure)


def drawn_in(scores: np.ndarray) -> np.ndarray:
    """Scores with the largest hundredth brought near the others, so that a few wild items do not flatten the rest."""
    finite = scores[np.isfinite(scores)]
    low, high = np.quantile(finite, [0.0, 0.99])
    shown: np.ndarray = np.clip(np.nan_to_num(scores, nan=np.inf), low, high + 0.2 * (high - low))
    return shown


def latent_histogram(found: LatentFacts | NotChecked) -> bytes | None:
    """Surprise of normals, of prior samples and of codes between two normals, in shares of each."""
    if isinstance(found, NotChecked):
        return None
    figure, (axis,) = _figure(1, 2.8)
    sets = (
        ("held-out normals", found.normal, GREY),
        ("from the prior", found.prior, ORANGE),
        ("between two normals", found.between, BLUE),
    )
    low = min(np.quantile(values, 0.005) for _, values, _ in sets)
    high = max(np.quantile(values, 0.98) for _, values, _ in sets)
    bins = np.linspace(low, max(high, low + 1e-6), 50).tolist()
    for name, values, colour in sets:
        inside, share = np.clip(values, bins[0], bins[-1]), np.full(len(values), 1 / len(values))
        axis.hist(inside, bins=bins, weights=share, histtype="step", linewidth=1.8, color=colour, label=name)
    axis.axvline(found.quantile, color=RED, linestyle="--", label="99 % of normals lie left")
    axis.set(xlabel="surprise, -ELBO (nats; the outermost are drawn in)", ylabel="share of the items")
    axis.legend(fontsize=8)
    return _png(figure)


def feature_bars(found: FeatureFit | NotChecked) -> bytes | None:
    """The columns that are explained worst."""
    if isinstance(found, NotChecked):
        return None
    order = np.argsort(np.nan_to_num(found.error))[::-1][:MAX_BARS][::-1]
    figure, (axis,) = _figure(1, 1.2 + 0.22 * len(order))
    axis.barh([found.names[i][:40] for i in order], [min(found.error[i], 2.0) for i in order], color=BLUE)
    axis.margins(y=0.01)
    axis.axvline(1.0, color=RED, linestyle="--", label="1: no better than the column's mean (numbers)")
    axis.set(xlabel="reconstruction error (1 = the column's variance; drawn up to 2)")
    axis.legend(fontsize=8)
    return _png(figure)


def baseline_dots(found: BaselineFacts | NotChecked) -> bytes | None:
    """Each baseline's lead over the verdict with its interval: right of 0 the baseline is better."""
    if isinstance(found, NotChecked) or not found.rivals:
        return None
    figure, (axis,) = _figure(1, 1.3 + 0.35 * len(found.rivals))
    for i, rival in enumerate(reversed(found.rivals)):
        colour = RED if rival.low > 0 else BLUE
        axis.plot([rival.low, rival.high], [i, i], color=colour, linewidth=3)
        axis.plot(rival.lead, i, color=colour, marker="o", markersize=8)
    axis.axvline(0, color=GREY, linestyle="--")
    axis.margins(y=0.2)
    axis.set(yticks=range(len(found.rivals)), yticklabels=[rival.name for rival in reversed(found.rivals)])
    axis.set(xlabel="AUROC of the baseline minus that of elbound (left of 0: elbound is better)")
    return _png(figure)


def example_images(fitted: Fitted, examples: list[Example]) -> bytes:
    """Held-out normals, each with its p-value."""
    titles = [f"item {example.item}\np = {example.p_value:.3g}" for example in examples]
    return _images(fitted.scorer, fitted.x[[example.item for example in examples]], titles)


def defect_images(scorer: Scorer, known: KnownItems, found: DefectFacts | NotChecked | None) -> bytes | None:
    """A typical defect of each kind, the kinds that are found worst first."""
    if found is None or isinstance(found, NotChecked):
        return None
    shown = found.kinds[:SHOWN_KINDS]
    titles = [f"{one.kind[-24:]}\np = {one.example_p_value:.3g}" for one in shown]
    return _images(scorer, known.x[[one.example for one in shown]], titles)


def _images(scorer: Scorer, x: Tensor, titles: list[str]) -> bytes:
    """Each image, what the model expects in its place (where it decodes pixels) and its heat map."""
    again, seen = rebuilt(scorer, x), pixels_of(scorer, x)
    rows = [("image", seen)]
    if again is not None:
        rows.append(("expected", pixels_of(scorer, again)))
    maps = [np.asarray(Image.open(io.BytesIO(overlay(*pair)))) for pair in zip(seen, heat_maps(scorer, x), strict=True)]
    rows.append(("heat map", np.stack(maps)))
    figure, axes = _figure(len(titles), 1.5 * len(rows) + 0.4, rows=len(rows))
    for i, axis in enumerate(axes):
        row, column = divmod(i, len(titles))
        axis.imshow(rows[row][1][column], cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axis.set(xticks=[], yticks=[])
        if column == 0:
            axis.set_ylabel(rows[row][0])
        if row == 0:
            axis.set_title(titles[column], fontsize=8)
    return _png(figure)


def error_picture(fitted: Fitted) -> bytes | None:
    """The mean error of each pixel over held-out normals; None where the model does not decode pixels."""
    scorer = fitted.scorer
    member = next(scorer.detector.each())
    if member.view.costly:
        return None
    errors = feature_errors(member, fitted.x[fitted.split.calibration], chunk=scorer.detector.cpu_chunk).mean(0)
    figure, (axis,) = _figure(1, 3.0)
    shown = axis.imshow(errors.numpy(), cmap="cividis")
    figure.colorbar(shown, ax=axis, label="squared error / variance")
    axis.set(xlabel="pixel", ylabel="pixel")
    return _png(figure)


def draw(facts: Facts, fitted: Fitted, known: KnownItems | None) -> dict[str, bytes]:
    """Every picture that there is something for, by file name."""
    calibration = fitted.scorer.calibration
    pictures = {
        "learning.png": learning_curves(facts.history),
        "latent.png": latent_bars(facts.collapse),
        "p_values.png": p_value_histograms(facts.calibration),
        "rates.png": realised_rates(facts.calibration, facts.alpha),
        "drift.png": scores_in_order(fitted),
        "scores.png": score_histogram(calibration, facts.alpha),
        "baselines.png": baseline_dots(facts.baselines),
        "features.png": feature_bars(facts.features),
        "continuity.png": latent_histogram(facts.latent),
    }
    if fitted.scorer.image is not None and not isinstance(facts.examples, NotChecked):
        pictures |= {
            "typical.png": example_images(fitted, facts.examples.typical),
            "worst.png": example_images(fitted, facts.examples.worst),
            "errors.png": error_picture(fitted),
        }
    if known is not None:
        pictures["defects.png"] = defect_images(fitted.scorer, known, facts.defects)
    return {name: picture for name, picture in pictures.items() if picture is not None}


def _figure(columns: int, height: float, *, rows: int = 1) -> "tuple[Figure, list[Axes]]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = list(np.atleast_1d(figure.subplots(rows, columns)).ravel())
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _png(figure: "Figure") -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()
