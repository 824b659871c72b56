"""`POST /score`: decode, call, encode."""

import asyncio
import difflib
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial

import orjson
from fastapi import APIRouter, Request, Response
from starlette.datastructures import QueryParams
from starlette.types import Receive

from elbound.data.items import TensorItems
from elbound.errors import ConfigError
from elbound.scorer import Scorer
from service.access.caller import caller_of, until_left
from service.answer import Layout, answer_document
from service.decode import JSON, decode_all, media_type_of, split_request
from service.explaining import check_count, check_explains
from service.limits import content_encoding, expand, read_body
from service.schemas import ErrorAnswer, ScoreAnswer
from service.scoring import Answer, Terms, check_groups, score_items
from service.state import State, state_of
from service.streaming.accept import STREAMED, answer_form, pointing_to_streams
from service.streaming.answer import StreamedScore
from service.streaming.order import Order, check_streams

INLINE_BYTES = 16_384
"""JSON up to this size is parsed on the event loop: a thread costs more than the parsing."""
INLINE_ITEMS = 64
DEADLINE_HEADER = "x-request-deadline-ms"
MAX_DEADLINE_DIGITS = 15
HEADERS = {
    "X-Request-Deadline-Ms": {
        "schema": {"type": "integer", "minimum": 1},
        "description": "Milliseconds after which the answer is of no use: 504. The server's own limit holds too.",
    },
}
PARAMETERS = {
    "model": {
        "schema": {"type": "string"},
        "description": "Which model; may be left out where one is served.",
    },
    "alpha": {
        "schema": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        "description": "False-alarm rate of this request; the bundle's own by default.",
    },
    "guarantee": {
        "schema": {"type": "number"},
        "description": "Confidence, from 0.5 to below 1, that the realised rate stays below alpha; 0 for none. "
        "The bundle's own by default.",
    },
    "fdr": {
        "schema": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        "description": "False-discovery rate of the whole upload; `is_anomaly` then follows it.",
    },
    "group": {
        "schema": {"type": "string"},
        "description": "The calibration group of all items of this upload.",
    },
    "layout": {
        "schema": {"type": "string", "enum": ["items", "columns"], "default": "items"},
        "description": "`columns` answers one array a field, for many rows.",
    },
    "explain": {
        "schema": {"type": "boolean", "default": False},
        "description": "`true` adds to each image the score that decided and its heat map as a PNG.",
    },
}
RESPONSES: dict[int | str, dict[str, object]] = {
    200: {
        "description": "What was found; by Accept as one document or record by record.",
        "content": {form: {"schema": {"type": "string"}} for form in STREAMED},
    },
}
RESPONSES |= {
    status: {"model": ErrorAnswer, "description": text}
    for status, text in {
        400: "The body or a parameter cannot be read.",
        406: "The answer has no form that Accept takes.",
        401: "The key is missing or wrong.",
        404: "No model of that name.",
        413: "Larger than a limit.",
        415: "A content type or encoding that is not read.",
        422: "Not one item could be scored, or the columns are not those of the model.",
        503: "The queue is full; see Retry-After.",
        504: "The deadline passed.",
    }.items()
}

router = APIRouter()


@dataclass(frozen=True)
class Query:
    model: str | None
    alpha: float | None
    guarantee: float | None
    fdr: float | None
    group: str | None
    layout: Layout | None
    explain: bool


@router.post(
    "/score",
    response_model=ScoreAnswer,
    responses=RESPONSES,
    summary="Score an upload",
    openapi_extra={
        "parameters": [
            *({"name": name, "in": "query", **facts} for name, facts in PARAMETERS.items()),
            *({"name": name, "in": "header", **facts} for name, facts in HEADERS.items()),
        ]
    },
)
async def score(request: Request) -> Response:
    """Rows of a table or images, by content type; an answer for each item, errors included."""
    state = state_of(request)
    due = due_time(request.headers.get(DEADLINE_HEADER))
    form = answer_form(request.headers.get("accept"))
    query = parse_query(request.scope["query_string"])
    scorer = state.registry.get(query.model).scorer
    terms = Terms.of(scorer, alpha=query.alpha, guarantee=query.guarantee, fdr=query.fdr)
    if query.group is not None:
        check_groups(scorer)
    if form != JSON:
        check_streams(fdr=query.fdr, explain=query.explain, layout=query.layout)
        return StreamedScore(state, Order(scorer, terms, form, query.group, due), request.headers)
    if query.explain:
        check_explains(scorer)
    with pointing_to_streams():
        items = await _receive(request, state, scorer)
    caller_of(request.scope).charge(items.n)
    if query.group is not None:
        items = items.in_group(query.group)
    if query.explain:
        check_count(items, max_explained_items=state.settings.max_explained_items)
    answer = await answer_items(state, scorer, items, terms, due, request.receive, explain=query.explain)
    with state.metrics.stage("postprocess"):
        if items.n <= INLINE_ITEMS and not query.explain:  # pictures are drawn aside
            content = encode(answer, query.layout)
        else:
            content = await asyncio.to_thread(encode, answer, query.layout)
    return Response(content, media_type="application/json")


async def _receive(request: Request, state: State, scorer: Scorer) -> TensorItems:
    """The items of a body that is held in memory. Raises DataError."""
    content_type, settings = request.headers.get("content-type", ""), state.settings
    media_type = media_type_of(content_type)
    body = await read_body(request, max_body_bytes=settings.max_body_bytes)
    with state.metrics.stage("decode"):
        encoding = content_encoding(request)
        if encoding:
            body = await asyncio.to_thread(expand, body, encoding, max_expanded_bytes=settings.max_expanded_bytes)
        uploads = await split_request(body, content_type, settings)
        if media_type == JSON and len(body) <= INLINE_BYTES:
            return decode_all(uploads, scorer, settings)
        return await asyncio.to_thread(decode_all, uploads, scorer, settings)


async def answer_items(
    state: State,
    scorer: Scorer,
    items: TensorItems,
    terms: Terms,
    due: float,
    receive: Receive,
    *,
    explain: bool = False,
) -> Answer:
    """Score what was read, and count and follow it, for whichever route it came by."""
    state.metrics.observe_upload(scorer, items)
    answer = await score_items(
        scorer,
        items,
        state.batcher,
        terms=terms,
        deadline=state.until(due),
        explain=explain,
        left=partial(until_left, receive),
    )
    await state.follow(scorer, items, answer.scored, answer.own_decisions)
    return answer


def encode(answer: Answer, layout: Layout | None) -> bytes:
    """The answer's document as JSON."""
    return orjson.dumps(answer_document(answer, layout or "items"))


def due_time(header: str | None) -> float:
    """When an answer is of no use any more, on the monotonic clock, by `X-Request-Deadline-Ms`.

    Infinite without the header. Raises ConfigError unless it is a whole number of at least 1.
    """
    if header is None:
        return math.inf
    if not (header.isascii() and header.isdigit() and len(header) <= MAX_DEADLINE_DIGITS and int(header)):
        raise ConfigError(
            f"{DEADLINE_HEADER} must be a whole number of milliseconds, at least 1. Got {header[:40]!r} instead",
            code="deadline_invalid",
            where=DEADLINE_HEADER,
        )
    return time.monotonic() + int(header) / 1000


@lru_cache(maxsize=256)
def parse_query(query_string: bytes) -> Query:
    """The parameters, each at most once and known. Raises ConfigError that names the parameter."""
    given = QueryParams(query_string).multi_items()
    for name, _ in given:
        if name not in PARAMETERS:
            nearest = difflib.get_close_matches(name, PARAMETERS, n=1)
            hint = f"did you mean {nearest[0]!r}?" if nearest else f"known: {', '.join(PARAMETERS)}"
            raise ConfigError(f"unknown parameter {name[:100]!r}; {hint}", code="parameter_unknown", where=name[:100])
    values = dict(given)
    if len(values) < len(given):
        raise ConfigError("a parameter is given twice", code="parameter_repeated", where="query")
    return Query(
        model=values.get("model"),
        alpha=_number(values, "alpha"),
        guarantee=_number(values, "guarantee"),
        fdr=_number(values, "fdr"),
        group=values.get("group"),
        layout=None
        if "layout" not in values
        else "columns"
        if _is_second(values, "layout", "items", "columns")
        else "items",
        explain=_is_second(values, "explain", "false", "true"),
    )


def _is_second(values: Mapping[str, str], name: str, first: str, second: str) -> bool:
    """Whether a parameter of two values, the first by default, has the second."""
    text = values.get(name, first)
    if text not in (first, second):
        raise ConfigError(f"{name} must be {first} or {second}. Got {text[:100]!r} instead", where=name)
    return text == second


def _number(values: Mapping[str, str], name: str) -> float | None:
    text = values.get(name)
    if text is None:
        return None
    try:
        return float(text)
    except ValueError as error:
        raise ConfigError(f"{name} must be a number. Got {text[:100]!r} instead", where=name) from error
