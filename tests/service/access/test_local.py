"""A server without keys: this machine alone, and no web page."""

import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elbound.errors import ConfigError
from service.access.local import LocalRules, check_exposure, is_loopback_name
from service.errors import Forbidden
from service.settings import Settings

ROW = b"[[1, 2, 3]]"
LOCAL = ("localhost", "LOCALHOST", "127.0.0.1", "127.8.9.10", "[::1]")
OTHER = (
    "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1", "0.0.0.0", "[::]", "::1", "[::1",
    "[::1]x", "", "localhost:80:80", "localhost:x", "localhost@evil.example", "127.1", "x" * 10_000,
)  # fmt: skip


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "::1"])
def test_loopback_needs_no_keys(host: str) -> None:
    check_exposure(Settings(host=host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "0", "10.0.0.1"])
def test_anything_else_needs_keys_or_a_word(host: str) -> None:
    with pytest.raises(ConfigError, match="loopback only"):
        check_exposure(Settings(host=host))
    check_exposure(Settings(host=host, insecure=True))
    check_exposure(Settings(host=host, api_keys_file="keys.json"))


def test_the_start_is_refused_before_a_bundle_is_read() -> None:
    command = [sys.executable, "-m", "elbound", "serve", "/nowhere", "--host", "0.0.0.0"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert "ELBOUND_API_KEYS_FILE" in ended.stderr
    assert "--insecure" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(("raw", "expected"), [("1", True), ("true", True), ("0", False), ("FALSE", False)])
def test_a_switch_is_read_from_the_environment(raw: str, expected: bool) -> None:
    assert Settings.load({"ELBOUND_INSECURE": raw}, {}).insecure is expected


def test_a_switch_that_is_none_is_an_error() -> None:
    for raw in ("yes please", "2", "on"):
        with pytest.raises(ConfigError, match="insecure must be one of 1, true, yes, 0"):
            Settings.load({"ELBOUND_INSECURE": raw}, {})
    with pytest.raises(ConfigError, match="from 0 to 100"):
        Settings.load({"ELBOUND_LOG_REQUESTS_PERCENT": "101"}, {})


def score(server, **headers: str) -> httpx.Response:  # type: ignore[no-untyped-def]
    given = {"content-type": "application/json", **headers}
    return server.client.post("/score?model=numbers", content=ROW, headers=given)


def test_only_this_machines_own_names_are_hosts(server) -> None:
    for host in LOCAL:
        for port in ("", ":80", ":65535"):
            assert score(server, host=host + port).status_code == 200
    for host in OTHER:
        answer = score(server, host=host)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "host_forbidden")
        assert server.client.get("/nowhere", headers={"host": host}).status_code == 403
        assert server.client.get("/healthz", headers={"host": host}).status_code == 200


def test_no_page_of_another_origin_is_answered(server) -> None:
    own = server.url.removeprefix("http://")
    for origin in (f"http://{own}", f"HTTPS://{own}"):
        assert score(server, origin=origin).status_code == 200
    for origin in (
        "null",
        "",
        "http://evil.example",
        f"http://{own}.evil.example",
        f"http://{own}1",
        "http://localhost:1",
        own,
    ):
        answer = score(server, origin=origin)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "origin_forbidden")
    several = [("content-type", "application/json"), ("origin", f"http://{own}"), ("origin", "http://evil.example")]
    assert server.client.post("/score?model=numbers", content=ROW, headers=several).status_code == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site", "Same-Origin", "", "same-origin, cross-site"])
def test_no_page_of_another_site_is_answered_where_it_sends_no_origin(server, site: str) -> None:
    """An image or a script of another page is a GET without Origin: 32 of /live left the owner no place."""
    headers = {"sec-fetch-site": site}
    for method in ("GET", "POST", "PUT", "DELETE"):
        for path in ("/live", "/score?model=numbers", "/models", "/models/numbers/report", "/v2", "/nowhere"):
            answer = server.client.request(method, path, headers=headers)
            assert answer.status_code == 403, (method, path)
            assert answer.headers["content-type"] == "application/json"
    assert server.client.get("/live", headers=headers).json()["error"]["code"] == "origin_forbidden"
    assert score(server, origin=server.url, **{"sec-fetch-site": site}).status_code == 403


def test_our_own_page_and_whoever_is_no_page_are_answered(server) -> None:
    for site in ("same-origin", "none"):
        assert score(server, **{"sec-fetch-site": site}).status_code == 200
    for path in ("/", "/healthz"):  # a link to the page may stand anywhere
        assert server.client.get(path, headers={"sec-fetch-site": "cross-site"}).status_code == 200


def test_insecure_serves_any_host_and_still_no_other_origin(start, numeric_bundle: Path) -> None:
    server = start(numeric_bundle, host="0.0.0.0", insecure=1)
    assert "everybody who reaches 0.0.0.0 may score" in server.log.read_text()
    assert score(server, host="elbound.example").status_code == 200
    assert score(server, host="elbound.example", origin="https://elbound.example").status_code == 200
    assert score(server, host="elbound.example", origin="https://evil.example").status_code == 403


@given(st.text(alphabet="localhst127.0:[]@/x\x00 ", max_size=30) | st.text(max_size=30))
def test_any_host_is_decided(text: str) -> None:
    host = text.encode("utf-8", "replace")
    if is_loopback_name(host):
        assert httpx.URL("http://" + text).host in ("localhost", "::1") or httpx.URL("http://" + text).host.startswith(
            "127."
        )


def test_everybody_may_score_and_read_and_nothing_else() -> None:
    everybody = LocalRules(any_host=False).identify({"headers": [(b"host", b"localhost")]})
    assert everybody.scopes == {"score", "read"}
    with pytest.raises(Forbidden):
        LocalRules(any_host=False).identify({"headers": []})
    with pytest.raises(Forbidden):
        LocalRules(any_host=False).identify({"headers": [(b"host", b"localhost"), (b"host", b"localhost")]})
