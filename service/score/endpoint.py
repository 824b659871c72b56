"""The endpoint of `POST /score`, on plain ASGI: an ordinary route of FastAPI costs more than scoring a row."""

from functools import partial

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from elbound.data.items import TensorItems
from elbound.errors import ElboundError
from elbound.scorer import Scorer
from service.access.caller import Caller, caller_of, until_left
from service.answers.documents import Layout, answer_document
from service.answers.shared_batch import can_share_batch
from service.http.accept import pointing_to_streams
from service.http.error_answers import on_disconnect, on_elbound_error, on_unexpected_error
from service.http.media_types import IMAGES, JSON
from service.memory.budget import Holding
from service.score.frame import INLINE_BYTES, ScoreFrame, announces_few_bytes
from service.score.request import ScoreRequest
from service.score.stream import ANSWERING, StreamedScore
from service.scoring.score import Answer
from service.scoring.terms import check_count
from service.uploads.decode import Remaining, Upload, decode_upload, media_type_of

PATH = "/score"


class ScoreEndpoint:
    """Answers `POST /score` and passes every other request on to `app`.

    Plain JSON of few bytes joins a shared batch; a larger upload is held in memory and answered as one JSON document;
    where the caller accepts NDJSON, CSV or Arrow the upload is scored while it arrives.
    """

    def __init__(self, app: ASGIApp, frame: ScoreFrame) -> None:
        self.app = app
        self.frame = frame
        self.max_small_bytes = min(INLINE_BYTES, frame.settings.max_body_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        try:
            await self._answer(scope, receive, send)
        except ElboundError as error:
            await (await on_elbound_error(Request(scope), error))(scope, receive, send)
        except ClientDisconnect as error:
            await (await on_disconnect(Request(scope), error))(scope, receive, send)
        except Exception as error:
            if ANSWERING not in scope:
                await (await on_unexpected_error(Request(scope), error))(scope, receive, send)
            raise  # for the server's log

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = ScoreRequest.of(scope, self.frame.registry)
        if asked.form != JSON:
            await StreamedScore(self.frame, asked, Request(scope).headers)(scope, receive, send)
        elif self._is_small(asked):
            await _send_json(send, await self._score_small(asked, scope, receive))
        else:
            with self.frame.budget.hold() as holding:
                content = await self._score_held(asked, Request(scope, receive), holding)
                holding.settle(len(content))
                await _send_json(send, content)

    def _is_small(self, asked: ScoreRequest) -> bool:
        if asked.json_bytes is None or asked.json_bytes > self.max_small_bytes:
            return False
        return asked.query.wanted is None and asked.query.group is None

    async def _score_small(self, asked: ScoreRequest, scope: Scope, receive: Receive) -> bytes:
        """The answer to a small body: together with other small requests on the same terms, where that is possible."""
        frame, scorer, terms = self.frame, asked.scorer, asked.terms
        body = await _read(receive)
        with frame.metrics.stage("decode"):
            items = _decode_json(body, scorer, frame)
        caller = caller_of(scope)
        caller.charge(items.n, unless_in_debt=True)
        if asked.query.layout == "columns" or not can_share_batch(scorer, terms, items):
            return await self._finish(asked, items, caller, receive)
        part = await frame.batcher.submit(
            asked.served.run_of(terms),
            items.x,
            lane="interactive",
            deadline=frame.until(asked.due),
            left=partial(until_left, receive),
        )
        caller.use(items.n)
        batch = part.batch
        if not batch.is_counted:
            batch.is_counted = True
            await frame.count(scorer, batch.scored, batch.answer.own_decisions)
        if scorer.name in frame.shadows.running:
            frame.shadows.show(scorer, *part.own_items())
        with frame.metrics.stage("postprocess"):
            return part.content()

    async def _score_held(self, asked: ScoreRequest, request: Request, holding: Holding) -> bytes:
        """The answer to a body that is held in memory."""
        frame, query = self.frame, asked.query
        content_type = request.headers.get("content-type", "")
        media_type = media_type_of(content_type)
        is_small_json = media_type == JSON and announces_few_bytes(request)

        async def decode(body: bytes) -> TensorItems:
            if media_type == JSON and len(body) <= INLINE_BYTES:
                return _decode_json(body, asked.scorer, frame)
            found: TensorItems = await frame.decode(
                request, asked.scorer, "uploads", body, content_type, due=asked.due, holding=holding
            )
            return found

        with pointing_to_streams():
            items = await frame.read(
                request,
                decode,
                rows=lambda items: items.n,
                counted_at_once=is_small_json or media_type in IMAGES,
                due=asked.due,
                holding=holding,
            )
        if query.group is not None:
            items = items.in_group(query.group)
        if query.wanted is not None:
            check_count(items, max_explained_items=frame.settings.max_explained_items)
        return await self._finish(asked, items, caller_of(request.scope), request.receive)

    async def _finish(self, asked: ScoreRequest, items: TensorItems, caller: Caller, receive: Receive) -> bytes:
        """Score items that were read, and write the document of the answer."""
        answer = await self.frame.score(
            asked.scorer, items, asked.terms, due=asked.due, caller=caller, receive=receive, wanted=asked.query.wanted
        )
        encode = partial(_encode, answer, asked.query.layout or "items")
        return await self.frame.write(items.n, encode, in_thread=asked.query.wanted is not None)  # it draws pictures


def _decode_json(body: bytes, scorer: Scorer, frame: ScoreFrame) -> TensorItems:
    settings = frame.settings
    return decode_upload(Upload(body, JSON), scorer.preprocessor, settings, Remaining.of(settings))


def _encode(answer: Answer, layout: Layout) -> bytes:
    return orjson.dumps(answer_document(answer, layout))


async def _send_json(send: Send, content: bytes) -> None:
    headers = [(b"content-length", b"%d" % len(content)), (b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": content})


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
