"""What all uploads that are scored while they arrive share."""

import contextlib
import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
from torch import Tensor

from elbound.calibration.calibration import ScoredItems
from elbound.scorer import Scorer
from service.errors import TooManyStreams
from service.settings import Settings
from service.streaming.spool import Spool

OWN_READERS = 8
"""Threads of Arrow beyond one for each upload: one that waits for its sender holds up no other."""
BATCH_SECONDS = 0.008
"""What the rows of an upload may keep the device at a time, since a row of somebody else may wait for them."""
LEAST_ROWS, MOST_ROWS = 64, 65_536
FORGETTING = 1.02
"""The quickest batch counts, and less with every later one: on a busy machine most take longer than they need."""


class BulkRun:
    """Scores rows of uploads on the device, and learns how many `rows` take `BATCH_SECONDS` there."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer
        self.rows = LEAST_ROWS
        self._row_seconds = math.inf

    def __call__(self, x: Tensor) -> ScoredItems:
        started = time.perf_counter()
        scored = self.scorer.score_tensor(x)
        seconds = (time.perf_counter() - started) / len(x)
        self._row_seconds = min(seconds, FORGETTING * self._row_seconds)
        wanted = int(BATCH_SECONDS / self._row_seconds)
        self.rows = max(LEAST_ROWS, min(MOST_ROWS, 2 * self.rows, wanted))
        return scored


class Streams:
    """How many there may be, threads that read them, and room on disk."""

    def __init__(self, settings: Settings) -> None:
        self.max_streams = settings.max_streams
        self.open = 0
        self.runs: dict[str, BulkRun] = {}
        """By model."""
        self.spool = Spool(settings.spool_dir, max_spool_bytes=settings.max_spool_bytes)
        pa.set_io_thread_count(max(pa.io_thread_count(), settings.max_streams + OWN_READERS))
        self.threads = ThreadPoolExecutor(settings.max_streams, "elbound-stream")

    @contextlib.contextmanager
    def admit(self) -> Iterator[None]:
        """One more. Raises TooManyStreams."""
        if self.open >= self.max_streams:
            raise TooManyStreams(f"{self.open:,} uploads are read already; try again shortly")
        self.open += 1
        try:
            yield
        finally:
            self.open -= 1
