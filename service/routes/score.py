"""`POST /score`: decode, call, encode."""

import asyncio
import contextlib
from dataclasses import replace
from functools import partial

import orjson
from fastapi import APIRouter, Request, Response
from starlette.types import Receive

from elbound.data.items import TensorItems
from elbound.scorer import Scorer
from service.access.caller import Caller, caller_of, turn_key, unless_left, until_left
from service.answers.documents import Layout, answer_document
from service.answers.schemas import ErrorAnswer, ScoreAnswer
from service.http.accept import STREAMED, answer_form, pointing_to_streams
from service.http.body import content_encoding, expand, read_body
from service.http.media_types import IMAGES, JSON
from service.memory.budget import HeldResponse, Holding
from service.routes.order import Order, check_streams
from service.routes.parameters import DEADLINE_HEADER, HEADERS, PARAMETERS, Query, due_time, parse_query
from service.routes.stream import StreamedScore
from service.scoring.explain import Explaining
from service.scoring.score import Answer, score_items
from service.scoring.terms import Terms, Wanted, check_count, check_groups
from service.state import State, state_of
from service.uploads.decode import Remaining, Upload, decode_upload, media_type_of

INLINE_BYTES = 16_384
"""JSON up to this size is parsed on the event loop: a thread costs more than the parsing."""
INLINE_ITEMS = 64
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
        check_streams(fdr=query.fdr, wanted=query.wanted, layout=query.layout)
        return StreamedScore(state, Order(scorer, terms, form, query.group, due), request.headers)
    if query.wanted is not None:
        query.wanted.check(scorer, terms)
    with contextlib.ExitStack() as stack:
        holding = stack.enter_context(state.budget.hold())
        content = await _score(request, state, query, scorer, terms, due, holding)
        holding.settle(len(content))
        stack.pop_all()
    return HeldResponse(content, holding)


async def _score(
    request: Request, state: State, query: Query, scorer: Scorer, terms: Terms, due: float, holding: Holding
) -> bytes:
    """The answer to a body that is held in memory, as JSON."""
    caller, at_once = caller_of(request.scope), _is_counted_at_once(request)
    async with contextlib.nullcontext() if at_once else caller.counting(state.until(due)):
        with pointing_to_streams():
            items = await _receive(request, state, scorer, due, holding)
        caller.charge(items.n, unless_in_debt=at_once)
    if query.group is not None:
        items = items.in_group(query.group)
    if query.wanted is not None:
        check_count(items, max_explained_items=state.settings.max_explained_items)
    answer = await answer_items(state, scorer, items, terms, due, caller, request.receive, wanted=query.wanted)
    with state.metrics.stage("postprocess"):
        if items.n <= INLINE_ITEMS and query.wanted is None:  # pictures are drawn aside
            return encode(answer, query.layout)
        return await asyncio.to_thread(encode, answer, query.layout)


def announces_few_bytes(request: Request) -> bool:
    """Whether a body is so small that it is parsed on the event loop, by what the head says of it."""
    length = request.headers.get("content-length", "")
    return not content_encoding(request) and length.isdigit() and int(length) <= INLINE_BYTES


def _is_counted_at_once(request: Request) -> bool:
    """Whether the rows of a body are known as soon as it is here: one image, or JSON that is parsed at once."""
    media_type = media_type_of(request.headers.get("content-type", ""))
    return media_type in IMAGES or (media_type == JSON and announces_few_bytes(request))


async def _receive(request: Request, state: State, scorer: Scorer, due: float, holding: Holding) -> TensorItems:
    """The items of a body that is held in memory. Raises DataError, MemoryFull, DeadlineExceeded."""
    content_type, settings = request.headers.get("content-type", ""), state.settings
    media_type = media_type_of(content_type)
    body = await read_body(request, max_body_bytes=settings.max_body_bytes, hold=holding.take)
    with state.metrics.stage("decode"):
        encoding = content_encoding(request)
        if encoding:
            body = await asyncio.to_thread(
                expand, body, encoding, max_expanded_bytes=settings.max_expanded_bytes, hold=holding.take
            )
        if media_type == JSON and len(body) <= INLINE_BYTES:
            return decode_upload(Upload(body, JSON), scorer.preprocessor, settings, Remaining.of(settings))
        found: TensorItems = await state.decoders.run(
            scorer.preprocessor,
            "uploads",
            body,
            content_type,
            key=turn_key(request.scope),
            until=state.until(due),
            holding=holding,
        )
        return found


async def answer_items(
    state: State,
    scorer: Scorer,
    items: TensorItems,
    terms: Terms,
    due: float,
    caller: Caller,
    receive: Receive,
    *,
    wanted: Wanted | None = None,
) -> Answer:
    """Score what was read, explain it where that is wanted, count and follow it, for whichever route it came by."""
    await state.metrics.observe_upload(scorer, items)
    if not len(items.x):
        caller.use_all()  # each item is answered with its error
    deadline = state.until(due)
    left = partial(until_left, receive)
    answer = await score_items(
        scorer, items, state.batcher, terms=terms, deadline=deadline, left=left, on_scored=caller.use
    )
    caller.use_all()
    if wanted is not None:
        explaining = Explaining(answer, state.batcher, deadline=deadline).explain(wanted, state.settings)
        leaving = asyncio.ensure_future(until_left(receive))
        try:
            answer = replace(answer, explained=await unless_left(explaining, leaving))
        finally:
            leaving.cancel()
    await state.follow(scorer, items, answer.scored, answer.own_decisions)
    return answer


def encode(answer: Answer, layout: Layout | None) -> bytes:
    """The answer's document as JSON."""
    return orjson.dumps(answer_document(answer, layout or "items"))
