"""What all uploads that are scored while they arrive share."""

import contextlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from service.access.keys import ApiKey
from service.errors import QuotaExceeded, TooManyStreams
from service.memory.spool import Spool
from service.queue.niceness import give_way
from service.settings import Settings

OWN_READERS = 8
"""Threads of Arrow beyond one for each upload: one that waits for its sender holds up no other."""


class Streams:
    """How many there may be, threads that read them, and room on disk."""

    def __init__(self, settings: Settings) -> None:
        self.max_streams = settings.max_streams
        self.max_streams_per_key = settings.max_streams_per_key
        self.open = 0
        self.open_of: Counter[bytes] = Counter()
        """By the digest of the key."""
        self.spool = Spool(settings.spool_dir, max_spool_bytes=settings.max_spool_bytes)
        pa.set_io_thread_count(max(pa.io_thread_count(), settings.max_streams + OWN_READERS))
        self.threads = ThreadPoolExecutor(settings.max_streams, "elbound-stream", give_way)

    @contextlib.contextmanager
    def admit(self, key: ApiKey) -> Iterator[None]:
        """One more. Raises TooManyStreams, and QuotaExceeded where the key alone has as many as it may.

        Who comes without keys is one of all: they share what there is.
        """
        if self.open >= self.max_streams:
            raise TooManyStreams(f"{self.open:,} uploads are read already; try again shortly")
        if key.digest and self.open_of[key.digest] >= self.max_streams_per_key:
            raise QuotaExceeded(
                f"{self.max_streams_per_key:,} uploads of the key {key.name!r} are read already (max_streams_per_key)",
                retry_after_s=TooManyStreams.retry_after_s,
            )
        self.open += 1
        self.open_of[key.digest] += 1
        try:
            yield
        finally:
            self.open -= 1
            self.open_of[key.digest] -= 1
            self.open_of += Counter()  # without those that have none
