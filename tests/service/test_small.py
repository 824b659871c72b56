"""Small JSON bodies take a way of their own, and nobody can tell by the answer.

The same request sent in chunks takes the ordinary route: its length is not announced.
"""

import asyncio
import re
import socket
import time
from collections.abc import Iterator

import orjson
import pytest
from starlette.types import Message

from service.app import create_app
from service.score.endpoint import ScoreEndpoint
from service.score.frame import INLINE_BYTES
from service.settings import Settings

JSON = {"content-type": "application/json"}
PLAIN = [{"a": 0.1, "b": 0.2, "c": 1.5, "ok": True, "site": "north"}]
BODIES = {
    "one row": orjson.dumps(PLAIN),
    "an object": orjson.dumps(PLAIN[0]),
    "rows": orjson.dumps({"rows": PLAIN * 3}),
    "arrays": orjson.dumps([[0.1, None, 1.5, False, "east"], [40.0, 1, 2, True, "south"]]),
    "an anomaly": orjson.dumps([{**PLAIN[0], "a": 99.0}]),
    "words": orjson.dumps([{**PLAIN[0], "a": " 0.5 ", "ok": "yes", "site": "atlantis"}]),
    "a bad row among good ones": orjson.dumps([*PLAIN, {"a": 1}, {**PLAIN[0], "a": "x"}, "row", *PLAIN]),
    "only bad rows": orjson.dumps([{"a": "x"}]),
    "beyond float64": orjson.dumps(PLAIN).replace(b"0.1", b"1e400"),
    "no rows": b"[]",
    "no list": b"3",
    "no JSON": b"{'a'}",
    "a bare NaN": b"[NaN]",
    "nothing": b"",
    "many rows": orjson.dumps(PLAIN * 150),
}
QUERIES = [
    {}, {"alpha": 0.3}, {"alpha": 0.3, "guarantee": 0.9}, {"fdr": 0.1}, {"layout": "columns"}, {"alpha": 2},
    {"alpha": "x"}, {"nonsense": 1}, {"layout": "no"}, {"model": "nobody"}, {"guarantee": 0},
]  # fmt: skip


def chunked(body: bytes) -> Iterator[bytes]:
    yield body


def both(server, body: bytes, headers: dict[str, str] | None = None, **query: object):  # type: ignore[no-untyped-def]
    """The same request by the short way and by the ordinary one."""
    query = {"model": "rows", **query}
    small, ordinary = (
        server.client.post("/score", content=content, headers={**JSON, **(headers or {})}, params=query)
        for content in (body, chunked(body))
    )
    return small, ordinary


def assert_same(small, ordinary) -> None:  # type: ignore[no-untyped-def]
    assert small.status_code == ordinary.status_code
    assert small.content == ordinary.content
    # a refusal closes the connection where the body had not come by then
    chance = ("date", "x-request-id", "connection")
    ours, theirs = ({k: v for k, v in answer.headers.items() if k not in chance} for answer in (small, ordinary))
    assert ours == theirs


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_both_ways_answer_byte_for_byte_the_same(server, body: bytes) -> None:
    assert len(body) <= INLINE_BYTES
    assert_same(*both(server, body))


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_with_every_parameter_too(server, query) -> None:
    assert_same(*both(server, BODIES["arrays"], **query))


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "soon", "", "9" * 16, "²"])
def test_a_deadline_must_be_a_whole_number(server, value: str) -> None:
    small, ordinary = both(server, BODIES["one row"], {"x-request-deadline-ms": value.encode()})  # type: ignore[dict-item]
    assert_same(small, ordinary)
    assert small.status_code == 400
    assert small.json()["error"]["code"] == "deadline_invalid"


def test_a_deadline_that_is_kept_changes_nothing(server) -> None:
    plain, _ = both(server, BODIES["one row"])
    for answer in both(server, BODIES["one row"], {"x-request-deadline-ms": "9" * 15}):
        assert answer.content == plain.content


def test_the_key_is_checked_and_everything_is_counted_on_both_ways(start, key_file, table_bundle) -> None:
    server = start(table_bundle, api_keys_file=key_file(secret={}))
    for answer in both(server, BODIES["one row"]):
        assert answer.status_code == 401
    server.client.headers["authorization"] = "Bearer secret"

    def counts() -> dict[str, float]:
        text = server.client.get("/metrics").text
        own = re.findall(r"^(elbound_(?!.*(?:_sum|_bucket|_created|drift)).*) (\S+)$", text, re.MULTILINE)
        return {name: float(value) for name, value in own if "/metrics" not in name}

    grown = []
    body = BODIES["a bad row among good ones"].replace(b"north", b"atlantis")
    for content in (body, chunked(body), BODIES["no JSON"], chunked(BODIES["no JSON"])):
        before = counts()
        server.client.post("/score", content=content, headers=JSON)
        after = counts()
        grown.append({name: value - before.get(name, 0) for name, value in after.items() if value != before.get(name)})
    assert grown[0] == grown[1]
    assert grown[2] == grown[3]
    assert grown[0]['elbound_requests_total{method="POST",route="/score",status="200"}'] == 1
    assert any("elbound_items_scored_total" in name for name in grown[0])
    assert any("elbound_items_rejected_total" in name for name in grown[0])
    assert any("elbound_unseen_categories_total" in name for name in grown[0])


def test_a_body_one_byte_longer_than_small_is_scored_all_the_same(server) -> None:
    for size in (INLINE_BYTES - 1, INLINE_BYTES, INLINE_BYTES + 1):
        body = BODIES["one row"].ljust(size)
        small, ordinary = both(server, body)
        assert small.status_code == 200
        assert_same(small, ordinary)


def test_a_small_body_above_the_limit_is_refused_as_ever(start, table_bundle) -> None:
    server = start(table_bundle, max_body_bytes=100)
    assert server.client.post("/score", content=BODIES["rows"], headers=JSON).status_code == 413
    assert server.client.post("/score", content=BODIES["one row"], headers=JSON).status_code == 200


def test_a_caller_that_leaves_half_way_leaves_a_working_server(server) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    head = b"POST /score?model=rows HTTP/1.1\r\nhost: localhost\r\n"
    head += b"content-type: application/json\r\ncontent-length: 90\r\n\r\n"
    for sent in (head, head + b"[{"):
        with socket.create_connection((host, int(port))) as caller:
            caller.sendall(sent)
            time.sleep(0.05)
    assert both(server, BODIES["one row"])[0].status_code == 200
    assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize(
    ("headers", "query", "is_shared"),
    [
        ({b"content-length": b"2"}, b"", True),
        ({b"content-length": b"2", b"content-type": b"Application/JSON; charset=utf-8"}, b"alpha=0.1", True),
        ({b"content-length": b"2", b"accept": b"application/json, */*;q=0.5"}, b"", True),
        ({}, b"", False),
        ({b"content-length": b"2", b"content-encoding": b"gzip"}, b"", False),
        ({b"content-length": b"2", b"content-type": b"text/csv"}, b"", False),
        ({b"content-length": b"%d" % (INLINE_BYTES + 1)}, b"", False),
        ({b"content-length": b"2"}, b"explain=true", False),
    ],
)
def test_which_requests_join_a_shared_batch(table_bundle, headers, query: bytes, is_shared: bool) -> None:
    """Otherwise the tests above might compare the way of held uploads with itself."""
    went: list[str] = []

    async def score_small(*_: object) -> bytes:
        went.append("shared")
        return b"{}"

    async def score_held(*_: object) -> bytes:
        went.append("held")
        return b"{}"

    async def receive() -> Message:
        return {"type": "http.request", "body": b"[]"}

    async def send(_: Message) -> None: ...

    app = create_app(Settings(device="cpu"), [table_bundle])
    endpoint = ScoreEndpoint(app, app.state.elbound.frame)
    vars(endpoint).update(_score_small=score_small, _score_held=score_held)
    given = {b"content-type": b"application/json", **headers}
    scope = {"type": "http", "path": "/score", "method": "POST", "query_string": query, "headers": list(given.items())}
    asyncio.run(endpoint(scope, receive, send))
    assert went == (["shared"] if is_shared else ["held"])
