"""Prometheus metrics: base units, `_total`, bounded labels. Updated per batch and per request, never per item."""

import asyncio
import platform
import time
from collections import Counter as Counts
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from elbound import __version__
from elbound.calibration.calibration import Decisions, ScoredItems
from elbound.data.items import TensorItems
from elbound.errors import ElboundError
from elbound.scorer import Scorer
from service.access.caller import CALLER
from service.http.error_answers import ERROR_CODE, REFUSED, answer_of
from service.http.headers import REQUEST_ID, with_defaults
from service.monitoring.drift import ModelDrift
from service.monitoring.histograms import Buckets, Histogram, PValues, Stage
from service.monitoring.logs import RequestLog, current_request
from service.monitoring.store import MODEL, StoreMetrics
from service.queue.jobs import BatchRecord

BOUND_CONFIDENCE = 0.999
"""Of 1,000 models that score nothing but normal items one realises more than its `elbound_false_alarm_bound`."""
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
UPLOAD_SECONDS = (0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600)
ALERTED = (
    "overloaded", "too_many_connections", "too_many_streams", "spool_full", "memory_full",
    "internal_error",
    "device_fault",
)  # fmt: skip
"""Reasons that an alert is about: want of room, then faults of ours."""
UNTOLD = {500: "internal_error", 503: "not_ready"}
"""Reasons of answers that are no error of ours to tell: what nobody expected, and the probe of `/readyz`."""
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
COUNTED_INLINE = 1_000
"""So many errors of an upload are counted on the event loop; more would hold it up."""
STAGES = ("decode", "queue", "infer", "postprocess")
STREAMED = "elbound.streamed"
"""Where the scope of a request says that it is scored piece by piece: how long that takes is the sender's affair."""
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """All series of one server, in a registry of its own."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "elbound_requests", "Requests answered.", ("route", "method", "status"), registry=registry
        )
        self.refused = Counter(
            "elbound_requests_refused",
            "Requests that were answered with an error, by its code.",
            ("reason",),
            registry=registry,
        )
        self.request_seconds = Histogram(
            "elbound_request_duration_seconds",
            "Seconds from a request to the end of its answer.",
            edges=SECONDS,
            label="route",
        )
        self.upload_seconds = Histogram(
            "elbound_upload_duration_seconds",
            "Seconds of an upload that is scored piece by piece.",
            edges=UPLOAD_SECONDS,
        )
        self.stage_seconds = Histogram(
            "elbound_stage_duration_seconds",
            "Seconds of each stage: decode, queue, infer, postprocess.",
            edges=SECONDS,
            label="stage",
        )
        self.batch_items = Histogram(
            "elbound_batch_items", "Items in each batch that the device scored.", edges=tuple(2.0**i for i in range(14))
        )
        self.p_values = PValues(MODEL)
        for histogram in (
            self.request_seconds, self.upload_seconds, self.stage_seconds, self.batch_items, self.p_values,
        ):  # fmt: skip
            registry.register(histogram)
        self.items = Counter(
            "elbound_items_scored",
            "Items scored, by verdict at the bundle's alpha.",
            (*MODEL, "verdict"),
            registry=registry,
        )
        self.rejected = Counter(
            "elbound_items_rejected", "Items that could not be scored.", (*MODEL, "reason"), registry=registry
        )
        self.unseen = Counter(
            "elbound_unseen_categories",
            "Category values that training did not see.",
            (*MODEL, "column"),
            registry=registry,
        )
        self.target = Gauge(
            "elbound_false_alarm_target", "False-alarm rate that the bundle promises (alpha).", MODEL, registry=registry
        )
        self.resolves = Gauge(
            "elbound_alpha_resolves",
            "1 where the calibration items decide the bundle's alpha, 0 where nothing can ever be an anomaly.",
            MODEL,
            registry=registry,
        )
        self.bound = Gauge(
            "elbound_false_alarm_bound",
            "Upper bound of the false-alarm rate, given how many items calibrate: 999 of 1,000 models stay below it.",
            MODEL,
            registry=registry,
        )
        self.calibration_items = Gauge(
            "elbound_calibration_items", "Held-out normal items that calibrate the verdict.", MODEL, registry=registry
        )
        self.log_martingale = Gauge(
            "elbound_drift_log_martingale",
            "Evidence of drift: above 4.61 (log 100) scores have drifted; without drift its probability is 1 %.",
            MODEL,
            registry=registry,
        )
        self.max_log_martingale = Gauge(
            "elbound_drift_max_log_martingale",
            "Highest evidence of drift since the version was loaded.",
            MODEL,
            registry=registry,
        )
        self.model_info = Gauge(
            "elbound_model_info", "1 for each loaded model.", (*MODEL, "kind", "device"), registry=registry
        )
        self.device_memory = Gauge(
            "elbound_device_memory_bytes", "Memory that torch holds on a GPU.", ("device",), registry=registry
        )
        self.key_file_errors = Counter(
            "elbound_key_file_errors", "Times that the key file changed and could not be used.", registry=registry
        )
        self.by_model = [
            self.items, self.rejected, self.unseen, self.target, self.resolves, self.bound, self.calibration_items,
            self.log_martingale, self.max_log_martingale, self.model_info,
        ]  # fmt: skip
        """Whose labels begin with `MODEL`: `remove_model` takes a version's series out of each."""
        for reason in ALERTED:
            self.refused.labels(reason)  # at zero from the start: a rate does not see the first of a new series
        self.build_info = Gauge(
            "elbound_build_info",
            "1, with the versions of elbound, Python and torch as labels.",
            ("version", "python", "torch"),
            registry=registry,
        )
        self.build_info.labels(__version__, platform.python_version(), str(torch.__version__)).set(1)
        self.on_stage: Callable[[str, float], None] | None = None
        """Told of each stage that `stage` has timed."""
        self.stages = {name: self.stage_seconds.of(name) for name in STAGES}
        self.answered: dict[tuple[str, str, int, bool], Answers] = {}
        self.verdicts: dict[tuple[str, str], tuple[Counter, Counter]] = {}
        """Of each model: its normal items and its anomalies."""
        self.loaded: Counts[tuple[str, str]] = Counts()
        """How often a version is in memory: one may come back while the last request of its first time is answered."""
        self.store = StoreMetrics(registry)

    def add_model(self, scorer: Scorer) -> None:
        """Start the series of a loaded model, counters at zero, so that rates exist from the first scrape."""
        labels = (scorer.name, scorer.version)
        self.loaded[labels] += 1
        self.target.labels(*labels).set(scorer.alpha)
        self.resolves.labels(*labels).set(scorer.unresolved(scorer.alpha, scorer.guarantee) is None)
        bound = scorer.calibration.rate_bound(scorer.alpha, scorer.guarantee, confidence=BOUND_CONFIDENCE)
        if bound is not None:
            self.bound.labels(*labels).set(bound)
        self.calibration_items.labels(*labels).set(scorer.calibration.n)
        self.model_info.labels(*labels, scorer.schema.kind, scorer.device.type).set(1)
        device = scorer.device
        if device.type == "cuda":
            self.device_memory.labels(str(device)).set_function(lambda: float(torch.cuda.memory_reserved(device)))
        self.verdicts[labels] = self.items.labels(*labels, "normal"), self.items.labels(*labels, "anomaly")
        self.p_values.add(labels, np.empty(0))

    def add_drift(self, scorer: Scorer, drift: ModelDrift) -> None:
        """Start the series of a model whose drift is followed; read when they are asked for."""
        labels = (scorer.name, scorer.version)
        self.log_martingale.labels(*labels).set_function(lambda: drift.up_to_date().log_martingale)
        self.max_log_martingale.labels(*labels).set_function(lambda: drift.up_to_date().max_log_martingale)

    def remove_model(self, labels: tuple[str, str]) -> None:
        """End every series of a version that nobody holds any more; what still comes of it is not counted."""
        self.loaded[labels] -= 1
        if self.loaded[labels] > 0:
            return
        del self.loaded[labels]
        self.verdicts.pop(labels, None)
        self.p_values.remove(labels)
        for metric in self.by_model:
            metric.remove_by_labels(dict(zip(MODEL, labels, strict=True)))

    def watch(self, name: str, documentation: str, read: Callable[[], float]) -> None:
        """A gauge whose value is read when it is asked for."""
        Gauge(name, documentation, registry=self.registry).set_function(read)

    async def observe_upload(self, scorer: Scorer, items: TensorItems) -> None:
        """Count what could not be read and what training never saw, before anything is scored."""
        labels = (scorer.name, scorer.version)
        if not (items.errors or items.unseen) or labels not in self.verdicts:
            return
        codes = (error.code for error in items.errors.values())
        numbers = Counts(codes) if len(items.errors) <= COUNTED_INLINE else await asyncio.to_thread(Counts, codes)
        for code, number in numbers.items():
            self.rejected.labels(*labels, code).inc(number)
        for column, count in items.unseen.items():
            self.unseen.labels(*labels, column).inc(count)

    def observe_scores(self, scorer: Scorer, scored: ScoredItems, decisions: Decisions) -> None:
        """Count `decisions`, those at the bundle's alpha and guarantee, whatever the request asked for."""
        labels = (scorer.name, scorer.version)
        counters = self.verdicts.get(labels)
        if counters is None:
            return
        normal, anomaly = counters
        n_anomalies = int(np.count_nonzero(decisions.is_anomaly))
        if n_anomalies:
            anomaly.inc(n_anomalies)
        if n_anomalies < len(scored):
            normal.inc(len(scored) - n_anomalies)
        self.p_values.add(labels, scored.p_value)

    def count_refused(self, error: ElboundError) -> None:
        """Count an answer to what never became a request."""
        self.requests.labels("unmatched", "other", str(answer_of(error).status_code)).inc()
        self.refused.labels(error.code).inc()

    def observe_batch(self, batch: BatchRecord) -> None:
        self.batch_items.of().observe(batch.rows)
        self.stages["infer"].observe(batch.seconds)
        self.stages["queue"].observe_all(batch.waits)

    def observe_request(self, route: str, method: str, status: int, seconds: float, *, streamed: bool = False) -> None:
        """Count and time an answer; `route` is a template and `method` a known one."""
        found = self.answered.get((route, method, status, streamed))
        if found is None:
            timed = self.upload_seconds.of() if streamed else self.request_seconds.of(route)
            found = self.answered[route, method, status, streamed] = Answers(
                self.requests.labels(route, method, str(status)), timed
            )
        found.number += 1
        found.seconds.observe(seconds)

    def stage(self, name: str) -> Stage:
        """Time a stage: decode (bytes to event tensor) or postprocess (scores to the answer)."""
        return Stage(self.stages[name], name, self.on_stage)

    def settle(self) -> None:
        """Tell the counters what was counted; called, like `observe_request`, from the event loop alone."""
        for found in self.answered.values():
            found.counter.inc(found.number - found.told)
            found.told = found.number

    def render(self) -> bytes:
        """The exposition."""
        self.settle()
        return generate_latest(self.registry)


@dataclass(slots=True)
class Answers:
    """Of one route, method and status: their number, which the counter is told when somebody looks, and their times."""

    counter: Counter
    seconds: Buckets
    number: int = 0
    told: int = 0


class MetricsMiddleware:
    """Counts, times and logs every request under its route's template, and completes the headers of its answer.

    Plain ASGI.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, log: RequestLog) -> None:
        self.app = app
        self.metrics = metrics
        self.log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        current_request.set(scope.get(REQUEST_ID))
        status = 500

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = with_defaults(message.get("headers", ()))
            await send(message)

        try:
            await self.app(scope, receive, watch)
        except asyncio.CancelledError:
            if REFUSED not in scope:
                raise
            status = answer_of(scope[REFUSED]).status_code  # the server stops and has told the caller
            scope[ERROR_CODE] = scope[REFUSED].code
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            method = scope["method"] if scope["method"] in METHODS else "other"
            seconds = time.perf_counter() - started
            self.metrics.observe_request(route, method, status, seconds, streamed=STREAMED in scope)
            if status >= 400 or ERROR_CODE in scope:
                self.metrics.refused.labels(scope.get(ERROR_CODE, UNTOLD.get(status, "http_error"))).inc()
            if self.log.share:
                caller = scope.get(CALLER)
                key = caller.key.name if caller else None
                self.log.write(route=route, method=method, status=status, seconds=seconds, key=key)
