"""A graph is first run in a process of its own, whose memory and time are limited: what is too large ends there.

As a module it is that process: the graph comes on its standard input, and what is wrong goes to its output.
"""

import contextlib
import os
import subprocess
import sys

from elbound.engines.onnx_graph import open_session
from elbound.errors import BundleError

MEMORY_BYTES = 1 << 30
"""What a trial may take beside the libraries and four times the graph."""
CPU_SECONDS, WAIT_SECONDS = 20, 120
"""An honest graph takes half a second, of which most goes by in imports."""


def try_graph(export: bytes, *, rows: int, columns: int) -> None:
    """Load a checked graph and run it on one row and on `rows` of them. Raises BundleError where that fails."""
    command = [sys.executable, "-m", "elbound.engines.onnx_trial", str(rows), str(columns)]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        done = subprocess.run(command, input=export, capture_output=True, timeout=WAIT_SECONDS, env=environ)
    except subprocess.TimeoutExpired as error:
        raise _failed(f"took more than {WAIT_SECONDS} s") from error
    except OSError as error:
        raise _failed(f"could not be started: {error.strerror or error}") from error
    if done.returncode:
        told = done.stdout.decode(errors="replace").strip()[:200]
        raise _failed(told or f"ended with {done.returncode}: more memory or more than {CPU_SECONDS} s of a core")


def _failed(how: str) -> BundleError:
    return BundleError(f"the export is not run: its trial {how}", code="export_refused", where="detector.onnx")


def _limit(size: int) -> None:
    """Bound this process from here on; where the system has no such limits, the one who waits has a clock."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        with open("/proc/self/statm", "rb") as file:
            held = int(file.read().split()[0]) * resource.getpagesize()
        most = held + MEMORY_BYTES + 4 * size
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _run(rows: int, columns: int) -> None:
    import numpy as np
    import onnxruntime  # noqa: F401 - before the limits

    export = sys.stdin.buffer.read()
    _limit(len(export))
    session = open_session(export)
    for n in (1, rows):
        session.run(None, {one.name: np.zeros((n, columns)) for one in session.get_inputs()})


if __name__ == "__main__":
    try:
        _run(int(sys.argv[1]), int(sys.argv[2]))
    except Exception as error:
        sys.stdout.write(f"failed: {(str(error).splitlines() or [type(error).__name__])[0][:160]}")
        sys.exit(1)
