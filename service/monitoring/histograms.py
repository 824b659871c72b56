"""Histograms that are filled on every request: prometheus_client's own cost more than what they measure."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType

import numpy as np
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

P_VALUE_EDGES = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
WAITING_UPLOADS = 256
WAITING_VALUES = 512


class Buckets:
    """The counts of one series, from any thread; a value on an edge lies below it."""

    __slots__ = ("counts", "edges", "lock", "total", "waiting")

    def __init__(self, edges: Sequence[float]) -> None:
        self.edges = np.array(edges)
        self.counts = np.zeros(len(edges) + 1, dtype=np.int64)
        self.total = 0.0
        self.waiting: deque[float] = deque()
        self.lock = threading.Lock()

    def observe(self, value: float) -> None:
        """Keep the value until `WAITING_VALUES` are there or somebody looks: together they cost less."""
        self.waiting.append(value)
        if len(self.waiting) >= WAITING_VALUES:
            self._count()

    def observe_all(self, values: Iterable[float]) -> None:
        self.waiting.extend(values)
        if len(self.waiting) >= WAITING_VALUES:
            self._count()

    def read(self) -> tuple[list[int], float]:
        """Counts, the last one beyond all edges, and the sum of all values."""
        self._count()
        with self.lock:
            return self.counts.tolist(), self.total

    def _count(self) -> None:
        with self.lock:  # nobody else takes from the queue, though others may add to it
            values = [self.waiting.popleft() for _ in range(len(self.waiting))]
            places = np.searchsorted(self.edges, values, side="left")
            self.counts += np.bincount(places, minlength=len(self.counts))
            self.total += sum(values)


class Histogram(Collector):
    """Series of one name, apart by one label or, without a label, a single one."""

    def __init__(self, name: str, documentation: str, *, edges: Sequence[float], label: str | None = None) -> None:
        self.name = name
        self.documentation = documentation
        self.edges = edges
        self.label = label
        self.series: dict[str, Buckets] = {} if label else {"": Buckets(edges)}

    def of(self, value: str = "") -> Buckets:
        """The series whose label has `value`, new or known."""
        return self.series.setdefault(value, Buckets(self.edges))

    def collect(self) -> Iterator[HistogramMetricFamily]:
        family = HistogramMetricFamily(self.name, self.documentation, labels=[self.label] if self.label else [])
        for value, buckets in list(self.series.items()):
            counts, total = buckets.read()
            family.add_metric([value] if self.label else [], _cumulative(self.edges, counts), total)
        yield family


class Stage:
    """The time between entering and leaving, in a histogram."""

    def __init__(self, buckets: Buckets, name: str, on_end: Callable[[str, float], None] | None) -> None:
        self.buckets = buckets
        self.name = name
        self.on_end = on_end

    def __enter__(self) -> None:
        self.started = time.perf_counter()

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        seconds = time.perf_counter() - self.started
        self.buckets.observe(seconds)
        if self.on_end is not None:
            self.on_end(self.name, seconds)


class PValues(Collector):
    """The histogram of verdict p-values by model, filled a batch at a time."""

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = labels
        self.edges = np.array(P_VALUE_EDGES)
        self.counts: dict[tuple[str, str], np.ndarray] = {}
        self.sums: dict[tuple[str, str], float] = {}
        self.waiting: dict[tuple[str, str], list[np.ndarray]] = {}

    def add(self, model: tuple[str, str], values: np.ndarray) -> None:
        """Keep a few `values` until `WAITING_UPLOADS` uploads are there or somebody looks: together they cost less."""
        waiting = self.waiting.setdefault(model, [])
        waiting.append(values.copy())
        if len(waiting) >= WAITING_UPLOADS or len(values) >= WAITING_UPLOADS:
            self._count(model)

    def read(self, model: tuple[str, str]) -> list[int]:
        """Counts, the last one beyond all edges."""
        if model in self.waiting:
            self._count(model)
        counts: list[int] = self.counts[model].tolist()
        return counts

    def remove(self, model: tuple[str, str]) -> None:
        """End the series of a model."""
        for held in (self.waiting, self.counts, self.sums):
            held.pop(model, None)

    def _count(self, model: tuple[str, str]) -> None:
        values = np.concatenate(self.waiting.pop(model))
        places = np.searchsorted(self.edges, values, side="left")
        counts = np.bincount(places, minlength=len(self.edges) + 1)
        self.counts[model] = self.counts.get(model, np.zeros(len(counts), dtype=np.int64)) + counts
        self.sums[model] = self.sums.get(model, 0.0) + float(values.sum())

    def collect(self) -> Iterator[HistogramMetricFamily]:
        for model in list(self.waiting):
            self._count(model)
        documentation = "Verdict p-values: flat while all is normal."
        family = HistogramMetricFamily("elbound_p_value", documentation, labels=self.labels)
        for model, counts in self.counts.items():
            family.add_metric(model, _cumulative(P_VALUE_EDGES, counts.tolist()), self.sums[model])
        yield family


def _cumulative(edges: Sequence[float], counts: Sequence[int]) -> list[tuple[str, float]]:
    """Prometheus counts all values up to an edge; `counts` has one more, of what lies beyond all."""
    names = [*(str(float(edge)) for edge in edges), "+Inf"]
    return list(zip(names, np.cumsum(counts, dtype=np.float64).tolist(), strict=True))
