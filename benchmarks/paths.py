"""Which files of the project one request passes, in the order in which they are first entered.

python -m benchmarks.paths

A real server runs in this process and a request comes over a socket; the profiler of the interpreter notes every
function that is called from the moment at which the request is sent. Decoder processes are not seen.
"""

import asyncio
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import FrameType

import httpx
import numpy as np
import uvicorn

from elbound import VAEDetector
from service.app import create_app
from service.http.protocol import Reception
from service.settings import Settings

ROOT = Path(__file__).parents[1]
PACKAGES = ("elbound", "service", "training")
QUIET_SECONDS = 0.3
"""What a server still does for a request after its answer has been read takes less."""
ROW = b'{"rows": [{"x0": 0.1, "x1": 0.2, "x2": 0.3, "x3": 0.4}]}'
CSV = b"x0,x1,x2,x3\n" + b"0.1,0.2,0.3,0.4\n" * 3
REQUESTS = {
    "one row of JSON": (ROW, {"content-type": "application/json"}),
    "a CSV, answered as a stream": (CSV, {"content-type": "text/csv", "accept": "application/x-ndjson"}),
}


class Passed:
    """The files whose functions were called while `is_on`."""

    def __init__(self) -> None:
        self.is_on = False
        self.files: dict[str, None] = {}

    def note(self, frame: FrameType, event: str, _: object) -> None:
        if self.is_on and event == "call":
            self.files.setdefault(frame.f_code.co_filename)

    def of_project(self) -> list[str]:
        """Relative paths of the files of the three packages."""
        paths = [Path(file) for file in self.files]
        found = [path.relative_to(ROOT) for path in paths if path.is_relative_to(ROOT)]
        return [str(path) for path in found if path.parts[0] in PACKAGES]


def passed_files(bundle: Path) -> dict[str, list[str]]:
    """The files that each of `REQUESTS` passes, the third time that it is sent: nothing is loaded any more."""
    passed = Passed()
    threading.setprofile(passed.note)
    settings = Settings(port=0, device="cpu")
    app = create_app(settings, [bundle])
    state = app.state.elbound
    reception = Reception(settings, state.metrics.count_refused, state.live.stop, state.budget.count)
    config = uvicorn.Config(app, http=reception.protocol, port=0, log_level="error", lifespan="on")  # type: ignore[arg-type]
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    try:
        while not server.started:
            time.sleep(0.05)
        port = server.servers[0].sockets[0].getsockname()[1]
        found = {}
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            for name, (body, headers) in REQUESTS.items():
                for _ in range(3):
                    time.sleep(QUIET_SECONDS)
                    passed.files.clear()
                    passed.is_on = True
                    client.post("/score", content=body, headers=headers).raise_for_status()
                    time.sleep(QUIET_SECONDS)
                    passed.is_on = False
                found[name] = passed.of_project()
        return found
    finally:
        server.should_exit = True
        thread.join()
        threading.setprofile(None)


def main() -> None:
    """Print the files of each request by folder."""
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "rows"
        rows = np.random.default_rng(0).normal(size=(300, 4))
        VAEDetector(steps=20).fit(rows).save(bundle)
        for name, files in passed_files(bundle).items():
            print(f"{name}: {len(files)} files")
            for file in files:
                print(f"  {file}")


if __name__ == "__main__":
    sys.exit(main())
