"""What a model answers as tensors, and scored items as those tensors."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import orjson

from elbound.errors import DecodeError
from elbound.scorer import Scorer
from service.scoring.score import Answer
from service.v2.items import TensorFacts
from service.v2.requests import InferRequest, WantedOutput
from service.v2.tensors import NUMBERS

TERMS = {"elbo": "negative_elbo", "reconstruction": "reconstruction", "kl": "kl"}
"""Outputs that a bundle has where it has the score: those of its first view, in nats."""


def outputs_of(scorer: Scorer) -> list[TensorFacts]:
    """The outputs that a model's metadata name, in the order in which they are answered."""
    terms = [name for name, score in TERMS.items() if score in scorer.detector.score_names]
    kinds = {"score": "FP64", "threshold": "FP64", "is_outlier": "BOOL", "p_value": "FP64"}
    return [TensorFacts(name, datatype, (-1,)) for name, datatype in (kinds | dict.fromkeys(terms, "FP64")).items()]


def wanted_outputs(request: InferRequest, scorer: Scorer) -> tuple[WantedOutput, ...]:
    """What to answer, all outputs where none is named. Raises DecodeError for one that the model does not have."""
    names = [facts.name for facts in outputs_of(scorer)]
    if request.outputs is None:
        return tuple(WantedOutput(name, request.binary) for name in names)
    for output in request.outputs:
        if output.name not in names:
            raise DecodeError(
                f"{scorer.name} has no output {output.name[:100]!r}; it has {', '.join(names)}",
                code="output_unknown",
                where="outputs",
            )
    return request.outputs


@dataclass(frozen=True)
class Encoded:
    """The body of an answer; `header_length` is that of its JSON where binary tensors follow."""

    body: bytes
    header_length: int | None


def encode_answer(answer: Answer, wanted: Sequence[WantedOutput], request_id: str | None) -> Encoded:
    """The answer of an inference, outputs in the order in which they were asked for."""
    datatypes = {facts.name: facts.datatype for facts in outputs_of(answer.scorer)}
    outputs: list[dict[str, object]] = []
    raw: list[bytes] = []
    for output in wanted:
        datatype = datatypes[output.name]
        values = np.ascontiguousarray(_values(answer, output.name), NUMBERS[datatype])
        document: dict[str, object] = {"name": output.name, "datatype": datatype, "shape": [len(values)]}
        if output.binary:
            raw.append(values.tobytes())
            document["parameters"] = {"binary_data_size": len(raw[-1])}
        else:
            document["data"] = values
        outputs.append(document)
    document = {"model_name": answer.scorer.name, "model_version": answer.scorer.version, "outputs": outputs}
    if request_id is not None:
        document["id"] = request_id
    head = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    return Encoded(b"".join([head, *raw]), len(head) if raw else None)


def _values(answer: Answer, name: str) -> np.ndarray:
    scored = answer.scored
    match name:
        case "score":
            return scored.score
        case "threshold":
            return _thresholds(answer)
        case "is_outlier":
            return answer.is_anomaly
        case "p_value":
            return scored.p_value
        case "elbo":
            return -scored.scores[TERMS[name]]
        case _:
            return scored.scores[TERMS[name]]


def _thresholds(answer: Answer) -> np.ndarray:
    """The threshold that each item was held against, that of its group: infinite where alpha does not resolve."""
    terms, calibration = answer.terms, answer.scorer.calibration
    thresholds = np.empty(len(answer.scored))
    for group in np.unique(answer.scored.group).tolist():
        found = calibration.ranking(group).verdict.threshold(terms.alpha, terms.guarantee)
        thresholds[answer.scored.group == group] = math.inf if found is None else found
    return thresholds
