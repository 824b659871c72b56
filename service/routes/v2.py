"""The Open Inference Protocol, version 2: health, metadata, inference."""

import asyncio
import time
from functools import partial

from fastapi import APIRouter, Request, Response

from elbound import __version__
from elbound.data.items import TensorItems
from elbound.errors import ConfigError
from elbound.scorer import Scorer
from service.access.caller import caller_of
from service.errors import ModelNotFound
from service.http.body import WINDOW_BITS
from service.http.compression import LEAST_BYTES, answer_encoding, compress
from service.http.error_answers import V2, json_response
from service.memory.budget import Holding
from service.models.registry import ModelRegistry
from service.score.frame import INLINE_BYTES, ScoreFrame, announces_few_bytes
from service.score.request import DEADLINE_HEADER, HEADERS, due_time
from service.scoring.terms import Terms
from service.state import State, state_of
from service.uploads.decoding.tasks import inference
from service.v2.items import TensorFacts, check_readable, inputs_of
from service.v2.outputs import encode_answer, outputs_of, wanted_outputs
from service.v2.requests import HEADER_LENGTH, InferRequest
from service.v2.schemas import (
    INFER_BODY,
    INFER_HEADERS,
    V2Error,
    V2InferAnswer,
    V2Live,
    V2Model,
    V2ModelReady,
    V2Ready,
    V2Server,
)

PLATFORM = "elbound"
EXTENSIONS = ("binary_tensor_data", "model_repository")
MODEL = f"{V2}/models/{{name}}"
VERSION = f"{MODEL}/versions/{{version}}"
NOT_FOUND: dict[int | str, dict[str, object]] = {404: {"model": V2Error}}
NOT_READY: dict[int | str, dict[str, object]] = {503: {"model": V2Error}}
FAILED: dict[int | str, dict[str, object]] = {
    status: {"model": V2Error} for status in (400, 401, 404, 408, 413, 415, 422, 503, 504)
}
INFERRED: dict[int | str, dict[str, object]] = FAILED | {
    200: {
        "description": "The outputs as JSON; where binary ones were asked for, their bytes follow it.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
INFER_EXTRA: dict[str, object] = {
    "requestBody": INFER_BODY,
    "parameters": [*INFER_HEADERS, *({"name": name, "in": "header", **facts} for name, facts in HEADERS.items())],
}

router = APIRouter(tags=["Open Inference Protocol v2"])


@router.get(f"{V2}/health/live", response_model=V2Live, summary="Alive")
async def live() -> Response:
    """200 while the process answers."""
    return json_response({"live": True})


@router.get(f"{V2}/health/ready", response_model=V2Ready, summary="Ready to score", responses=NOT_READY)
async def ready(request: Request) -> Response:
    """200 once every model is loaded and while the device works; else 503."""
    return json_response({"ready": True}) if state_of(request).ready else _not_ready()


@router.get(V2, response_model=V2Server, summary="Server metadata")
async def server_metadata() -> Response:
    """Name, version and the extensions of the protocol."""
    return json_response({"name": PLATFORM, "version": __version__, "extensions": EXTENSIONS})


@router.get(MODEL, response_model=V2Model, summary="Model metadata", responses=NOT_FOUND)
async def model_metadata(request: Request, name: str) -> Response:
    """The model's version, inputs and outputs."""
    return _metadata(find_scorer(state_of(request).registry, name))


@router.get(VERSION, response_model=V2Model, summary="Model metadata of a version", responses=NOT_FOUND)
async def version_metadata(request: Request, name: str, version: str) -> Response:
    """The same, where that version is served."""
    return _metadata(find_scorer(state_of(request).registry, name, version))


@router.get(f"{MODEL}/ready", response_model=V2ModelReady, summary="Model ready", responses=NOT_FOUND | NOT_READY)
async def model_ready(request: Request, name: str) -> Response:
    """200 where the model is served and the device works."""
    return _ready(state_of(request), name, None)


@router.get(f"{VERSION}/ready", response_model=V2ModelReady, summary="Version ready", responses=NOT_FOUND | NOT_READY)
async def version_ready(request: Request, name: str, version: str) -> Response:
    """The same, where that version is served."""
    return _ready(state_of(request), name, version)


@router.post(
    f"{MODEL}/infer",
    response_model=V2InferAnswer,
    responses=INFERRED,
    openapi_extra=INFER_EXTRA,
    summary="Score tensors",
)
async def infer(request: Request, name: str) -> Response:
    """Scores, p-values and verdicts at the bundle's own alpha, as tensors of `[n]`."""
    return await _infer(request, name, None)


@router.post(
    f"{VERSION}/infer", response_model=V2InferAnswer, responses=INFERRED, openapi_extra=INFER_EXTRA,
    summary="Score tensors by a version",
)  # fmt: skip
async def version_infer(request: Request, name: str, version: str) -> Response:
    """The same, where that version is served."""
    return await _infer(request, name, version)


def find_scorer(registry: ModelRegistry, name: str, version: str | None = None) -> Scorer:
    """The model that is served under `name`, in that version where one is named. Raises ModelNotFound."""
    scorer = registry.get(name).scorer
    if version is not None and version != scorer.version:
        raise ModelNotFound(f"{name} has no version {version[:100]!r}; served is {scorer.version}", where="version")
    return scorer


async def _infer(request: Request, name: str, version: str | None) -> Response:
    """Read, score and encode: `POST /score` with tensors around it."""
    frame = state_of(request).frame
    due = due_time(request.headers.get(DEADLINE_HEADER))
    if request.scope["query_string"]:
        raise ConfigError("an inference takes no query parameters; alpha is the bundle's own", where="query")
    scorer = find_scorer(frame.registry, name, version)
    with frame.budget.hold() as holding:
        return await _score(request, frame, scorer, due, holding)


async def _score(request: Request, frame: ScoreFrame, scorer: Scorer, due: float, holding: Holding) -> Response:
    header_length = request.headers.get(HEADER_LENGTH)

    async def decode(body: bytes) -> tuple[InferRequest, TensorItems]:
        if scorer.image is None and len(body) <= INLINE_BYTES:
            return inference(scorer.preprocessor, frame.settings, body, header_length)
        found: tuple[InferRequest, TensorItems] = await frame.decode(
            request, scorer, "inference", body, header_length, due=due, holding=holding
        )
        return found

    asked, items = await frame.read(
        request,
        decode,
        rows=lambda found: found[1].n,
        counted_at_once=scorer.image is None and announces_few_bytes(request),
        due=due,
        holding=holding,
        encodings=WINDOW_BITS,
    )
    wanted = wanted_outputs(asked, scorer)
    if items.errors:
        await frame.metrics.observe_upload(scorer, items)
        check_readable(items)
    if asked.timeout_us:
        due = min(due, time.monotonic() + asked.timeout_us / 1e6)
    answer = await frame.score(
        scorer,
        items,
        Terms(scorer.alpha, scorer.guarantee),
        due=due,
        caller=caller_of(request.scope),
        receive=request.receive,
    )
    encoded = await frame.write(items.n, partial(encode_answer, answer, wanted, asked.id))
    return await _response(request, encoded.body, encoded.header_length)


async def _response(request: Request, body: bytes, header_length: int | None) -> Response:
    headers = {} if header_length is None else {HEADER_LENGTH: str(header_length)}
    encoding = answer_encoding(request.headers.get("accept-encoding")) if len(body) >= LEAST_BYTES else None
    if encoding is not None:
        headers["content-encoding"] = encoding
        body = await asyncio.to_thread(compress, body, encoding)
    media_type = "application/json" if header_length is None else "application/octet-stream"
    return Response(body, headers=headers, media_type=media_type)


def _metadata(scorer: Scorer) -> Response:
    return json_response(
        {
            "name": scorer.name,
            "versions": [scorer.version],
            "platform": PLATFORM,
            "inputs": [_tensor(facts) for facts in inputs_of(scorer.schema)],
            "outputs": [_tensor(facts) for facts in outputs_of(scorer)],
        }
    )


def _tensor(facts: TensorFacts) -> dict[str, object]:
    return {"name": facts.name, "datatype": facts.datatype, "shape": facts.shape}


def _ready(state: State, name: str, version: str | None) -> Response:
    scorer = find_scorer(state.registry, name, version)
    return json_response({"name": scorer.name, "ready": True}) if state.ready else _not_ready()


def _not_ready() -> Response:
    return json_response({"error": "not ready: models are being loaded, or the device has failed"}, 503)
