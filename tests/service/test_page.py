"""The page's files over real HTTP: open, guarded by their headers, and nothing but them."""

import http.client
import re
from importlib.resources import files
from pathlib import Path

import pytest
from setuptools import Distribution

from service.page.routes import FILES, MEDIA_TYPES

ROOT = Path(__file__).parents[2]
STATIC = files("service") / "page" / "static"


@pytest.fixture(scope="module")
def locked(start, key_file, numeric_bundle):  # type: ignore[no-untyped-def]
    """A server to which nobody has a key here."""
    return start(numeric_bundle, api_keys_file=key_file(another={}))


def test_the_page_is_open_and_may_load_and_ask_this_server_alone(locked) -> None:
    answer = locked.client.get("/")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert answer.content == (STATIC / "index.html").read_bytes()
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert policy["script-src"] == policy["connect-src"] == "'self'"
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert locked.client.get("/models").status_code == 401


def test_every_file_is_answered_as_it_is_and_as_what_it_is(locked) -> None:
    assert set(FILES) == {file.name for file in STATIC.iterdir()}, "each has a media type"
    for name in FILES:
        answer, head = (locked.client.request(method, f"/static/{name}") for method in ("GET", "HEAD"))
        assert answer.content == (STATIC / name).read_bytes()
        assert answer.headers["content-type"] == MEDIA_TYPES[name[name.rindex(".") :]]
        assert answer.headers["content-security-policy"] == locked.client.get("/").headers["content-security-policy"]
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["etag"] == answer.headers["etag"]


def test_what_the_browser_has_is_not_sent_again(locked) -> None:
    first = locked.client.get("/")
    assert first.headers["cache-control"] == "no-cache"
    tag = first.headers["etag"]
    for known, status in ((tag, 304), (f'"x", W/{tag}', 304), ("*", 304), ('"x"', 200), (tag[:-1], 200), ("", 200)):
        again = locked.client.get("/", headers={"if-none-match": known})
        assert again.status_code == status
        assert again.headers["etag"] == tag
        assert bool(again.content) == (status == 200)


@pytest.mark.parametrize(
    "path",
    [
        "/static/", "/static/..", "/static/../settings.py", "/static/..%2fsettings.py", "/static/%2e%2e%2fapp.py",
        "/static/..%5c..%5cetc%5cpasswd", "/static//etc/passwd", "/static/%2fetc%2fpasswd", "/static/index.html%00",
        "/static/index.html/", "/static/INDEX.HTML", "/static/./index.html", "/static/index.html%0a", "/static/x.js",
    ],
)  # fmt: skip
def test_no_path_leads_to_another_file(locked, path: str) -> None:
    """Past a client that tidies paths up."""
    connection = http.client.HTTPConnection(locked.url.removeprefix("http://"), timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    assert answer.status in (401, 404)
    assert re.search(rb'"code":"(unauthorized|not_found)"', body)


def test_the_wheel_has_the_files() -> None:
    distribution = Distribution()
    distribution.parse_config_files([str(ROOT / "pyproject.toml")])
    build = distribution.get_command_obj("build_py")
    build.ensure_finalized()
    build.manifest_files = {}  # what git holds: setuptools alone does not look there
    packed = {Path(name).name for name in build.find_data_files("service", str(ROOT / "service"))}  # type: ignore[attr-defined]
    assert packed >= set(FILES)
