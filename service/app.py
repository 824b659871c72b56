"""The application: routes, middleware and error handlers, in order."""

import asyncio
import gc
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from elbound import __version__
from elbound.bundle.signature import Trust, TrustedKeys
from elbound.device import choose_device
from elbound.errors import ConfigError, ElboundError
from service.access.document import document_access
from service.access.keys import KeyRing
from service.access.local import LocalRules
from service.access.middleware import AccessMiddleware
from service.access.routes import ROUTES, TABLE, RouteTable, check_listed
from service.http.error_answers import on_disconnect, on_elbound_error, on_http_error, on_unexpected_error
from service.http.media_types import NDJSON
from service.memory.budget import Budget
from service.models.load import open_bundle
from service.models.registry import ModelRegistry
from service.models.remote import Cache, RemoteStore, local_folder
from service.models.serving import Serving
from service.models.store.bucket import BucketStore
from service.models.store.models import StoreModels
from service.models.store.shadow import Shadows
from service.models.store.source import LocalStore, Source
from service.models.trust import trusted_keys
from service.models.warm_up import warm_up
from service.monitoring.drift import DriftMonitor
from service.monitoring.logs import RequestLog
from service.monitoring.metrics import Metrics, MetricsMiddleware
from service.page import routes as page
from service.queue.batcher import Batcher
from service.queue.jobs import BatchRecord
from service.routes import calibration, drift, health, live, models, store, v2, v2_repository
from service.routes.examples import request_body
from service.routes.v2_examples import add_examples
from service.score import declared
from service.score.endpoint import ScoreEndpoint
from service.settings import Settings
from service.state import State
from service.uploads.decoding.pool import Decoders
from service.uploads.streams import Streams

if TYPE_CHECKING:
    from service.monitoring.opentelemetry import Tracing  # needs the extra `otel`


class Service(FastAPI):
    """FastAPI behind our own layers: within its own, a small request would pass five more on its way."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.front: ASGIApp = super().__call__

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self.front(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def create_app(settings: Settings, bundles: Sequence[Path | str], tracing: "Tracing | None" = None) -> Service:
    """The service for `bundles`, folders or addresses, and for the store of `settings.models`.

    The bundles are loaded here, so that a bad one stops the start with its reason; the store is first looked at when
    the server starts.
    """
    metrics = Metrics()
    keys = KeyRing(Path(settings.api_keys_file), metrics.key_file_errors.inc) if settings.api_keys_file else None
    table = RouteTable(ROUTES | ({"GET /metrics": "open"} if settings.open_metrics else {}))
    batcher = Batcher(
        max_queue_rows=settings.max_queue_rows,
        max_queue_bytes=settings.max_queue_bytes,
        batch_rows=settings.batch_rows,
        short_on_loop=choose_device(settings.device).type == "cpu",
        on_batch=metrics.observe_batch,
        on_fault=lambda: os.kill(os.getpid(), signal.SIGTERM),
        current_context=tracing.current if tracing else None,
    )
    state = _load(settings, bundles, metrics, batcher)
    _watch(state)
    app = Service(
        title="elbound",
        version=__version__,
        summary="Calibrated anomaly scores from a variational autoencoder.",
        redirect_slashes=False,
        docs_url=None,  # its page would load scripts from a CDN
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # asked for anew by every request
        lifespan=_lifespan(state, keys),
        exception_handlers={
            ElboundError: on_elbound_error,
            HTTPException: partial(on_http_error, methods_of=TABLE.methods),
            ClientDisconnect: on_disconnect,
            Exception: on_unexpected_error,
        },
    )
    door = keys or LocalRules(any_host=settings.insecure)
    admitted = AccessMiddleware(ScoreEndpoint(app.front, state.frame), door=door, routes=table)
    app.front = MetricsMiddleware(admitted, metrics=metrics, log=RequestLog(settings.log_requests_percent))
    if tracing is not None:
        _trace(app, state, tracing)
    app.state.elbound = state
    for part in (page, declared, models, calibration, store, drift, health, live, v2, v2_repository):
        app.include_router(part.router)
    check_listed(app.routes)
    _document(app, state, table)
    return app


def _load(settings: Settings, bundles: Sequence[Path | str], metrics: Metrics, batcher: Batcher) -> State:
    """What the server holds, with its bundles loaded."""
    serving = Serving(ModelRegistry(), metrics, DriftMonitor(settings.state_dir))
    shadows = Shadows(batcher, metrics.store, max_shadow_bytes=settings.max_shadow_bytes)
    budget = Budget(settings.max_inflight_bytes)
    decoders = Decoders(settings, budget)
    state = State(settings, metrics, batcher, serving.drift, Streams(settings), serving, shadows, budget, decoders)
    trusted = trusted_keys(settings)
    for bundle in bundles:
        served = open_bundle(
            local_folder(str(bundle), settings),
            device=settings.device,
            trust=Trust(trusted),
            max_bytes=settings.max_bundle_bytes,
        )
        state.registry.check_free(served)
        serving.begin(served)
    if settings.models:
        state.store = StoreModels(
            _source(settings, trusted),
            serving,
            shadows,
            partial(warm_up, batcher),
            device=settings.device,
            keys=trusted,
            max_bundle_bytes=settings.max_bundle_bytes,
            load_timeout_s=settings.load_timeout_s,
        )
    return state


def _trace(app: Service, state: State, tracing: "Tracing") -> None:
    """Spans around everything, and of what the metrics time."""
    from service.monitoring.opentelemetry import TracingMiddleware

    metrics, batcher = state.metrics, state.batcher

    def observe_batch(batch: BatchRecord) -> None:
        metrics.observe_batch(batch)
        tracing.observe_batch(batch)

    batcher.on_batch = observe_batch
    metrics.on_stage = tracing.observe_stage
    app.front = TracingMiddleware(app.front, tracing)


def _source(settings: Settings, trusted: TrustedKeys | None) -> Source:
    """The store of `settings.models`, here or in a bucket. Raises ConfigError."""
    if "://" in settings.models:
        return BucketStore(RemoteStore.open(settings.models, Cache.of(settings), trusted))
    if not Path(settings.models).is_dir():
        raise ConfigError(f"models must be a folder. {settings.models} is none", where="models")
    return LocalStore(Path(settings.models))


def _watch(state: State) -> None:
    """What is measured when it is asked for."""
    watch, settings, spool = state.metrics.watch, state.settings, state.streams.spool
    watch("elbound_queue_depth", "Items that wait for the device.", lambda: state.batcher.waiting_rows)
    watch("elbound_queue_limit_items", "Items that may wait for the device.", lambda: settings.max_queue_rows)
    watch("elbound_uploads_open", "Uploads that are being scored piece by piece.", lambda: state.streams.open)
    watch("elbound_inflight_bytes", "Memory that requests hold.", lambda: state.budget.used_bytes)
    watch("elbound_inflight_limit_bytes", "Memory that requests may hold.", lambda: settings.max_inflight_bytes)
    watch(
        "elbound_decode_waiting",
        "Uploads that wait for a process to decode them.",
        lambda: state.decoders.turns.waiting,
    )
    watch("elbound_spool_bytes", "Uploads and scores set aside on disk.", lambda: spool.used_bytes)


def _lifespan(state: State, keys: KeyRing | None) -> Callable[[FastAPI], Any]:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        torch.set_num_threads(1)  # of the event loop: batches that it scores are too small for more
        state.batcher.start()
        await state.decoders.start()
        state.serving.loop = asyncio.get_running_loop()
        for served in state.registry.models.values():
            await warm_up(state.batcher, served)
        if state.store is not None:
            await state.store.look()
        stopping = asyncio.Event()
        tasks = [asyncio.create_task(state.drift.keep(stopping))]
        if state.store is not None:
            tasks.append(asyncio.create_task(state.store.watch(stopping, poll_s=state.settings.store_poll_s)))
        if keys is not None:
            tasks.append(asyncio.create_task(keys.watch(stopping)))
        gc.collect()
        gc.freeze()  # or the collector walks over all of torch again and again: 40 % of a small request
        state.loaded = True
        yield
        state.loaded = False
        state.live.stop()
        gc.unfreeze()
        await state.shadows.end()
        state.batcher.stop()
        state.decoders.stop()
        state.streams.threads.shutdown()
        stopping.set()
        await asyncio.gather(*tasks)
        for own in (state.drift.threads, state.documents, *([] if keys is None else [keys.threads])):
            own.shutdown()

    return lifespan


def _document(app: FastAPI, state: State, table: RouteTable) -> None:
    """Complete the OpenAPI document with a working example for every body, and who may use what."""
    plain, described = app.openapi, state.serving.changes

    def openapi() -> dict[str, Any]:
        nonlocal described
        if app.openapi_schema is None or described != state.serving.changes:
            app.openapi_schema, described = None, state.serving.changes
            document = plain()
            scorers = [served.scorer for served in state.registry.models.values()]
            document["paths"]["/score"]["post"]["requestBody"] = request_body(scorers)
            live_answer = document["paths"]["/live"]["get"]["responses"]["200"]["content"][NDJSON]
            del live_answer["schema"]["type"]  # FastAPI says that whatever is not JSON is text
            add_examples(document, scorers)
            document_access(document, table, with_keys=bool(state.settings.api_keys_file))
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
