"""The application: routes, middleware and error handlers, in order."""

import asyncio
import gc
import math
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import torch
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect

from elbound import __version__
from elbound.device import choose_device
from elbound.errors import ElboundError
from elbound.signature import Trust
from service.auth import KeyMiddleware
from service.batcher import Batcher
from service.drift import DriftMonitor
from service.errors import on_disconnect, on_elbound_error, on_http_error, on_unexpected_error
from service.examples import request_body
from service.metrics import Metrics, MetricsMiddleware
from service.remote import local_folder
from service.routes import drift, health, models, score
from service.routes.small import SmallJsonMiddleware
from service.settings import Settings
from service.state import State
from service.streaming.streams import Streams
from service.trust import trusted_keys


def create_app(settings: Settings, bundles: Sequence[Path | str]) -> FastAPI:
    """The service for `bundles`, folders or addresses, loaded here: a bad one stops the start with its reason."""
    metrics = Metrics()
    batcher = Batcher(
        max_queue_rows=settings.max_queue_rows,
        max_queue_bytes=settings.max_queue_bytes,
        batch_rows=settings.batch_rows,
        short_on_loop=choose_device(settings.device).type == "cpu",
        on_batch=metrics.observe_batch,
        on_fault=lambda: os.kill(os.getpid(), signal.SIGTERM),
    )
    state = State(settings, metrics, batcher, DriftMonitor(settings.state_dir), Streams(settings))
    trust = Trust(trusted_keys(settings))
    for bundle in bundles:
        path = local_folder(str(bundle), settings)
        scorer = state.registry.load(path, device=settings.device, trust=trust).scorer
        metrics.add_model(scorer)
        if followed := state.drift.add(scorer):
            metrics.add_drift(scorer, followed)
    app = FastAPI(
        title="elbound",
        version=__version__,
        summary="Calibrated anomaly scores from a variational autoencoder.",
        redirect_slashes=False,
        docs_url=None,  # its page would load scripts from a CDN
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # asked for anew by every request
        lifespan=_lifespan(state),
        middleware=[
            Middleware(MetricsMiddleware, metrics=metrics),
            Middleware(KeyMiddleware, api_key=settings.api_key),
            Middleware(SmallJsonMiddleware, state=state),
        ],
        exception_handlers={
            ElboundError: on_elbound_error,
            HTTPException: on_http_error,
            ClientDisconnect: on_disconnect,
            Exception: on_unexpected_error,
        },
    )
    app.state.elbound = state
    for part in (score, models, drift, health):
        app.include_router(part.router)
    _document(app, state)
    return app


def _lifespan(state: State) -> Callable[[FastAPI], Any]:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        torch.set_num_threads(1)  # of the event loop: batches that it scores are too small for more
        state.batcher.start()
        for served in state.registry.models.values():  # the first caller pays for no first call
            scorer = served.scorer
            await state.batcher.submit(scorer.score_tensor, scorer.golden, lane="bulk", deadline=math.inf)
        stopping = asyncio.Event()
        keeper = asyncio.create_task(state.drift.keep(stopping))
        gc.collect()
        gc.freeze()  # or the collector walks over all of torch again and again: 40 % of a small request
        state.loaded = True
        yield
        state.loaded = False
        gc.unfreeze()
        state.batcher.stop()
        state.streams.threads.shutdown()
        stopping.set()
        await keeper

    return lifespan


def _document(app: FastAPI, state: State) -> None:
    """Complete the OpenAPI document with a working example for every body and the key."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = plain()
            scorers = [served.scorer for served in state.registry.models.values()]
            document["paths"]["/score"]["post"]["requestBody"] = request_body(scorers)
            document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
            document["security"] = [{"key": []}] if state.settings.api_key else []
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
