"""The pictures of `docs/scores.md`, drawn by the library itself: `make pictures`."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
from scipy.stats import beta

from elbound.calibration.calibration import Calibration, CalibrationGroups
from elbound.calibration.conformal import ConformalCalibrator
from elbound.calibration.drift import LOG_THRESHOLD, DriftMartingale
from elbound.calibration.fdr import discover

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

FOLDER = Path(__file__).parent / "pictures"
BLUE, ORANGE, GREY, RED = "#4477aa", "#ee7733", "#999999", "#cc3311"
"""Told apart by colour-blind readers (Paul Tol's palette)."""
SIZE = (7.0, 3.0)
ALPHA = 0.05


def main() -> None:
    """Draw every picture into `docs/pictures`."""
    FOLDER.mkdir(exist_ok=True)
    for draw in (p_value, severity, guarantee, fdr, groups, drift):
        figure, axes = plt.subplots(figsize=SIZE, layout="constrained")
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        draw(axes)
        figure.savefig(FOLDER / f"{draw.__name__}.png", dpi=110, metadata={"Software": None})
        plt.close(figure)


def normals(n: int, seed: int = 0) -> np.ndarray:
    """Scores of normal items: skewed, as scores are."""
    return np.random.default_rng(seed).gamma(3.0, 1.0, n)


def calibrated(n: int) -> ConformalCalibrator:
    return ConformalCalibrator(normals(n), spread=1.0)


def p_value(axes: Axes) -> None:
    """Dots of 99 normals, a new item, and how many lie beyond it."""
    calibrator, new = calibrated(99), 6.2
    scores = calibrator.sorted_scores
    heights = _stacked(scores)
    beyond = scores >= new
    axes.scatter(scores[~beyond], heights[~beyond], s=22, color=BLUE, label="99 calibration items, all normal")
    axes.scatter(
        scores[beyond], heights[beyond], s=22, color=ORANGE, label=f"{beyond.sum()} of them score at least as high"
    )
    axes.axvline(new, color=RED)
    value = calibrator.p_values(np.array([new]))[0]
    axes.annotate(
        f"a new item\np_value = (1 + {beyond.sum()}) / (99 + 1) = {value:.2f}", (new, heights.max()),
        xytext=(6, -4), textcoords="offset points", va="top", color=RED,
    )  # fmt: skip
    _bare(axes, "score (larger is more anomalous)")
    axes.set_xlim(0, 10.5)
    axes.legend(frameon=False, loc="center right")


def severity(axes: Axes) -> None:
    """The same normals, with the threshold at alpha and the scale of severities."""
    calibrator = calibrated(99)
    threshold = calibrator.threshold(ALPHA)
    assert threshold is not None
    axes.hist(calibrator.sorted_scores, bins=30, color=BLUE)
    top = axes.get_ylim()[1]
    for at in (0, 1, 2):
        place = calibrator.median + at * (threshold - calibrator.median)
        axes.axvline(place, color=(GREY, RED, ORANGE)[at], linestyle=("--", "-", ":")[at])
        text = (
            "severity 0\nmedian of normals",
            f"severity 1\nthreshold at alpha = {ALPHA:g}",
            "severity 2\ntwice as far",
        )
        axes.annotate(text[at], (place, top), xytext=(4, -2), textcoords="offset points", va="top")
    axes.set_xlim(right=calibrator.median + 2.7 * (threshold - calibrator.median))
    _bare(axes, "score")


def guarantee(axes: Axes) -> None:
    """The law of the realised rate, on average and with a guarantee of 0.9."""
    rate = np.linspace(0.001, 0.17, 600)
    for n, width in ((200, 1.2), (2_000, 2.4)):
        for confidence, colour in ((None, BLUE), (0.9, ORANGE)):
            k = calibrated(n).rank(ALPHA, confidence)
            kept = beta(k, n + 1 - k).cdf(ALPHA)
            name = "on average" if confidence is None else f"guarantee {confidence:g}"
            axes.plot(
                100 * rate, beta(k, n + 1 - k).pdf(rate), color=colour, linewidth=width,
                label=f"{name}, n = {n:,}: at most {100 * ALPHA:g} % in {100 * kept:.0f} % of calibration sets",
            )  # fmt: skip
    axes.axvline(100 * ALPHA, color=RED, linestyle="--")
    _bare(axes, f"realised false-alarm rate in %, where alpha = {100 * ALPHA:g} % was asked for")
    axes.legend(frameon=False, fontsize=8, loc="upper right")


def fdr(axes: Axes) -> None:
    """The sorted p-values of an upload and the line of Benjamini and Hochberg."""
    calibrator, m, level = calibrated(1_000), 100, 0.1
    scores = np.r_[normals(m - 12, seed=5), 9 + normals(12, seed=6)]
    found = discover(calibrator, scores, level)
    order = np.argsort(calibrator.p_values(scores), kind="stable")
    p_values, is_odd = calibrator.p_values(scores)[order], (order >= m - 12)
    place = np.arange(1, m + 1)
    axes.plot(place, level * place / m, color=RED, label=f"fdr = {level:g}: {level:g} x place / {m}")
    axes.axhline(ALPHA, color=GREY, linestyle="--", label=f"alpha = {ALPHA:g}, item by item")
    for kind, colour, name in ((~is_odd, BLUE, "normal"), (is_odd, ORANGE, "anomaly")):
        axes.scatter(place[kind], p_values[kind], s=16, color=colour, label=name)
    axes.axvline(found.is_discovery.sum() + 0.5, color=GREY, linewidth=0.8)
    axes.annotate(f"{found.is_discovery.sum()} discoveries", (found.is_discovery.sum() + 1, 0.22), color=RED)
    axes.set(xlim=(0, 35), ylim=(-0.005, 0.25), xlabel="place in the upload, sorted by p_value", ylabel="p_value")
    axes.legend(frameon=False, fontsize=8, loc="center right")


def groups(axes: Axes) -> None:
    """Two machines: one threshold for both, and one for each."""
    first, second = normals(400), 3 + normals(400, seed=1)
    scores = np.r_[first, second][:, None]
    labels = ["a"] * 400 + ["b"] * 400
    calibration = Calibration(
        ("score",), scores, scores, rule="score", item_groups=CalibrationGroups.of(labels, min_items=20)
    )
    pooled = calibration.verdict.threshold(ALPHA)
    assert pooled is not None
    for i, (values, colour) in enumerate(((first, BLUE), (second, ORANGE))):
        own = calibration.by_group[i].verdict.threshold(ALPHA)
        assert own is not None
        alarms = (values > pooled).mean()
        axes.hist(values, bins=40, color=colour, alpha=0.6, label=f"machine {'ab'[i]}: {100 * alarms:.0f} % alarms")
        axes.axvline(own, color=colour)
    axes.axvline(pooled, color=RED, linestyle="--", label="one threshold for both at alpha = 0.05")
    _bare(axes, "score")
    axes.legend(frameon=False, fontsize=8)


def drift(axes: Axes) -> None:
    """The log martingale of 1,000 normal scores and, from there on, of scores that have risen."""
    martingale = DriftMartingale(calibrated(500))
    quiet, shifted = normals(1_000, seed=3), normals(400, seed=4) + 1.2
    path = martingale.observe(np.r_[quiet, shifted])
    axes.plot(np.arange(1, 1_001), path[:1_000], color=BLUE, label="normal scores")
    axes.plot(np.arange(1_001, 1_401), path[1_000:], color=ORANGE, label="every score has risen")
    axes.axhline(LOG_THRESHOLD, color=RED, linestyle="--")
    axes.annotate(
        "log 100: passed with probability at most 1 %, ever, while nothing changes", (10, LOG_THRESHOLD),
        xytext=(0, 4), textcoords="offset points", color=RED,
    )  # fmt: skip
    axes.set(xlabel="scores since the start", ylabel="log martingale", ylim=(-3, 12))
    axes.legend(frameon=False, fontsize=8, loc="upper left")


def _stacked(values: np.ndarray, width: float = 0.22) -> np.ndarray:
    """Heights that put sorted values on top of each other where they are close."""
    bins = np.floor(values / width)
    return np.array([(bins[:i] == bins[i]).sum() for i in range(len(values))], dtype=float)


def _bare(axes: Axes, label: str) -> None:
    axes.set_xlabel(label)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)


if __name__ == "__main__":
    main()
