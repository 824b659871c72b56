"""What all uploads that are scored while they arrive share."""

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from service.errors import TooManyStreams
from service.priority import give_way
from service.settings import Settings
from service.streaming.spool import Spool

OWN_READERS = 8
"""Threads of Arrow beyond one for each upload: one that waits for its sender holds up no other."""


class Streams:
    """How many there may be, threads that read them, and room on disk."""

    def __init__(self, settings: Settings) -> None:
        self.max_streams = settings.max_streams
        self.open = 0
        self.spool = Spool(settings.spool_dir, max_spool_bytes=settings.max_spool_bytes)
        pa.set_io_thread_count(max(pa.io_thread_count(), settings.max_streams + OWN_READERS))
        self.threads = ThreadPoolExecutor(settings.max_streams, "elbound-stream", give_way)

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
