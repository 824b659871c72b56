"""Small JSON bodies of `POST /score`, on plain ASGI: the steps of the ordinary route without what surrounds it."""

from dataclasses import dataclass
from functools import partial

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from elbound.errors import ElboundError
from service.access.caller import caller_of, until_left
from service.answers.together import answers_alone
from service.http.error_answers import on_disconnect, on_elbound_error, on_unexpected_error
from service.http.media_types import JSON
from service.routes.parameters import DEADLINE_HEADER, Query, due_time, parse_query
from service.routes.score import INLINE_BYTES, answer_items, encode
from service.scoring.terms import Terms
from service.state import State
from service.uploads.decode import Remaining, Upload, decode_upload

DEADLINE = DEADLINE_HEADER.encode()
PATH = "/score"
JSON_ACCEPTS = (b"*/*", b"application/json")


@dataclass(frozen=True)
class Route:
    """What the metrics want of a route."""

    path: str


ROUTE = Route(PATH)


class SmallJsonMiddleware:
    """Answers what is small, JSON and plain, and passes on everything else.

    An ordinary FastAPI route costs more than scoring a row. A request that is anything but plain (encoded, of unknown
    length, explained, with a group, or of many items) takes the ordinary route, so that each rule is written once.
    """

    def __init__(self, app: ASGIApp, state: State) -> None:
        self.app = app
        self.state = state
        self.max_bytes = min(INLINE_BYTES, state.settings.max_body_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "POST" or not self._is_small(scope):
            await self.app(scope, receive, send)
            return
        try:
            query = parse_query(scope["query_string"])
        except ElboundError:
            await self.app(scope, receive, send)
            return
        if query.wanted is not None or query.group is not None:
            await self.app(scope, receive, send)
            return
        scope["route"] = ROUTE
        try:
            content = await self._answer(scope, query, receive)
        except ElboundError as error:
            await (await on_elbound_error(Request(scope), error))(scope, receive, send)
            return
        except ClientDisconnect as error:
            await (await on_disconnect(Request(scope), error))(scope, receive, send)
            return
        except Exception as error:
            await (await on_unexpected_error(Request(scope), error))(scope, receive, send)
            raise  # for the server's log
        headers = [(b"content-length", b"%d" % len(content)), (b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    def _is_small(self, scope: Scope) -> bool:
        """Whether the head announces JSON of few bytes as it is."""
        media_type, length = b"", b""
        for name, value in scope["headers"]:
            if name == b"content-type":
                media_type = value
            elif name == b"content-length":
                length = value
            elif name == b"content-encoding" or (name == b"accept" and value not in JSON_ACCEPTS):
                return False
        if media_type.partition(b";")[0].strip().lower() != b"application/json":
            return False
        return length.isdigit() and int(length) <= self.max_bytes

    async def _answer(self, scope: Scope, query: Query, receive: Receive) -> bytes:
        """Decode, call, encode."""
        state = self.state
        header = next((value for name, value in scope["headers"] if name == DEADLINE), None)
        due = due_time(None if header is None else header.decode("latin-1"))
        served = state.registry.get(query.model)
        scorer = served.scorer
        terms = Terms.of(scorer, alpha=query.alpha, guarantee=query.guarantee, fdr=query.fdr)
        body = await _read(receive)
        with state.metrics.stage("decode"):
            items = decode_upload(Upload(body, JSON), scorer.preprocessor, state.settings, Remaining.of(state.settings))
        caller = caller_of(scope)
        caller.charge(items.n, unless_in_debt=True)
        if query.layout == "columns" or not answers_alone(scorer, terms, items):
            answer = await answer_items(state, scorer, items, terms, due, caller, receive)
            with state.metrics.stage("postprocess"):
                return encode(answer, query.layout)
        share = await state.batcher.submit(
            served.run_of(terms),
            items.x,
            lane="interactive",
            deadline=state.until(due),
            left=partial(until_left, receive),
        )
        caller.use(items.n)
        batch = share.batch
        if not batch.observed:
            batch.observed = True
            await state.count(scorer, batch.scored, batch.answer.own_decisions)
        if scorer.name in state.shadows.running:
            state.shadows.show(scorer, *share.alone())
        with state.metrics.stage("postprocess"):
            return share.content()


async def _read(receive: Receive) -> bytes:
    """The body, of the announced length. Raises ClientDisconnect."""
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body", False):
        message = await receive()
        body += message.get("body", b"")
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    return body
