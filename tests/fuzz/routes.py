"""Every route of a real server by schemathesis, from the OpenAPI document: `python -m tests.fuzz.routes 60 DIR`."""

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.conftest import fit_table, mixed_table
from tests.service.conftest import Server, write_keys

SCHEMATHESIS = Path(".fuzz/routes/bin/schemathesis")
KEY = "fuzz"
UPLOADS = ("/score", "/v2/models/{name}/infer", "/v2/models/{name}/versions/{version}/infer")
"""Whether such a body is good depends on the model, which no document can say."""
ENDLESS = "/live"
SHAPES = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance",
    "response_headers_conformance",
)  # fmt: skip
EXAMPLES_A_SECOND = 0.5
"""Of each route."""


def main(seconds: str, folder: str) -> int:
    with tempfile.TemporaryDirectory() as temporary:
        bundle, log = Path(temporary, "rows"), Path(folder, "server.log").resolve()
        fit_table(mixed_table(600), steps=60).save(bundle)
        log.unlink(missing_ok=True)
        keys = write_keys(Path(temporary, "keys.json"), **{KEY: {"scopes": ["score", "read", "admin"]}})
        server = Server([bundle], log, {"ELBOUND_API_KEYS_FILE": str(keys), "ELBOUND_MAX_BODY_BYTES": "1000000"})
        try:
            excluded = [f"--exclude-path={path}" for path in (*UPLOADS, ENDLESS)]
            included = [f"--include-path={path}" for path in UPLOADS]
            ordinary = _run(server, seconds, folder, "all", *excluded)
            uploads = _run(server, seconds, folder, ",".join(SHAPES), *included)
            alive = server.process.poll() is None
        finally:
            server.stop()
        faults = "Traceback" in log.read_text()
        return int(bool(ordinary or uploads or faults or not alive))


def _run(server: Server, seconds: str, folder: str, checks: str, *options: str) -> int:
    examples = max(3, int(EXAMPLES_A_SECOND * float(seconds)))
    return subprocess.run(
        [
            SCHEMATHESIS.resolve(), "run", f"{server.url}/openapi.json", f"--header=Authorization: Bearer {KEY}",
            f"--checks={checks}", "--continue-on-failure", f"--max-examples={examples}", *options,
        ],
        cwd=folder,
        check=False,
    ).returncode  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
