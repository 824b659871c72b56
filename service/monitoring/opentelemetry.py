"""OpenTelemetry spans of requests; below each decode, queue, infer and postprocess. Needs the extra `otel`."""

import os
import time
from contextvars import ContextVar

from opentelemetry.context import Context, get_current
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from elbound import __version__
from service.http.error_answers import ERROR_CODE
from service.monitoring.metrics import METHODS
from service.queue.jobs import BatchRecord

UNTRACED = frozenset({"/healthz", "/readyz", "/metrics"})
MAX_PIECES = 64
"""Of an upload that is scored piece by piece so many have spans."""
TRACE_HEADERS = (b"traceparent", b"tracestate")

pieces_left: ContextVar[list[int] | None] = ContextVar("pieces_left", default=None)
"""Of the request at hand; None outside of one."""


class Tracing:
    """Makes the spans. Times come from the metrics, so that tracing measures nothing a second time."""

    def __init__(self, provider: TracerProvider) -> None:
        self.tracer = provider.get_tracer("elbound", __version__)

    @classmethod
    def exporting(cls) -> "Tracing":
        """Spans go where the standard `OTEL_*` variables say, by OTLP over HTTP."""
        named = "OTEL_SERVICE_NAME" in os.environ
        provider = TracerProvider(resource=Resource.create({} if named else {SERVICE_NAME: "elbound"}))
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        return cls(provider)

    def current(self) -> Context | None:
        """What the spans of a job stand below; None where they are not wanted."""
        left = pieces_left.get()
        if not left or left[0] == 0 or not get_current_span().is_recording():
            return None
        left[0] -= 1
        return get_current()

    def observe_stage(self, name: str, seconds: float) -> None:
        """A stage of the request at hand that ends now."""
        if get_current_span().is_recording():
            self._record(name, None, ended=time.time_ns(), seconds=seconds)

    def observe_batch(self, batch: BatchRecord) -> None:
        """A batch that ends now: the wait and the work, for each request in it."""
        ended = time.time_ns()
        began = ended - int(batch.seconds * 1e9)
        for context, wait in zip(batch.contexts, batch.waits, strict=True):
            if context is not None:
                self._record("queue", context, ended=began, seconds=wait)
                self._record("infer", context, ended=ended, seconds=batch.seconds, items=batch.rows)

    def _record(self, name: str, context: Context | None, *, ended: int, seconds: float, **attributes: int) -> None:
        span = self.tracer.start_span(
            name,
            context,
            attributes={f"elbound.batch.{key}": value for key, value in attributes.items()},
            start_time=ended - int(seconds * 1e9),
        )
        span.end(ended)


class TracingMiddleware:
    """A span of every request under its route's template, below the caller's where a `traceparent` names it."""

    def __init__(self, app: ASGIApp, tracing: Tracing) -> None:
        self.app = app
        self.tracer = tracing.tracer
        self.propagator = TraceContextTextMapPropagator()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in UNTRACED:
            await self.app(scope, receive, send)
            return
        status = 500

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        carrier = {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in TRACE_HEADERS}
        method = scope["method"] if scope["method"] in METHODS else "other"
        with self.tracer.start_as_current_span(
            method,
            self.propagator.extract(carrier),
            SpanKind.SERVER,
            record_exception=False,  # its message may hold what the caller sent
            set_status_on_exception=False,
        ) as span:
            pieces = pieces_left.set([MAX_PIECES])
            try:
                await self.app(scope, receive, watch)
            finally:
                pieces_left.reset(pieces)
                _describe(span, scope, method, status)


def _describe(span: Span, scope: Scope, method: str, status: int) -> None:
    route = getattr(scope.get("route"), "path", "unmatched")
    span.update_name(f"{method} {route}")
    span.set_attributes({"http.request.method": method, "http.route": route, "http.response.status_code": status})
    if ERROR_CODE in scope:
        span.set_attribute("error.type", scope[ERROR_CODE])
    if status >= 500:
        span.set_status(Status(StatusCode.ERROR))
