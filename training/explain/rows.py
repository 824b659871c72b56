"""An explained row as a table on the terminal: bars for shares, what was seen beside what was expected."""

from collections.abc import Mapping

from rich.table import Table
from rich.text import Text

from elbound.data.cells import printable
from training.explain.choice import Verdict

BAR_CELLS = 24
EIGHTHS = " ▏▎▍▌▋▊▉█"


def row_table(explanation: Mapping[str, object], unit: str = "nats") -> Table:
    """Columns by falling share; `explanation` is a document of `row_documents`."""
    features = _features(explanation)
    table = Table(box=None, pad_edge=False)
    for name, justify in (("column", "left"), (unit, "right"), ("", "left"), ("seen", "right"), ("expected", "right")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    table.add_column("95 % interval, or p(seen)")
    largest = max((_number(feature["share"]) for feature in features), default=0.0)
    for feature in features:
        share = _number(feature["share"])
        table.add_row(
            cell_text(feature["name"]),
            f"{share:.2f}",
            Text(bar(share, largest), "red"),
            cell_text(feature["seen"]),
            cell_text(feature["expected"]),
            _expectation(feature),
        )
    for name in ("rest", "latent"):
        if explanation.get(name):
            table.add_row(Text(name, "dim"), f"{_number(explanation[name]):.2f}")
    return table


def fired_table(explanation: Mapping[str, object]) -> Table | None:
    """What the score that decided tells of the columns, beside the nearest training rows; None if it tells neither."""
    nearest = explanation.get("nearest") or []
    assert isinstance(nearest, list)
    shares = {str(feature["name"]): feature for feature in _features(explanation)}
    if not shares:
        return None
    table = Table(box=None, pad_edge=False)
    for name in ("column", "part of the score", "", "seen"):
        table.add_column(name, justify="right" if name in ("part of the score", "seen") else "left")
    for i, one in enumerate(nearest):
        table.add_column(f"nearest {i + 1}, at {one['distance']:.3g}", justify="right")
    largest = max(_number(feature["share"]) for feature in shares.values())
    for name, feature in shares.items():
        share = _number(feature["share"])
        others = [cell_text(one["row"][name]) for one in nearest]
        drawn = Text(bar(share, largest), "red")
        table.add_row(cell_text(name), f"{share:.3g}", drawn, cell_text(feature["seen"]), *others)
    return table


def nearest_headline(counterfactual: Mapping[str, object]) -> str:
    """What the search for the nearest normal came to, on one line."""
    p_value = _number(counterfactual.get("conditional_p_value", counterfactual["p_value"]))
    found = "what would be normal" if counterfactual["found"] else "nothing normal was found; the least odd"
    return f"  {found}, p_value {p_value:.3g}"


def changes_table(counterfactual: Mapping[str, object]) -> Table:
    """The changes that lead to the nearest normal row."""
    changes = counterfactual["changes"]
    assert isinstance(changes, list)
    table = Table(box=None, pad_edge=False)
    for name, justify in (("column", "left"), ("seen", "right"), ("normal", "right")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for change in changes:
        table.add_row(*(cell_text(change[name]) for name in ("name", "seen", "nearest")))
    return table


def headline(one: Verdict) -> Text:
    """Name, verdict and p-value on one line."""
    state = Text("anomaly", "bold red") if one.is_anomaly else Text("normal", "green")
    severity = "" if one.severity is None else f", severity {one.severity:.3g}"
    line = Text.assemble((printable(one.name), "bold"), " · ", state)
    return line.append(f" · p_value {one.p_value:.3g}{severity} · decided by {one.fired}")


def bar(share: float, largest: float) -> str:
    """`share` as a bar of at most `BAR_CELLS`, in eighths of a cell; nothing for a share that is not above 0."""
    if share <= 0 or largest <= 0:
        return ""
    whole, eighth = divmod(round(8 * BAR_CELLS * share / largest), 8)
    return EIGHTHS[8] * whole + EIGHTHS[eighth].strip()


def cell_text(value: object) -> Text:
    """A cell's value in few digits; characters that would move the cursor are not shown."""
    if value is None:
        return Text("missing", "dim")
    return Text(printable(f"{value:.4g}" if isinstance(value, float) else str(value)))


def _expectation(feature: Mapping[str, object]) -> str:
    interval, probability = feature["interval"], feature["probability"]
    if isinstance(interval, list):
        low, high = (cell_text(end).plain for end in interval)
        return f"{low} to {high}"
    return "" if probability is None else f"{_number(probability):.2g}"


def _features(explanation: Mapping[str, object]) -> list[dict[str, object]]:
    features = explanation.get("features") or []
    assert isinstance(features, list)
    return features


def _number(value: object) -> float:
    assert isinstance(value, float | int)
    return float(value)
