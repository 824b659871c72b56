"""What is measured on our side, each a process: python -m benchmarks.serving.apps KIND BUNDLE PORT [--device D].

`ours`: the service with two empty POSTs beside it; `quiet`: the same without metrics; `naive`: what one writes in five
minutes; `bare`: no server, but the scorer alone, timed on one thread.
"""

import argparse
import hashlib
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

KEY = "benchmark"
BARE_SECONDS = 1.0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=("ours", "quiet", "naive", "bare"))
    parser.add_argument("bundle", type=Path)
    parser.add_argument("number", type=int, help="the port, or the rows at once of `bare`")
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    if asked.kind == "bare":
        print(bare_rows_per_second(asked.bundle, asked.device, asked.number))
    elif asked.kind == "naive":
        _run_uvicorn(_naive(asked.bundle), asked.number)
    elif asked.kind == "quiet":
        with without_metrics():
            _serve(asked.bundle, asked.device, asked.number)
    else:
        _serve(asked.bundle, asked.device, asked.number)


def write_keys(folder: Path, **quota: float) -> Path:
    """A key file with `KEY`, which may do everything, for those who are measured as callers with a key."""
    scopes = ["score", "read", "admin"]
    entry = {"name": KEY, "sha256": hashlib.sha256(KEY.encode()).hexdigest(), "scopes": scopes, **quota}
    path = folder / "keys.json"
    path.write_text(json.dumps({"keys": [entry]}))
    return path


def bare_rows_per_second(bundle: Path, device: str, rows: int) -> float:
    """`Scorer.score_tensor` on `rows` rows at once, with nothing around it."""
    import torch

    from elbound.scorer import Scorer

    scorer = Scorer.from_bundle(bundle, device=device)
    x = scorer.golden[torch.arange(rows) % len(scorer.golden)]
    for _ in range(3):
        scorer.score_tensor(x)
    times, started = 0, time.perf_counter()
    while time.perf_counter() - started < BARE_SECONDS:
        scorer.score_tensor(x)
        times += 1
    return times * rows / (time.perf_counter() - started)


def without_metrics() -> Any:
    """A context in which `create_app` builds the service without metrics: nothing is counted and nothing timed."""
    from service import app
    from service.monitoring import metrics

    class NoStage:
        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None: ...

    nothing = NoStage()

    class NoMetrics(metrics.Metrics):
        def observe_upload(self, *_: object) -> None: ...

        def observe_scores(self, *_: object) -> None: ...

        def observe_batch(self, _: object) -> None: ...

        def stage(self, _: str) -> Any:
            return nothing

    def passed_on(inner: Any, **_: object) -> Any:
        return inner

    return mock.patch.multiple(app, Metrics=NoMetrics, MetricsMiddleware=passed_on)


def _serve(bundle: Path, device: str, port: int) -> None:
    """`elbound serve` as it is, with the empty POSTs added to its application."""
    from service import app, server
    from service.settings import Settings

    create_app: Callable[..., Any] = vars(server)["create_app"]
    endpoint: Callable[..., Any] = vars(app)["ScoreEndpoint"]

    def with_empty(*arguments: Any) -> Any:
        made = create_app(*arguments)
        _add_empty(made)
        return made

    def before_empty(inner: Any, frame: Any) -> Any:
        return endpoint(Empty(inner), frame)

    with (
        mock.patch.object(server, "create_app", with_empty),
        mock.patch.object(app, "ScoreEndpoint", before_empty),
        tempfile.TemporaryDirectory() as folder,
    ):
        keys = str(write_keys(Path(folder)))
        server.run_server(Settings(device=device, port=port, api_keys_file=keys, log_level="error"), [bundle])


class Empty:
    """An empty POST on plain ASGI, in the place and behind the layers of the route of small requests."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] != "/empty":
            await self.app(scope, receive, send)
            return
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})


def _add_empty(app: Any) -> None:
    """An empty POST that is an ordinary FastAPI route behind the same layers."""
    from fastapi import Request, Response

    async def empty(request: Request) -> Response:
        await request.body()
        return Response()

    app.add_api_route("/empty-fastapi", empty, methods=["POST"])


def _naive(bundle: Path) -> Any:
    """What one writes in five minutes: a pydantic body, one call of the scorer, its numbers."""
    import torch
    from fastapi import FastAPI
    from pydantic import BaseModel

    from elbound.schema import TableSchema
    from elbound.scorer import Scorer

    scorer = Scorer.from_bundle(bundle, device="cpu")
    assert isinstance(scorer.schema, TableSchema)
    names = scorer.schema.names
    app = FastAPI()

    class Body(BaseModel):
        rows: list[dict[str, float]]

    @app.get("/readyz")
    def ready() -> None: ...

    @app.post("/score")
    def score(body: Body) -> dict[str, object]:
        x = torch.tensor([[row[name] for name in names] for row in body.rows], dtype=torch.float64)
        scored = scorer.score_tensor(x)
        return {
            "score": scored.score.tolist(),
            "p_value": scored.p_value.tolist(),
            "is_anomaly": scorer.decide(scored).is_anomaly.tolist(),
            "scores": {name: values.tolist() for name, values in scored.scores.items()},
        }

    return app


def _run_uvicorn(app: Any, port: int) -> None:
    import uvicorn

    uvicorn.run(app, port=port, http="httptools", loop="uvloop", log_config=None, access_log=False, server_header=False)


if __name__ == "__main__":
    main()
