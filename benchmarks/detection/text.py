"""Cells and tables of Markdown."""

from collections.abc import Sequence

from benchmarks.detection.statistics import Alarms, pooled_alarms, resolved


def grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; the first column is left, the others right."""
    lines = ["| " + " | ".join(cells) + " |" for cells in (header, *rows)]
    return "\n".join([lines[0], "|---|" + "---:|" * (len(header) - 1), *lines[1:]])


def percent(value: float) -> str:
    """A share in points with one decimal."""
    return f"{100 * value:.1f}"


def alarm_cell(counts: Sequence[Alarms], alpha: float) -> str:
    """`alarms / items = rate [low, high]` summed over the counts at `alpha`, and ! outside the interval."""
    kept = resolved([one for one in counts if one.alpha == alpha])
    if not kept:
        return "does not resolve"
    found, items = pooled_alarms(kept), sum(one.items for one in kept)
    mark = "" if found.holds else " !"
    return f"{found.value:,.0f} / {items:,} = {found.value / items:.2%} [{found.low:,.0f}, {found.high:,.0f}]{mark}"
