"""What every answer carries, whichever route or layer it comes from."""

import socket

import orjson
import pytest

from service.http.headers import NO_SNIFF, NO_STORE, with_defaults

ROW = b"[[1, 2, 3]]"
JSON = {"content-type": "application/json"}
V2_ROW = {"inputs": [{"name": "rows", "datatype": "FP64", "shape": [1, 3], "data": [1, 2, 3]}]}
REQUESTS = {
    "small rows": ("POST", "/score?model=numbers", JSON, ROW, 200),
    "other rows": ("POST", "/score?model=numbers", {"content-type": "text/csv"}, b"a,b,c\n1,2,3\n", 200),
    "a stream": ("POST", "/score?model=numbers", {**JSON, "accept": "application/x-ndjson"}, ROW, 200),
    "explained": ("POST", "/score?model=numbers&explain=true", JSON, ROW, 200),
    "a small error": ("POST", "/score?model=numbers", JSON, b"[[1", 400),
    "a refusal at the door": ("GET", "/live", {"origin": "http://evil.example"}, b"", 403),
    "no route": ("GET", "/nowhere", {}, b"", 404),
    "no method": ("DELETE", "/models", {}, b"", 405),
    "a method of v2": ("POST", "/v2/models/numbers/infer", JSON, orjson.dumps(V2_ROW), 200),
    "an error of v2": ("POST", "/v2/models/numbers/infer", JSON, b"{", 400),
    "models": ("GET", "/models", {}, b"", 200),
    "one model": ("GET", "/models/numbers", {}, b"", 200),
    "calibration": ("GET", "/models/numbers/calibration", {}, b"", 200),
    "drift": ("GET", "/models/numbers/drift", {}, b"", 200),
    "health": ("GET", "/healthz", {}, b"", 200),
    "metrics": ("GET", "/metrics", {}, b"", 200),
    "document": ("GET", "/openapi.json", {}, b"", 200),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_no_answer_is_stored_or_guessed_at(server, name: str) -> None:
    method, path, headers, body, status = REQUESTS[name]
    answer = server.client.request(method, path, headers=headers, content=body)
    assert answer.status_code == status
    assert answer.headers.get_list("x-content-type-options") == ["nosniff"]
    assert answer.headers.get_list("cache-control") == ["no-store"]


def test_live_records_are_not_stored(server) -> None:
    with server.client.stream("GET", "/live") as answer:
        assert answer.headers.get_list("cache-control") == ["no-store"]


def test_the_page_keeps_its_own_rule(server) -> None:
    for path in ("/", "/static/api.js"):
        answer = server.client.get(path)
        assert answer.headers.get_list("cache-control") == ["no-cache"]
        assert answer.headers.get_list("x-content-type-options") == ["nosniff"]


def test_what_the_connection_refuses_carries_them_too(server) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"nonsense\r\n\r\n")
        head = connection.recv(4_096).partition(b"\r\n\r\n")[0]
    assert head.count(b"\r\nx-content-type-options: nosniff") == head.count(b"\r\ncache-control: no-store") == 1


def test_what_an_answer_says_itself_stays() -> None:
    own = [(b"cache-control", b"no-cache")]
    assert with_defaults(own) == [*own, NO_SNIFF]
    assert own == [(b"cache-control", b"no-cache")]
    assert with_defaults([]) == [NO_SNIFF, NO_STORE]
