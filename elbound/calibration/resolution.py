"""Which false-alarm rates a calibration set can decide: the default one, and what to say of one that is too small."""

import math
from fractions import Fraction

from elbound.calibration.conformal import ConformalCalibrator, rank_among
from elbound.data.split import items_for_calibration

DEFAULT_ALPHAS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""The rates that training chooses from where none is asked for, finest first."""


def default_alpha(n: int, guarantee: float | None = None) -> float:
    """The smallest of `DEFAULT_ALPHAS` that `n` calibration items can decide; the largest where they decide none."""
    return next((alpha for alpha in DEFAULT_ALPHAS if rank_among(n, alpha, guarantee)), DEFAULT_ALPHAS[-1])


def needed_items(alpha: float, guarantee: float | None = None) -> int:
    """The fewest calibration items that decide `alpha`: 1 / (n + 1) <= alpha, and 99 for 0.01.

    With a `guarantee`: (1 - alpha)^n <= 1 - guarantee.
    """
    if guarantee is None:
        return math.ceil(1 / Fraction(repr(float(alpha))) - 1)
    return math.ceil(math.log1p(-guarantee) / math.log1p(-alpha) - 1e-9)


def alpha_sentence(n: int, alpha: float, guarantee: float | None, *, items: int, kind: str, grouped: bool) -> str:
    """What the default `alpha` means and why it is no smaller: `items` of a `kind` were given, `n` of them calibrate.

    `kind` is `table` or `image`; `grouped` says that whole groups of items were held out, so that `n` is not the
    number that so many items have otherwise.
    """
    text = f"alpha = {alpha:g}{_kept(guarantee)}, one false alarm in {round(1 / alpha)}"
    finest = DEFAULT_ALPHAS[0]
    if alpha == finest:
        return text
    word, needed = "images" if kind == "image" else "rows", needed_items(finest, guarantee)
    if grouped:
        return (
            f"{text}: {n:,} of {items:,} {word} calibrate, in whole groups, and decide no finer one; "
            f"{needed:,} would decide {finest:g}"
        )
    enough = items_for_calibration(needed)
    more = f"; {enough:,} would decide {finest:g}" if enough else ""
    return f"{text}: {items:,} {word} decide no finer one{more}"


def unresolved(verdict: ConformalCalibrator, alpha: float, guarantee: float | None = None) -> str | None:
    """The one line about an `alpha` at which nothing can ever be an anomaly, with what to do; None where it decides."""
    if verdict.rank(alpha, guarantee):
        return None
    needed = needed_items(alpha, guarantee)
    to_train = items_for_calibration(needed)
    larger = default_alpha(verdict.n, guarantee)
    ways = [
        f"ask for alpha = {larger:g}" if verdict.rank(larger, guarantee) else "",
        f"train on at least {to_train:,} items" if to_train else "",
        f"calibrate with at least {needed:,} normal items",
    ]
    smallest = rounded_up(verdict.smallest_alpha_with(guarantee))
    return (
        f"at alpha = {alpha:g}{_kept(guarantee)} nothing can ever be an anomaly: {verdict.n:,} calibration items "
        f"decide nothing finer than {smallest}; {', or '.join(filter(None, ways))}"
    )


def rounded_up(alpha: float) -> str:
    """Three digits, rounded up: what is written resolves too."""
    step = 10.0 ** (math.floor(math.log10(alpha)) - 2)
    return f"{math.ceil(alpha / step - 1e-9) * step:.3g}"


def _kept(guarantee: float | None) -> str:
    return "" if guarantee is None else f" with {100 * guarantee:g} % confidence"
