"""Freed memory back to the system: the C library keeps what large requests leave."""

import ctypes
import sys
import threading
import time
from typing import Any

C: Any = None if sys.platform == "win32" else ctypes.CDLL(None)
"""The C library, whose `mallopt` and `malloc_trim` are glibc's alone."""
M_MMAP_THRESHOLD = -3
MAPPED_BYTES = 4 << 20
"""Above what a batch of the detector takes, which is faster from memory that is there."""
TRIM_BYTES = 32 << 20
"""So much is freed before it is worth the some milliseconds that giving back takes."""
PAUSE_S = 0.1
"""What a request held is freed shortly after it says so; and nobody gives back more often than that."""


def map_large_blocks() -> None:
    """Let blocks from `MAPPED_BYTES` on come from the system and go back to it alone, where the C library can.

    glibc would raise that bound to 32 MB by itself, and then copy a body of some MB again and again while it grows.
    """
    if hasattr(C, "mallopt"):
        C.mallopt(M_MMAP_THRESHOLD, MAPPED_BYTES)


def give_back() -> None:
    """Give what is free to the system, where the C library can."""
    if hasattr(C, "malloc_trim"):
        C.malloc_trim(0)


class GivingBack:
    """Gives freed memory back in a thread of its own, once it is told of enough."""

    def __init__(self) -> None:
        self._freed_bytes = 0
        self._lock = threading.Lock()
        self._running = False

    def freed(self, size: int) -> None:
        """So many bytes are being freed."""
        with self._lock:
            self._freed_bytes += size
            if self._running or self._freed_bytes < TRIM_BYTES:
                return
            self._running = True
        threading.Thread(target=self._run, name="elbound-give-back", daemon=True).start()

    def _run(self) -> None:
        while True:
            with self._lock:
                if self._freed_bytes < TRIM_BYTES:
                    self._running = False
                    return
                self._freed_bytes = 0
            time.sleep(PAUSE_S)
            give_back()
