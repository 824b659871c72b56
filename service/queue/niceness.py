"""Whose turn it is where threads are more than cores."""

import contextlib
import os
import sys
import threading

NICE = 10
"""What large uploads take is what small requests leave, most of it."""


def give_way() -> None:
    """Let this thread run behind the event loop and whoever else has the usual priority; for good."""
    if sys.platform == "linux":  # elsewhere the priority is that of the whole process
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
