"""What happens now, once a second, from what the metrics count anyway: one look for all who read."""

import asyncio
import contextlib
from collections import Counter as Sums
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson
from prometheus_client import Counter
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from elbound.scorer import Scorer
from service.access.caller import caller_of, until_left
from service.access.routes import ROUTES
from service.errors import TooManyStreams
from service.http.error_answers import ERROR_CODE, error_body
from service.http.media_types import NDJSON
from service.monitoring.histograms import P_VALUE_EDGES
from service.monitoring.metrics import SECONDS, Metrics
from service.monitoring.store import MODEL

PERIOD_S = 1.0
SCORING = tuple(row.split(" ")[1] for row, access in ROUTES.items() if access == "score")


class Live:
    """The newest record, made while somebody reads. Used from the event loop alone."""

    def __init__(self, record: Callable[[], bytes], *, max_live_streams: int) -> None:
        self.record = record
        self.max_live_streams = max_live_streams
        self.readers = 0
        self.stopping = asyncio.Event()
        self.latest = b""
        self.timer: asyncio.TimerHandle | None = None
        self.coming: asyncio.Future[None]
        """Done once the next record is there."""

    @contextlib.contextmanager
    def admit(self) -> Iterator[None]:
        """One reader more, for whom there is a record at once. Raises TooManyStreams."""
        if self.readers >= self.max_live_streams:
            raise TooManyStreams(
                f"{self.readers:,} read /live already (max_live_streams)", code="too_many_live_streams"
            )
        self.readers += 1
        try:
            if self.timer is None:
                self.coming = asyncio.get_running_loop().create_future()
                self._look()
            yield
        finally:
            self.readers -= 1

    def stop(self) -> None:
        """The server stops: every stream ends."""
        self.stopping.set()

    def _look(self) -> None:
        """Make the next record, and again in a second while there are readers: whoever is slow misses some."""
        loop = asyncio.get_running_loop()
        self.timer = loop.call_later(PERIOD_S, self._look) if self.readers else None
        self.latest = self.record()
        told, self.coming = self.coming, loop.create_future()
        told.set_result(None)


class LiveAnswer(Response):
    """Records until the caller leaves, its key is withdrawn, which a last record says, or the server stops."""

    media_type = NDJSON

    def __init__(self, live: Live) -> None:
        super().__init__()
        self.live = live

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises TooManyStreams."""
        caller, live = caller_of(scope), self.live
        with live.admit():
            headers = [(b"content-type", NDJSON.encode())]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            ending = (until_left(receive), caller.key.withdrawn.wait(), live.stopping.wait())
            ends: list[asyncio.Future[Any]] = [asyncio.ensure_future(one) for one in ending]
            try:
                while not any(end.done() for end in ends):
                    coming = live.coming
                    await send({"type": "http.response.body", "body": live.latest, "more_body": True})
                    await asyncio.wait([coming, *ends], return_when=asyncio.FIRST_COMPLETED)
            finally:
                for end in ends:
                    end.cancel()
        last = b""
        if refusal := caller.refusal:
            scope[ERROR_CODE] = refusal.code
            last = orjson.dumps(error_body(refusal.code, refusal.message, refusal.where)) + b"\n"
        await send({"type": "http.response.body", "body": last})


def live_record(
    metrics: Metrics,
    scorers: Iterable[Scorer],
    *,
    ready: bool,
    queue_depth: int,
    queue_limit: int,
    uploads_open: int,
) -> bytes:
    """A line of JSON about the models of `scorers`. Counts are from the start of the process, so that a reader who
    misses a record loses nothing."""
    metrics.settle()
    by_status = _sums(metrics.requests, "status")
    items, errors = _sums(metrics.items, *MODEL, "verdict"), _sums(metrics.rejected, *MODEL)
    series = metrics.request_seconds.series
    timed = [series[path].read()[0] for path in SCORING if path in series]
    models = []
    for scorer in scorers:
        name, version = scorer.name, scorer.version
        models.append(
            {
                "name": name,
                "version": version,
                "alpha": scorer.alpha,
                "items": {
                    "normal": items[name, version, "normal"],
                    "anomaly": items[name, version, "anomaly"],
                    "error": errors[name, version],
                },
                "p_values": {"edges": [0, *P_VALUE_EDGES], "counts": metrics.p_values.read((name, version))},
            }
        )
    record = {
        "at": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "ready": ready,
        "queue_depth": queue_depth,
        "queue_limit": queue_limit,
        "uploads_open": uploads_open,
        "requests": {
            "total": sum(by_status.values()),
            "refused": sum(number for (status,), number in by_status.items() if "400" <= status < "500"),
            "failed": sum(number for (status,), number in by_status.items() if status >= "500"),
        },
        "latency_seconds": {
            "edges": [0, *SECONDS],
            "counts": np.sum(timed, axis=0, dtype=int).tolist() if timed else [0] * (len(SECONDS) + 1),
        },
        "models": models,
    }
    return orjson.dumps(record) + b"\n"


def _sums(counter: Counter, *labels: str) -> Sums[tuple[str, ...]]:
    """The values of a counter's series, added up where they agree in `labels`."""
    sums: Sums[tuple[str, ...]] = Sums()
    for sample in next(iter(counter.collect())).samples:
        if sample.name.endswith("_total"):
            sums[tuple(sample.labels[label] for label in labels)] += int(sample.value)
    return sums
