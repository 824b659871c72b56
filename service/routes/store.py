"""Which version of a model is served, and which one scores beside it."""

from typing import TypeVar

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from elbound.errors import ConfigError
from service.answers.schemas import ActiveAnswer, ErrorAnswer, ShadowAnswer
from service.errors import NoShadow, NotInStore
from service.http.body import read_body
from service.http.error_answers import json_response
from service.models.store.models import StoreModels
from service.models.store.records import StoreModel
from service.state import state_of

MAX_BODY_BYTES = 4_096
RESPONSES: dict[int | str, dict[str, object]] = {
    status: {"model": ErrorAnswer, "description": text}
    for status, text in {
        400: "The body cannot be read.",
        404: "No model or no version of that name.",
        409: "The store is read-only, the model is not of a store, or there is nothing to do that with.",
        413: "Larger than a limit.",
        422: "The version cannot be served.",
        503: "The store cannot be read now.",
    }.items()
}

router = APIRouter()


class _Wish(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class WantedVersion(_Wish):
    """A version of the store."""

    version: str = Field(max_length=100)


class WantedPin(_Wish):
    """A version of the store, or null for the newest."""

    version: str | None = Field(max_length=100)


T = TypeVar("T", bound=_Wish)


def _body(wish: type[_Wish]) -> dict[str, object]:
    schema = wish.model_json_schema()
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


@router.post(
    "/models/{name}/activate",
    response_model=ActiveAnswer,
    responses=RESPONSES,
    summary="Pin a version and serve it",
    openapi_extra=_body(WantedPin),
)
async def activate(request: Request, name: str) -> Response:
    """Answers once the version is served here; other replicas follow the pin. Null takes the pin away."""
    wanted = await _read(request, WantedPin)
    return _active(await _store(request, name).activate(name, wanted.version))


@router.post(
    "/models/{name}/rollback",
    response_model=ActiveAnswer,
    responses=RESPONSES,
    summary="Pin and serve the version before",
)
async def roll_back(request: Request, name: str) -> Response:
    """The version that was served here before; where none is known, the next older one of the store."""
    return _active(await _store(request, name).roll_back(name))


@router.post(
    "/models/{name}/shadow",
    response_model=ShadowAnswer,
    responses=RESPONSES,
    summary="Let a version score beside the live one",
    openapi_extra=_body(WantedVersion),
)
async def start_shadow(request: Request, name: str) -> Response:
    """Nobody gets its verdicts; `GET /models/{name}` tells where they differ. Of this process alone."""
    wanted = await _read(request, WantedVersion)
    shadow = await _store(request, name).shadow(name, wanted.version)
    return json_response(shadow.document())


@router.delete(
    "/models/{name}/shadow", response_model=ShadowAnswer, responses=RESPONSES, summary="End a model's shadow"
)
async def end_shadow(request: Request, name: str) -> Response:
    """Answers what came of it."""
    state = state_of(request)
    state.registry.get(name)
    shadow = state.shadows.stop(name)
    if shadow is None:
        raise NoShadow(f"{name} has no shadow", where="model")
    return json_response(shadow.document())


def _store(request: Request, name: str) -> StoreModels:
    state = state_of(request)
    if state.store is None:
        state.registry.get(name)
        raise NotInStore("versions belong to a store, and this server has none (--models)", where="model")
    return state.store


async def _read(request: Request, wish: type[T]) -> T:
    """The body. Raises ConfigError that names what is wrong with it."""
    try:
        return wish.model_validate_json(await read_body(request, max_body_bytes=MAX_BODY_BYTES))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "body"
        message = f'send {{"version": "..."}} as JSON: {field}: {first["msg"]}'
        raise ConfigError(message, code="body_invalid", where=field) from error


def _active(model: StoreModel) -> Response:
    return json_response({"name": model.name, "version": model.active, "pinned": model.listing.pin})
