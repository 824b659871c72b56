"""From event tensors to the answer: the one function between any transport and the device."""

import time
from dataclasses import dataclass
from typing import Literal

import numpy as np

from elbound.calibration.calibration import ScoredItems
from elbound.calibration.conformal import check_alpha
from elbound.data.items import TensorItems
from elbound.scorer import Scorer
from service.batcher import Batcher, Lane
from service.errors import NoItemScored
from service.explaining import draw_heat, heat_of_items

Layout = Literal["items", "columns"]
INTERACTIVE_ROWS = 256
"""Uploads up to this size wait in the interactive lane."""


@dataclass(frozen=True)
class Answer:
    """Scored items of one upload at one alpha, ready to be written; with their heat maps where asked for."""

    scorer: Scorer
    items: TensorItems
    scored: ScoredItems
    alpha: float
    heat: np.ndarray | None = None


async def score_items(
    scorer: Scorer,
    items: TensorItems,
    batcher: Batcher,
    *,
    alpha: float | None,
    deadline_ms: int,
    batch_rows: int,
    explain: bool = False,
) -> Answer:
    """Score through the queue, large uploads slice by slice so that nobody waits behind all of one; explain if asked.

    Raises Overloaded, DeadlineExceeded, ConfigError for alpha, NoItemScored.
    """
    alpha = scorer.alpha if alpha is None else check_alpha(alpha)
    if len(items.x) == 0:
        raise _none_scored(items)
    lane: Lane = "interactive" if len(items.x) <= INTERACTIVE_ROWS else "bulk"
    deadline = time.monotonic() + deadline_ms / 1000
    parts = [
        await batcher.submit(scorer.score_tensor, rows, lane=lane, deadline=deadline)
        for rows in items.x.split(batch_rows)
    ]
    heat = await heat_of_items(scorer, items.x, batcher, deadline=deadline) if explain else None
    return Answer(scorer, items, ScoredItems.concatenate(parts), alpha, heat)


def answer_document(answer: Answer, layout: Layout) -> dict[str, object]:
    """The answer: model, thresholds at alpha, items (or columns) and summary."""
    scorer, calibration, alpha = answer.scorer, answer.scorer.calibration, answer.alpha
    thresholds = {name: calibrator.threshold(alpha) for name, calibrator in calibration.by_score.items()}
    is_anomaly = calibration.verdict.is_anomaly(answer.scored.score, alpha)
    document: dict[str, object] = {
        "model": {"name": scorer.name, "version": scorer.version},
        "alpha": alpha,
        "n_calibration": calibration.n,
        "resolvable": calibration.verdict.rank(alpha) > 0,
        "smallest_alpha": calibration.verdict.smallest_alpha,
        "verdict": {"rule": calibration.rule.name, "threshold": calibration.verdict.threshold(alpha)},
        "scores": {
            name: {"unit": scorer.detector.units[name], "threshold": threshold}
            for name, threshold in thresholds.items()
        },
    }
    columns = _columns(answer, is_anomaly)
    if layout == "columns":
        document["columns"] = {**columns, "error": [_error(answer.items, i) for i in range(answer.items.n)]}
    else:
        document["items"] = _items(answer, columns)
    document["summary"] = {
        "items": answer.items.n,
        "scored": len(answer.scored),
        "anomalies": int(is_anomaly.sum()),
        "errors": len(answer.items.errors),
        "unseen_categories": dict(answer.items.unseen),
    }
    return document


def _columns(answer: Answer, is_anomaly: np.ndarray) -> dict[str, object]:
    """One list a field, as long as the upload; null where an item has an error."""
    items, scored = answer.items, answer.scored
    severity = answer.scorer.calibration.verdict.severity(scored.score, answer.alpha)
    loudest = answer.scorer.calibration.rule.fired(scored.scores)

    def spread(values: list[object]) -> list[object]:
        if len(values) == items.n:
            return values
        whole: list[object] = [None] * items.n
        for place, value in zip(items.index.tolist(), values, strict=True):
            whole[place] = value
        return whole

    columns: dict[str, object] = {
        "index": list(range(items.n)),
        "name": [None] * items.n if items.names is None else list(items.names),
        "is_anomaly": spread(is_anomaly.tolist()),
        "p_value": spread(scored.p_value.tolist()),
        "severity": [None] * items.n if severity is None else spread(severity.tolist()),
        "score": spread(scored.score.tolist()),
        "fired": spread([name if odd else None for name, odd in zip(loudest, is_anomaly.tolist(), strict=True)]),
        "scores": {
            name: {"value": spread(values.tolist()), "p_value": spread(scored.p_values[name].tolist())}
            for name, values in scored.scores.items()
        },
    }
    if answer.heat is not None:
        pictures = draw_heat(answer.scorer, items.x, answer.heat)
        columns["explanation"] = spread(
            [{"score": name, "heatmap": picture} for name, picture in zip(loudest, pictures, strict=True)]
        )
    return columns


def _items(answer: Answer, columns: dict[str, object]) -> list[dict[str, object]]:
    scores = columns.pop("scores")
    assert isinstance(scores, dict)
    names = list(columns)
    by_score = {name: zip(both["value"], both["p_value"], strict=True) for name, both in scores.items()}
    rows = zip(*(values for values in columns.values() if isinstance(values, list)), strict=True)
    pairs = zip(*by_score.values(), strict=True)
    documents: list[dict[str, object]] = []
    for i, (row, values) in enumerate(zip(rows, pairs, strict=True)):
        document: dict[str, object] = dict(zip(names, row, strict=True))
        if i in answer.items.errors:
            document = {"index": i, "name": document["name"], "error": _error(answer.items, i)}
        else:
            document["scores"] = {
                name: {"value": value, "p_value": p_value}
                for name, (value, p_value) in zip(by_score, values, strict=True)
            }
        documents.append(document)
    return documents


def _error(items: TensorItems, i: int) -> dict[str, object] | None:
    error = items.errors.get(i)
    return None if error is None else {"code": error.code, "message": error.message, "where": error.where}


def _none_scored(items: TensorItems) -> NoItemScored:
    if not items.errors:
        return NoItemScored("the upload holds no items", where="body", items=[])
    first = items.errors[min(items.errors)]
    documents: list[dict[str, object]] = [
        {"index": i, "name": items.names[i] if items.names else None, "error": _error(items, i)}
        for i in sorted(items.errors)
    ]
    return NoItemScored(
        f"none of {items.n:,} items could be scored; the first: {first.message}",
        where=first.where,
        items=documents,
    )
