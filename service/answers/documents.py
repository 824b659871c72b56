"""Scored items as the document of an answer."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal
from weakref import WeakKeyDictionary

import numpy as np

from elbound.calibration.calibration import POOLED
from elbound.scorer import Scorer
from service.scoring.score import Answer, item_error
from service.scoring.terms import Terms

Layout = Literal["items", "columns"]

MAX_HEADERS = 64
"""What callers may ask for is without bound: of each model the headers of so many terms are kept."""
_HEADERS: "WeakKeyDictionary[Scorer, dict[Terms, Mapping[str, object]]]" = WeakKeyDictionary()
"""They go with their model, since another version may take its place while the server runs."""


def answer_document(answer: Answer, layout: Layout) -> dict[str, object]:
    """The answer: model, thresholds, items (or columns) and summary."""
    items = answer.items
    document = dict(fixed_header(answer.scorer, answer.terms))
    if answer.discoveries is not None:
        document["fdr"] = {
            "level": answer.terms.fdr,
            "resolvable": answer.discoveries.resolvable,
            "discoveries": int(answer.discoveries.is_discovery.sum()),
            "least_discoveries": answer.discoveries.least,
        }
    if answer.explained is not None and answer.explained.wanted.counterfactual:
        document["counterfactuals"] = answer.explained.searches(int(answer.is_anomaly.sum()))
    if answer.scorer.calibration.item_groups is not None:
        used = np.unique(answer.scored.group).tolist()
        document["groups"] = groups_document(answer.scorer, answer.terms, used)
    if layout == "columns":
        document["columns"] = {
            **_columns(answer, 0),
            "error": [item_error(items, i) for i in range(items.n)] if items.errors else [None] * items.n,
        }
    else:
        document["items"] = item_documents(answer)
    document["summary"] = summary_document(
        items=items.n,
        scored=len(answer.scored),
        anomalies=int(answer.is_anomaly.sum()),
        errors=len(items.errors),
        unseen=items.unseen,
    )
    return document


def summary_document(
    *, items: int, scored: int, anomalies: int, errors: int, unseen: Mapping[str, int]
) -> dict[str, object]:
    """What the items come to; `unseen` counts categories that training had not seen, by column."""
    return {
        "items": items,
        "scored": scored,
        "anomalies": anomalies,
        "errors": errors,
        "unseen_categories": dict(unseen),
    }


def fixed_header(scorer: Scorer, terms: Terms) -> Mapping[str, object]:
    """What holds for all items of all uploads: the model, the rates, what decides, and the thresholds."""
    known = _HEADERS.setdefault(scorer, {})
    header = known.get(terms)
    if header is None:
        if len(known) >= MAX_HEADERS:
            known.clear()
        header = known[terms] = _make_header(scorer, terms)
    return header


def _make_header(scorer: Scorer, terms: Terms) -> Mapping[str, object]:
    calibration = scorer.calibration
    rate = calibration.verdict.realised_rate(terms.alpha, terms.guarantee) if calibration.held_out else None
    return {
        "model": {"name": scorer.name, "version": scorer.version},
        "alpha": terms.alpha,
        "guarantee": terms.guarantee,
        "decided_by": terms.decided_by,
        "n_calibration": calibration.n,
        "resolvable": calibration.verdict.rank(terms.alpha, terms.guarantee) > 0,
        "smallest_alpha": calibration.verdict.smallest_alpha_with(terms.guarantee),
        "warning": scorer.unresolved(terms.alpha, terms.guarantee),
        "realised_rate": None if rate is None else rate._asdict(),
        "verdict": {
            "rule": calibration.rule.name,
            "threshold": calibration.verdict.threshold(terms.alpha, terms.guarantee),
        },
        "scores": {
            name: {
                "unit": scorer.detector.units[name],
                "threshold": calibrator.threshold(terms.alpha, terms.guarantee),
            }
            for name, calibrator in calibration.by_score.items()
        },
    }


def groups_document(scorer: Scorer, terms: Terms, used: Sequence[int]) -> dict[str, object]:
    """By what items are grouped, and the thresholds of the groups `used`, by their numbers."""
    assert scorer.calibration.item_groups is not None
    assert scorer.manifest.item_groups is not None
    names = scorer.calibration.item_groups.names
    rankings = {names[i]: scorer.calibration.by_group[i].verdict for i in used if i != POOLED}
    return {
        "by": scorer.schema.group_by,
        "is_feature": scorer.group_is_feature,
        "min_items": scorer.manifest.item_groups.min_items,
        "used": {
            name: {
                "n_calibration": verdict.n,
                "resolvable": verdict.rank(terms.alpha, terms.guarantee) > 0,
                "threshold": verdict.threshold(terms.alpha, terms.guarantee),
            }
            for name, verdict in rankings.items()
        },
    }


def _columns(answer: Answer, start: int) -> dict[str, object]:
    """One list a field, as long as the upload; null where an item has an error."""
    items, scored, decisions = answer.items, answer.scored, answer.decisions

    def spread(values: list[Any]) -> list[Any]:
        if len(values) == items.n:
            return values
        whole: list[Any] = [None] * items.n
        for place, value in zip(items.index.tolist(), values, strict=True):
            whole[place] = value
        return whole

    severity = [None if value != value else value for value in decisions.severity.tolist()]
    columns: dict[str, object] = {
        "index": list(range(start, start + items.n)),
        "name": [None] * items.n if items.names is None else list(items.names),
        "is_anomaly": spread(answer.is_anomaly.tolist()),
        "p_value": spread(scored.p_value.tolist()),
        "severity": spread(severity),
        "score": spread(scored.score.tolist()),
        "fired": spread(answer.fired),
        "scores": {
            name: {"value": spread(values.tolist()), "p_value": spread(scored.p_values[name].tolist())}
            for name, values in scored.scores.items()
        },
    }
    if decisions.conditional_p_value is not None:
        columns["conditional_p_value"] = spread(decisions.conditional_p_value.tolist())
    if answer.discoveries is not None:
        columns["at_alpha"] = spread(decisions.is_anomaly.tolist())
        columns["at_fdr"] = spread(answer.discoveries.is_discovery.tolist())
    groups = answer.scorer.calibration.item_groups
    if groups is not None:
        columns["group"] = spread([None if i == POOLED else groups.names[i] for i in scored.group.tolist()])
    if answer.explained is not None:
        told = answer.explained.columns(answer.scorer, len(scored))
        columns |= {name: spread(documents) for name, documents in told.items()}
    return columns


def item_documents(answer: Answer, start: int = 0) -> list[dict[str, object]]:
    """One record an item, the first of which is at the place `start` of its upload."""
    columns = _columns(answer, start)
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
            document = {"index": start + i, "name": document["name"], "error": item_error(answer.items, i)}
        else:
            document["scores"] = {
                name: {"value": value, "p_value": p_value}
                for name, (value, p_value) in zip(by_score, values, strict=True)
            }
        documents.append(document)
    return documents
