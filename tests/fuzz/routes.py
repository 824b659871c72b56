"""Every route of a real server by schemathesis, from the OpenAPI document: `python -m tests.fuzz.routes 60 DIR`.

Each operation must answer at least once with what was asked for: a route that is only ever refused is not tested.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx

from tests.conftest import fit_pictures, fit_table, mixed_table
from tests.service.conftest import Server, write_keys
from tests.service.stores import as_version, put, version_at

SCHEMATHESIS = Path(".fuzz/routes/bin/schemathesis")
CONFIG = Path("tests/fuzz/schemathesis.toml")
ENDLESS = "/live"
SCOPES = ("score", "read", "admin")
SCOPE_SHARE = 0.1
"""Of the time, for the key of each single scope; the key of all of them has the rest."""
SCOPE_EXAMPLES = 3


def main(seconds: str, folder: str) -> int:
    log = Path(folder, "server.log").resolve()
    with tempfile.TemporaryDirectory() as temporary:
        log.unlink(missing_ok=True)
        server = _server(Path(temporary), log)
        try:
            share = int(SCOPE_SHARE * float(seconds))
            rest = int(float(seconds)) - len(SCOPES) * share
            document = Path(temporary, "openapi.json")
            document.write_bytes(_get(server, "/openapi.json").content)
            failed = _finds(server, document, folder, "all", f"--max-time={rest}")
            few = (f"--max-time={share}", f"--max-examples={SCOPE_EXAMPLES}", "--warnings=off")
            for scope in SCOPES:
                failed += _finds(server, document, folder, scope, *few)
            unanswered = _unanswered(server)
            alive = server.process.poll() is None
        finally:
            server.stop()
    for operation in unanswered:
        print(f"never answered with 2xx: {operation}")  # noqa: T201
    return int(bool(failed or unanswered or "Traceback" in log.read_text() or not alive))


def _server(folder: Path, log: Path) -> Server:
    """Bundles of rows and of pictures, a store with two versions, and a key of all scopes and of each."""
    rows, pictures = folder / "rows", folder / "pictures"
    report = {"index.html": b"<!doctype html><title>rows</title>"}
    as_version(fit_table(mixed_table(600), steps=60), version_at(0), name="rows").save(rows, report=report)
    as_version(fit_pictures(), version_at(0), name="pictures").save(pictures)
    numbers = fit_table(mixed_table(600).select(["a", "b", "c"]), name="numbers", steps=60)
    for i in range(2):
        put(folder / "store", numbers, i)
    keys = write_keys(folder / "keys.json", all={"scopes": SCOPES}, **{scope: {"scopes": [scope]} for scope in SCOPES})
    settings = {"ELBOUND_API_KEYS_FILE": keys, "ELBOUND_MODELS": folder / "store", "ELBOUND_MAX_BODY_BYTES": 1_000_000}
    return Server([rows, pictures], log, {name: str(value) for name, value in settings.items()})


def _finds(server: Server, document: Path, folder: str, key: str, *options: str) -> bool:
    """Whether schemathesis finds something in what the server answers to the caller with that key."""
    command = [
        SCHEMATHESIS.resolve(), "--config-file", CONFIG.resolve(), "run", document, f"--url={server.url}",
        f"--header=Authorization: Bearer {key}", f"--exclude-path={ENDLESS}", *options,
    ]  # fmt: skip
    own = {"SCHEMATHESIS_HOOKS": "tests.fuzz.hooks", "PYTHONPATH": str(Path.cwd()), "ELBOUND_FUZZED": server.url}
    return subprocess.run(command, cwd=folder, env={**os.environ, **own}, check=False).returncode != 0


def _get(server: Server, path: str) -> httpx.Response:
    return server.client.get(path, headers={"authorization": "Bearer all"})


def _unanswered(server: Server) -> list[str]:
    """The operations of the document that have no answer of 2xx among the server's own counts."""
    lines = re.findall(r"^elbound_requests_total\{(.*)\} ", _get(server, "/metrics").text, re.MULTILINE)
    counted = [dict(re.findall(r'(\w+)="([^"]*)"', line)) for line in lines]
    answered = {(one["method"], one["route"]) for one in counted if one["status"].startswith("2")}
    return [
        f"{method.upper()} {path}"
        for path, operations in _get(server, "/openapi.json").json()["paths"].items()
        for method in operations
        if path != ENDLESS and (method.upper(), path) not in answered
    ]


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
