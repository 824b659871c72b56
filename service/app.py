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
from elbound.errors import ConfigError, ElboundError
from service.auth import KeyMiddleware
from service.batcher import Batcher
from service.drift import DriftMonitor
from service.errors import on_disconnect, on_elbound_error, on_http_error, on_unexpected_error
from service.examples import request_body
from service.metrics import Metrics, MetricsMiddleware
from service.opening import open_bundle
from service.registry import ModelRegistry
from service.routes import drift, health, models, score, store
from service.routes.small import SmallJsonMiddleware
from service.serving import Serving
from service.settings import Settings
from service.state import State
from service.store.models import StoreModels
from service.store.shadow import Shadows
from service.store.source import LocalStore
from service.streaming.streams import Streams


def create_app(settings: Settings, bundles: Sequence[Path]) -> FastAPI:
    """The service for `bundles`, each of which is loaded here, so that a bad one stops the start with its reason, and
    for the store of `settings.models`, which is first looked at when the server starts."""
    metrics = Metrics()
    batcher = Batcher(
        max_queue_rows=settings.max_queue_rows,
        max_queue_bytes=settings.max_queue_bytes,
        batch_rows=settings.batch_rows,
        short_on_loop=choose_device(settings.device).type == "cpu",
        on_batch=metrics.observe_batch,
        on_fault=lambda: os.kill(os.getpid(), signal.SIGTERM),
    )
    serving = Serving(ModelRegistry(), metrics, DriftMonitor(settings.state_dir))
    shadows = Shadows(batcher, metrics.store, max_shadow_bytes=settings.max_shadow_bytes)
    state = State(settings, metrics, batcher, serving.drift, Streams(settings), serving, shadows)
    for path in bundles:
        served = open_bundle(path, device=settings.device)
        state.registry.check_free(served)
        serving.begin(served)
    if settings.models:
        if not Path(settings.models).is_dir():
            raise ConfigError(f"models must be a folder. {settings.models} is none", where="models")
        state.store = StoreModels(LocalStore(Path(settings.models)), serving, shadows, device=settings.device)
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
    for part in (score, models, store, drift, health):
        app.include_router(part.router)
    _document(app, state)
    return app


def _lifespan(state: State) -> Callable[[FastAPI], Any]:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        torch.set_num_threads(1)  # of the event loop: batches that it scores are too small for more
        state.batcher.start()
        state.serving.loop = asyncio.get_running_loop()
        if state.store is not None:
            await state.store.look()
        await _warm_up(state)
        stopping = asyncio.Event()
        tasks = [asyncio.create_task(state.drift.keep(stopping))]
        if state.store is not None:
            tasks.append(asyncio.create_task(state.store.watch(stopping, poll_s=state.settings.store_poll_s)))
        gc.collect()
        gc.freeze()  # or the collector walks over all of torch again and again: 40 % of a small request
        state.loaded = True
        yield
        state.loaded = False
        gc.unfreeze()
        await state.shadows.end()
        state.batcher.stop()
        state.streams.threads.shutdown()
        stopping.set()
        await asyncio.gather(*tasks)

    return lifespan


async def _warm_up(state: State) -> None:
    """The first caller pays for no first call of the device's thread."""
    for served in state.registry.models.values():
        scorer = served.scorer
        await state.batcher.submit(scorer.score_tensor, scorer.golden, lane="bulk", deadline=math.inf)


def _document(app: FastAPI, state: State) -> None:
    """Complete the OpenAPI document with a working example for every body and the key."""
    plain, described = app.openapi, state.serving.changes

    def openapi() -> dict[str, Any]:
        nonlocal described
        if app.openapi_schema is None or described != state.serving.changes:
            app.openapi_schema, described = None, state.serving.changes
            document = plain()
            scorers = [served.scorer for served in state.registry.models.values()]
            document["paths"]["/score"]["post"]["requestBody"] = request_body(scorers)
            document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
            document["security"] = [{"key": []}] if state.settings.api_key else []
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
