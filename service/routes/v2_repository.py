"""Triton's extension of the Open Inference Protocol for model repositories: which models there are, load, unload."""

import orjson
from fastapi import APIRouter, Request, Response

from elbound.errors import ConfigError, DecodeError
from elbound.files.json import load_json
from service.errors import StoreMissing
from service.http.body import content_encoding, expand, read_body
from service.http.error_answers import V2
from service.state import state_of
from service.v2.schemas import INDEX_BODY, REPOSITORY_BODY, V2Error, V2IndexEntry

REPOSITORY = f"{V2}/repository"
MAX_BODY_BYTES = 16_384
"""What these routes want to be told is short; a body that carries a model is not read."""
HARMLESS = {"unload_dependents": False}
"""What Triton's clients send with every unload, and what it asks for here: nothing."""
FAILED: dict[int | str, dict[str, object]] = {status: {"model": V2Error} for status in (400, 401, 413, 415)}
NOT_CHANGED = FAILED | {status: {"model": V2Error} for status in (404, 409)}

router = APIRouter(tags=["Open Inference Protocol v2"])


@router.post(
    f"{REPOSITORY}/index", response_model=list[V2IndexEntry], responses=FAILED,
    openapi_extra={"requestBody": INDEX_BODY}, summary="Repository index",
)  # fmt: skip
async def index(request: Request) -> Response:
    """Every model and its version; with `{"ready": true}` those that are ready."""
    state = state_of(request)
    document = await _document(request)
    only_ready = document.get("ready", False)
    if not isinstance(only_ready, bool):
        raise DecodeError("ready must be true or false", code="request_invalid", where="ready")
    entries = [
        _entry(served.name, served.scorer.version, "" if state.ready else "the server is not ready")
        for served in state.registry.models.values()
    ]
    for model in state.store.models.values() if state.store else ():
        if model.active is None:
            refused = next(iter(model.refused.values()), None)
            reason = "unloaded" if model.unloaded else refused.message if refused else "not loaded yet"
            entries.append(_entry(model.name, next(iter(model.listing.versions), ""), reason))
    if only_ready:
        entries = [entry for entry in entries if entry["state"] == "READY"]
    return Response(orjson.dumps(entries), media_type="application/json")


@router.post(
    f"{REPOSITORY}/models/{{name}}/load", response_class=Response, responses=NOT_CHANGED,
    openapi_extra={"requestBody": REPOSITORY_BODY}, summary="Load a model",
)  # fmt: skip
async def load(request: Request, name: str) -> Response:
    """The pinned or newest version of the server's own store; a request cannot carry a model or say where one is."""
    return await _change(request, name, loaded=True)


@router.post(
    f"{REPOSITORY}/models/{{name}}/unload", response_class=Response, responses=NOT_CHANGED,
    openapi_extra={"requestBody": REPOSITORY_BODY}, summary="Unload a model",
)  # fmt: skip
async def unload(request: Request, name: str) -> Response:
    """Serve a model of the store no longer, in this process and until it is loaded again."""
    return await _change(request, name, loaded=False)


async def _change(request: Request, name: str, *, loaded: bool) -> Response:
    state = state_of(request)
    parameters = (await _document(request)).get("parameters", {})
    if not (isinstance(parameters, dict) and all(value is HARMLESS.get(key, ...) for key, value in parameters.items())):
        raise ConfigError(
            "load and unload take no parameters: models come from the server's own store", where="parameters"
        )
    if state.store is None:
        state.registry.get(name)
        raise StoreMissing(
            "this server has no store of models: it serves the bundles that it was started with", where="name"
        )
    await (state.store.load(name) if loaded else state.store.unload(name))
    return Response()


def _entry(name: str, version: str, problem: str) -> dict[str, str]:
    return {"name": name, "version": version, "state": "UNAVAILABLE" if problem else "READY", "reason": problem}


async def _document(request: Request) -> dict[str, object]:
    """The body as an object; an empty one says nothing. Raises DecodeError, LimitExceeded."""
    body = await read_body(request, max_body_bytes=MAX_BODY_BYTES)
    body = expand(body, content_encoding(request), max_expanded_bytes=MAX_BODY_BYTES)
    document = load_json(body, max_json_depth=state_of(request).settings.max_json_depth) if body.strip() else {}
    if not isinstance(document, dict):
        raise DecodeError("the body must be a JSON object", code="request_invalid", where="body")
    return document
