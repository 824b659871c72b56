"""Explanations as documents for JSON: what the service answers and `elbound explain --json` writes."""

import base64
import datetime
import io
import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from torch import Tensor

from elbound.data.table import plain_cell
from elbound.explain.fired import FiredReasons
from elbound.explain.images import ImageShares, grey_pixels
from elbound.explain.pictures import heat_layer, png
from elbound.explain.regions import strongest_regions
from elbound.explain.rows import RowShares
from elbound.schema import Column, TableSchema
from elbound.scorer import Scorer

Document: TypeAlias = dict[str, object]

NORMAL_RANGE = {"low": 0.05, "median": 0.5, "high": 0.95}
BANK_DIGITS = 7
"""Nearest rows are kept in float32."""


def row_documents(scorer: Scorer, x: Tensor, shares: RowShares, top: int | None = None) -> list[Document]:
    """One document for each event `(n, d)`: its columns by falling share, the others than the `top` ones as `rest`."""
    columns = _columns(scorer)
    documents = []
    for seen, share, expected, low, high, probability, latent in zip(
        x.tolist(),
        shares.shares.tolist(),
        shares.expected.tolist(),
        shares.low.tolist(),
        shares.high.tolist(),
        shares.probability.tolist(),
        shares.latent.tolist(),
        strict=True,
    ):
        kept, rest = _largest(share, top)
        features = [
            {
                "name": columns[j].name,
                "share": share[j],
                "seen": cell_value(columns[j], seen[j]),
                "expected": cell_value(columns[j], expected[j]),
                "interval": _interval(columns[j], low[j], high[j]),
                "probability": _number(probability[j]),
            }
            for j in kept
        ]
        documents.append({"score": "negative_elbo", "features": features, "rest": rest, "latent": latent})
    return documents


def image_documents(scorer: Scorer, x: Tensor, shares: ImageShares, as_npy: bool = False) -> list[Document]:
    """One document for each event `(n, *event)`; pictures are PNG in base64 at the model's size.

    `as_npy` adds the shares as a float32 array in npy format.
    """
    assert scorer.image is not None
    documents = []
    for i, pixels in enumerate(scorer.image.from_tensor(x)):
        share, heat = shares.shares[i], shares.heat[i]
        regions = strongest_regions(heat, share)
        document: Document = {
            "score": "negative_elbo",
            "width": share.shape[1],
            "height": share.shape[0],
            "regions": [{"box": list(region[:4]), "share": region.share} for region in regions],
            "rest": float(share.sum()) - sum(region.share for region in regions),
            "latent": float(shares.latent[i]),
            "image": _base64(png(pixels)),
            "heatmap": _base64(png(heat_layer(heat))),
            "reconstruction": None if shares.reconstruction is None else _base64(png(shares.reconstruction[i])),
        }
        if as_npy:
            document["shares"] = _base64(_npy(share))
        documents.append(document)
    return documents


def fired_documents(
    scorer: Scorer, x: Tensor, fired: Sequence[FiredReasons | None], top: int | None = None
) -> list[Document | None]:
    """One document for each event `(n, *event)` whose score had more to tell; what it cannot tell is left out."""
    return [
        None if told is None else _fired_document(scorer, event, told, top)
        for event, told in zip(x, fired, strict=True)
    ]


def cell_value(column: Column, value: float) -> object:
    """A cell as `/score` takes it: a number, a boolean, the name of a level, a time as ISO text; None for a gap."""
    is_time = column.kind == "datetime" and not math.isnan(value)
    return _time(value) if is_time else plain_cell(column, value)


def _fired_document(scorer: Scorer, event: Tensor, told: FiredReasons, top: int | None) -> Document:
    place = scorer.calibration.names.index(told.score)
    normal = np.quantile(scorer.calibration.calibration_scores[:, place], list(NORMAL_RANGE.values()))
    document: Document = {"score": told.score, "normal": dict(zip(NORMAL_RANGE, normal.tolist(), strict=True))}
    if told.features is not None:
        columns, share = _columns(scorer), told.features.tolist()
        kept, document["rest"] = _largest(share, top)
        document["features"] = [
            {"name": columns[j].name, "share": share[j], "seen": cell_value(columns[j], float(event[j]))} for j in kept
        ]
        document["latent"] = told.latent
    if told.heat is not None:
        document["heatmap"] = _base64(png(heat_layer(told.heat)))
    if told.nearest is not None and told.distances is not None:
        shown = _rows(scorer, told.nearest) if scorer.image is None else _images(scorer, told.nearest)
        document["nearest"] = [
            {"distance": distance, **one} for distance, one in zip(told.distances.tolist(), shown, strict=True)
        ]
    return document


def _rows(scorer: Scorer, events: Tensor) -> list[Document]:
    columns = _columns(scorer)
    rounded = [[float(f"{value:.{BANK_DIGITS}g}") for value in row] for row in events.tolist()]
    return [{"row": {c.name: cell_value(c, v) for c, v in zip(columns, row, strict=True)}} for row in rounded]


def _images(scorer: Scorer, events: Tensor) -> list[Document]:
    assert scorer.image is not None
    return [{"image": _base64(png(pixels))} for pixels in grey_pixels(scorer.image, events)]


def _columns(scorer: Scorer) -> tuple[Column, ...]:
    assert isinstance(scorer.schema, TableSchema)
    return scorer.schema.columns


def _largest(shares: list[float], top: int | None) -> tuple[list[int], float]:
    """The places of the `top` largest shares, by falling share, and the sum of the others."""
    order = sorted(range(len(shares)), key=lambda j: -shares[j])
    return order[:top], 0.0 if top is None else sum(shares[j] for j in order[top:])


def _interval(column: Column, low: float, high: float) -> list[object] | None:
    return None if math.isnan(low) else [cell_value(column, low), cell_value(column, high)]


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _time(seconds: float) -> object:
    """ISO text; the number of seconds where no calendar goes that far."""
    try:
        moment = datetime.datetime.fromtimestamp(round(seconds, 3), datetime.UTC)
    except (OverflowError, ValueError, OSError):
        return seconds
    return moment.isoformat(timespec="milliseconds" if moment.microsecond else "seconds").replace("+00:00", "Z")


def _npy(share: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, share.astype(np.float32), allow_pickle=False)
    return buffer.getvalue()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
