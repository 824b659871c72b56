"""Who is let in, over real HTTP: scopes, quotas, revocation, request ids and logs of a server with keys."""

import contextlib
import http.client
import json
import re
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.routing import Match

from service.access.routes import ROUTES, RouteTable, check_listed, rows_of
from service.app import create_app
from service.score.request import DEADLINE_HEADER
from service.settings import Settings

ROW = b"[[1, 2, 3]]"
JSON = "application/json"
NDJSON = "application/x-ndjson"
REFRESH_S = 5
"""A key file is looked at more than once a second; the rest is for a busy machine."""
MAX_STREAMS_PER_KEY = 2
KEYS: dict[str, dict[str, object]] = {
    "caller": {},
    "reader": {"scopes": ["read"]},
    "scorer": {"scopes": ["score"]},
    "admin": {"scopes": ["admin"]},
    "slow": {"rows_per_s": 0.5, "burst_rows": 2},
    "steady": {"rows_per_s": 20_000, "burst_rows": 0},
    "greedy": {},
    "burst": {"rows_per_s": 10, "burst_rows": 100},
    "hasty": {"rows_per_s": 2, "burst_rows": 0},
    "doomed-upload": {},
    "doomed-answer": {"rows_per_s": 2_000, "burst_rows": 0},
}


@pytest.fixture(scope="module")
def keys(key_file) -> Path:  # type: ignore[no-untyped-def]
    return key_file(**KEYS)


@pytest.fixture(scope="module")
def keyed(start, keys: Path, numeric_bundle: Path):  # type: ignore[no-untyped-def]
    return start(
        numeric_bundle, api_keys_file=keys, open_metrics=1, log_format="json", log_requests_percent=100,
        max_streams_per_key=MAX_STREAMS_PER_KEY,
    )  # fmt: skip


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def call(server, key: str | None, method: str, path: str, **headers: str) -> httpx.Response:  # type: ignore[no-untyped-def]
    given = {"content-type": JSON, **({} if key is None else bearer(key)), **headers}
    content = ROW if method == "POST" else None
    with server.client.stream(method, path, content=content, headers=given) as response:
        if path != "/live" or response.status_code != 200:  # it has no end
            response.read()
        return response


def code_of(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def log_lines(server) -> list[dict[str, object]]:  # type: ignore[no-untyped-def]
    return [json.loads(line) for line in server.log.read_text().splitlines()]


def wait_for(true: Callable[[], bool]) -> None:
    until = time.monotonic() + REFRESH_S
    while not true():
        assert time.monotonic() < until
        time.sleep(0.05)


# The table
def test_every_route_has_its_row_and_every_row_its_route() -> None:
    assert rows_of(create_app(Settings(), []).routes) == set(ROUTES)


def test_a_route_without_a_row_stops_the_start() -> None:
    app = create_app(Settings(), [])
    app.add_api_route("/models/{name}/burn", lambda: None, methods=["POST"])
    with pytest.raises(LookupError, match=r"POST /models/\{name\}/burn"):
        check_listed(app.routes)


APP = create_app(Settings(), [])
PARTS = st.sampled_from(
    ["/", "//", "models", "rows", "drift", "score", "healthz", "..", "%2F", "\n", "\x00", "ü", "x" * 10_000, ""]
)


@given(method=st.sampled_from(["GET", "HEAD", "POST", "PUT"]), parts=st.lists(PARTS, max_size=6))
def test_the_table_finds_what_the_router_finds(method: str, parts: list[str]) -> None:
    """Else a path could be served under the scope of another."""
    path = "/" + "".join(parts)
    scope = {"type": "http", "method": method, "path": path, "root_path": "", "headers": []}
    routed = any(route.matches(dict(scope))[0] == Match.FULL for route in APP.router.routes)
    found = RouteTable(ROUTES).find(method, path)
    assert not routed or found is not None
    assert found is None or routed or method == "HEAD"  # the table gives HEAD to more routes than answer it


# Who, and what
@pytest.mark.parametrize("row", sorted(ROUTES))
def test_each_route_is_open_to_the_keys_of_its_scope_alone(keyed, row: str) -> None:
    method, path = row.replace("{name}", "numbers").replace("{version}", "another").split(" ")
    access = "open" if path == "/metrics" else ROUTES[row]  # by `open_metrics`
    for key, scope in ((None, None), ("wrong", None), ("scorer", "score"), ("reader", "read"), ("admin", "admin")):
        response = call(keyed, key, method, path)
        if access in ("open", scope):
            assert response.status_code not in (401, 403)
        elif scope is None:
            assert response.status_code == 401
            assert response.headers["www-authenticate"].startswith("Bearer ")
        else:
            assert response.status_code == 403
            assert f"does not have the scope {access!r}" in response.text


def test_what_is_not_there_is_told_to_those_with_a_key(keyed) -> None:
    for path in ("/nowhere", "/docs", "/models/a/b/c", "/" + "n" * 5000, "/models/..%2f..%2fetc", "/models/%00"):
        assert call(keyed, None, "GET", path).status_code == 401
        assert call(keyed, "caller", "GET", path).status_code == 404
    assert call(keyed, None, "DELETE", "/models").status_code == 401
    assert call(keyed, "reader", "DELETE", "/models").status_code == 405


def test_odd_keys_are_wrong_keys(keyed) -> None:
    long = b"Bearer " + b"k" * 30_000
    for odd in (b"", b"Bearer", b"Bearer \xff\xfe", long, b"Basic caller", b"caller,Bearer caller"):
        assert keyed.client.get("/models", headers={b"authorization": odd}).status_code == 401
    twice = [("authorization", "Bearer caller")] * 2
    assert keyed.client.get("/models", headers=twice).status_code == 401
    assert call(keyed, None, "GET", "/models", Authorization="bearer caller").status_code == 200


def test_a_refusal_comes_before_the_body_is_asked_for(keyed) -> None:
    call(keyed, "slow", "POST", "/score")
    for key, status in (("wrong", b"401"), ("reader", b"403"), ("slow", b"429")):
        while key == "slow" and call(keyed, "slow", "POST", "/score").status_code != 429:
            pass
        host, port = keyed.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(
                b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n"
                b"Authorization: Bearer %b\r\nExpect: 100-continue\r\n\r\n" % key.encode()
            )
            answer = connection.recv(65_536)
        assert answer.startswith(b"HTTP/1.1 " + status)


def test_the_document_says_which_scope_an_operation_wants(keyed) -> None:
    paths = call(keyed, "reader", "GET", "/openapi.json").json()["paths"]
    assert paths["/score"]["post"]["security"] == [{"key": ["score"]}]
    assert paths["/models/{name}"]["get"]["security"] == [{"key": ["read"]}]
    assert paths["/healthz"]["get"]["security"] == []
    assert {"401", "403", "429"} <= set(paths["/score"]["post"]["responses"])
    assert "429" not in paths["/models"]["get"]["responses"]
    refused = [paths[path]["get"]["responses"]["401"]["content"]["application/json"] for path in ("/v2", "/models")]
    assert [one["schema"]["$ref"].rpartition("/")[2] for one in refused] == ["V2Error", "ErrorAnswer"]


# How much
def test_a_key_in_debt_is_told_when_to_come_back(keyed) -> None:
    response = call(keyed, "slow", "POST", "/score")
    while response.status_code == 200:
        response = call(keyed, "slow", "POST", "/score")
    assert code_of(response) == (429, "quota_exceeded")
    assert 1 <= int(response.headers["retry-after"]) <= 10
    assert call(keyed, "slow", "GET", "/models").status_code == 200
    assert call(keyed, "caller", "POST", "/score").status_code == 200


def test_a_body_that_cannot_be_read_costs_a_row_too(keyed) -> None:
    answers = [
        keyed.client.post("/score", content=b"{", headers={"content-type": JSON, **bearer("slow")}) for _ in range(5)
    ]
    assert answers[-1].status_code == 429


def rows(n: int) -> bytes:
    return "\n".join(
        ["a,b,c", *(f"{a:.3f},{b:.3f},{c:.3f}" for a, b, c in np.random.default_rng(0).normal(size=(n, 3)))]
    ).encode()


def test_of_uploads_at_once_one_is_scored_and_the_others_are_told_when_to_come_back(keyed) -> None:
    headers = {"content-type": "text/csv", **bearer("burst")}
    with ThreadPoolExecutor(20) as threads:
        answers = list(
            threads.map(lambda _: keyed.client.post("/score", content=rows(2_000), headers=headers), range(20))
        )
    assert sorted(answer.status_code for answer in answers) == [200] + [429] * 19
    longest = max(int(answer.headers["retry-after"]) for answer in answers if answer.status_code == 429)
    assert longest <= 200, "the debt is that of one upload"


def test_rows_that_met_the_deadline_unscored_are_given_back(keyed) -> None:
    headers = {"content-type": "text/csv", DEADLINE_HEADER: "1", **bearer("hasty")}
    assert code_of(keyed.client.post("/score", content=rows(5_000), headers=headers)) == (504, "deadline_exceeded")
    answer = call(keyed, "hasty", "POST", "/score")
    assert answer.status_code == 200 or int(answer.headers["retry-after"]) == 1


def test_a_stream_is_slowed_down_and_never_cut(keyed) -> None:
    headers = {"content-type": "text/csv", "accept": NDJSON, **bearer("steady")}
    started = time.monotonic()
    answer = keyed.client.post("/score", content=rows(20_000), headers=headers)
    seconds = time.monotonic() - started
    assert answer.status_code == 200
    assert json.loads(answer.text.splitlines()[-1])["summary"]["scored"] == 20_000
    assert seconds > 0.6, "two pieces of 8,192 rows were paid for before the third"
    after = call(keyed, "steady", "POST", "/score")
    assert after.status_code in (200, 429)  # what the last piece left may be paid already


def test_a_key_has_only_its_share_of_the_uploads_at_once(keyed) -> None:
    def upload(key: str) -> httpx.Response:
        headers = {"content-type": "text/csv", "accept": NDJSON, **bearer(key)}
        return keyed.client.post("/score", content=rows(1), headers=headers)

    address = keyed.url.removeprefix("http://").split(":")
    head = (
        f"POST /score HTTP/1.1\r\nHost: x\r\nContent-Type: text/csv\r\nAccept: {NDJSON}\r\n"
        "Authorization: Bearer greedy\r\nContent-Length: 100000\r\n\r\n"
    )
    with contextlib.ExitStack() as stack:
        for _ in range(MAX_STREAMS_PER_KEY):
            connection = stack.enter_context(socket.create_connection(address, timeout=REFRESH_S))
            connection.sendall(head.encode())
        wait_for(lambda: keyed.metric("elbound_uploads_open") == MAX_STREAMS_PER_KEY)
        refused = upload("greedy")
        assert code_of(refused) == (429, "quota_exceeded")
        assert "2 uploads of the key 'greedy'" in refused.text
        assert refused.headers["retry-after"] == "1"
        assert upload("caller").status_code == 200
    wait_for(lambda: keyed.metric("elbound_uploads_open") == 0)
    assert upload("greedy").status_code == 200


# Until when
def test_a_key_that_is_revoked_while_its_upload_comes_ends_it_with_401(keyed, keys: Path, key_file) -> None:
    host, port = keyed.url.removeprefix("http://").split(":")
    head = "\r\n".join(
        [
            "POST /score HTTP/1.1", "Host: x", "Content-Type: text/csv", f"Accept: {NDJSON}",
            "Authorization: Bearer doomed-upload", "Content-Length: 100000000", "", "",
        ]
    )  # fmt: skip
    with socket.create_connection((host, int(port)), timeout=REFRESH_S) as connection:
        connection.sendall(head.encode() + rows(9_000))
        key_file(keys, **{name: facts for name, facts in KEYS.items() if name != "doomed-upload"})
        answer = http.client.HTTPResponse(connection)  # its head and its body may come one after the other
        answer.begin()
        assert (answer.status, json.loads(answer.read())["error"]["code"]) == (401, "key_revoked")
    assert code_of(call(keyed, "doomed-upload", "POST", "/score")) == (401, "unauthorized")


def test_a_key_that_is_revoked_within_an_answer_ends_it_with_an_error_record(keyed, keys: Path, key_file) -> None:
    connection = http.client.HTTPConnection(keyed.url.removeprefix("http://"), timeout=30)
    headers = {"content-type": "text/csv", "accept": NDJSON, **bearer("doomed-answer")}
    connection.request("POST", "/score", rows(30_000), headers)
    answer = connection.getresponse()
    assert answer.status == 200
    first = json.loads(answer.readline())
    assert first["model"]["name"] == "numbers"
    key_file(keys, **{name: facts for name, facts in KEYS.items() if not name.startswith("doomed")})
    lines = []
    with contextlib.suppress(http.client.IncompleteRead):
        while line := answer.readline():
            lines.append(line)
    connection.close()
    assert json.loads(lines[-1])["error"]["code"] == "key_revoked"
    assert 0 < len(lines) - 1 < 30_000
    assert call(keyed, "caller", "POST", "/score").status_code == 200


def test_a_file_that_breaks_while_serving_is_counted_and_changes_nothing(keyed, keys: Path) -> None:
    whole = keys.read_bytes()
    before = keyed.metric("elbound_key_file_errors_total")
    keys.write_bytes(whole[:-5])
    wait_for(lambda: keyed.metric("elbound_key_file_errors_total") == before + 1)
    assert call(keyed, "caller", "POST", "/score").status_code == 200
    keys.write_bytes(whole)
    assert any("the keys read before hold on" in str(line["message"]) for line in log_lines(keyed))


# Which request
@pytest.mark.parametrize("path", ["/healthz", "/models", "/score", "/nowhere"])
def test_a_sane_id_comes_back_with_every_answer(keyed, path: str) -> None:
    for key in ("caller", "wrong"):
        assert (
            call(keyed, key, "GET", path, **{"x-request-id": "a-b_c.1:/+=@2"}).headers["x-request-id"]
            == "a-b_c.1:/+=@2"
        )


def test_an_id_that_is_not_sane_is_replaced_and_ids_differ(keyed) -> None:
    given = [b"", b"a b", b"x" * 129, b"\xff", b'a"b', b"<script>", b"a,b"]
    found = [keyed.client.get("/healthz", headers={b"x-request-id": one}).headers["x-request-id"] for one in given]
    assert len(set(found)) == len(found)
    assert all(re.fullmatch(r"[0-9a-f]{16}-[0-9a-f]+", one) for one in found)


def test_what_never_became_a_request_has_an_id_too(keyed) -> None:
    host, port = keyed.url.removeprefix("http://").split(":")
    for sent in (b"nonsense\r\n\r\n", b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n" % (b"n" * 10_000)):
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(sent)
            assert re.search(rb"\r\nx-request-id: [0-9a-f]{16}-", connection.recv(65_536))


def test_a_request_is_logged_by_its_template_and_without_its_secrets(keyed) -> None:
    keyed.client.post(
        "/score?alpha=0.3", content=b'[{"a": 31415.9, "b": "hunter2", "c": 1}]',
        headers={"content-type": JSON, "x-request-id": "mine-1", **bearer("caller")},
    )  # fmt: skip
    call(keyed, "reader", "GET", "/models/hidden-name", **{"x-request-id": "mine-2"})
    call(keyed, "opensesame", "GET", "/models", **{"x-request-id": "mine-3"})
    found: dict[object, dict[str, object]] = {}
    until = time.monotonic() + 10
    while "mine-3" not in found and time.monotonic() < until:  # a line is written after its answer
        found = {line["request_id"]: line for line in log_lines(keyed) if line["message"] == "request"}
    facts = [
        {name: found[one].get(name) for name in ("method", "route", "status", "key", "level")}
        for one in ("mine-1", "mine-2", "mine-3")
    ]
    assert facts == [
        {"method": "POST", "route": "/score", "status": 422, "key": "caller", "level": "info"},
        {"method": "GET", "route": "/models/{name}", "status": 404, "key": "reader", "level": "info"},
        {"method": "GET", "route": "/models", "status": 401, "key": None, "level": "info"},
    ]
    assert all(0 < found[one]["duration_ms"] < 10_000 for one in found)
    text = keyed.log.read_text()
    for secret in ("31415", "hunter2", "hidden-name", "opensesame", "Bearer"):
        assert secret not in text
    assert keyed.metric('elbound_requests_total{method="GET",route="/models",status="401"}') >= 1
