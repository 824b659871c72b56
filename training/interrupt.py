"""Ctrl-C as a request that is asked for between two steps."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stop_on_interrupt() -> Iterator[Callable[[], bool]]:
    """Turns the first Ctrl-C into a request to stop after the step, so that no update is left half done."""
    stopping = threading.Event()

    def ask(_: int, __: FrameType | None) -> None:
        if stopping.is_set():
            raise KeyboardInterrupt
        stopping.set()

    if threading.current_thread() is not threading.main_thread():
        yield stopping.is_set
        return
    before = signal.signal(signal.SIGINT, ask)
    try:
        yield stopping.is_set
    finally:
        signal.signal(signal.SIGINT, before)
