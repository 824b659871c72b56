"""Scored items as a table: the columns of every answer that is a file, whichever way it is asked for."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from elbound.calibration.calibration import POOLED, CalibrationGroups, Decisions, ScoredItems
from elbound.data.items import TensorItems


def result_table(
    items: TensorItems,
    scored: ScoredItems,
    decisions: Decisions,
    groups: CalibrationGroups | None,
    *,
    start: int = 0,
) -> pa.Table:
    """One row for each of `items` in their order, the first of which is at the place `start` of its upload.

    Scores are null where an item has an error.
    """
    columns = {
        "is_anomaly": pa.array(decisions.is_anomaly),
        "p_value": pa.array(scored.p_value),
        "severity": pa.array(decisions.severity, mask=np.isnan(decisions.severity)),
        "score": pa.array(scored.score),
    }
    if decisions.conditional_p_value is not None:
        columns["conditional_p_value"] = pa.array(decisions.conditional_p_value)
    if groups is not None:
        names = [None if i == POOLED else groups.names[i] for i in scored.group.tolist()]
        columns["group"] = pa.array(names, pa.string())
    for name, values in scored.scores.items():
        columns[name] = pa.array(values)
        columns[f"{name}_p_value"] = pa.array(scored.p_values[name])
    n, errors = items.n, items.errors
    if errors:
        places = np.full(n, -1)
        places[items.index] = np.arange(len(items.index))
        take = pa.array(places, mask=places < 0)
        columns = {name: values.take(take) for name, values in columns.items()}
    nothing = pa.nulls(n, pa.string())
    codes = nothing if not errors else text_array([errors[i].code if i in errors else None for i in range(n)])
    messages = nothing if not errors else text_array([errors[i].message if i in errors else None for i in range(n)])
    return pa.table(
        {
            "index": pa.array(np.arange(start, start + n)),
            "name": nothing if items.names is None else text_array(list(items.names)),
            **columns,
            "error_code": codes,
            "error": messages,
        }
    )


def text_array(values: Sequence[str | None]) -> pa.Array:
    """Text; what is no Unicode (half of a pair of surrogates, from JSON) is written as it is escaped."""
    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:
        plain = [None if text is None else text.encode("utf-8", "backslashreplace").decode() for text in values]
        return pa.array(plain, pa.string())
