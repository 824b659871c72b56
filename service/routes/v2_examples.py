"""A working example of an inference request, for the OpenAPI document: made of training means, as those of `/score`."""

import base64
from collections.abc import Sequence
from typing import Any

import orjson

from elbound.scorer import Scorer
from service.http.media_types import JSON
from service.routes.examples import example_bodies
from service.v2.items import IMAGES, WHOLE, inputs_of
from service.v2.tensors import BYTES


def add_examples(document: dict[str, Any], scorers: Sequence[Scorer]) -> None:
    """Let every path and query of the document name a model that is served, and inference requests be ones for it."""
    if not scorers:
        return
    scorer = scorers[0]
    known = {"name": scorer.name, "version": scorer.version, "model": scorer.name}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                if parameter["name"] in known:
                    parameter["example"] = known[parameter["name"]]
            if path.endswith("/infer"):
                operation["requestBody"]["content"][JSON]["example"] = infer_example(scorer)


def infer_example(scorer: Scorer) -> dict[str, object]:
    """A request that `scorer` answers; an image is sent as a file in base64."""
    bodies = example_bodies(scorer)
    if scorer.image is not None:
        picture = base64.b64encode(bodies["image/png"]).decode()
        return {"inputs": [{"name": IMAGES, "datatype": BYTES, "shape": [1], "data": [picture]}]}
    rows = orjson.loads(bodies[JSON])["rows"]
    facts = inputs_of(scorer.schema)
    if [one.name for one in facts] == [WHOLE]:
        cells = [list(row.values()) for row in rows]
        return {"inputs": [{"name": WHOLE, "datatype": "FP64", "shape": [len(rows), len(cells[0])], "data": cells}]}
    return {
        "inputs": [
            {"name": one.name, "datatype": one.datatype, "shape": [len(rows)], "data": [row[one.name] for row in rows]}
            for one in facts
            if one.name in rows[0]
        ]
    }
