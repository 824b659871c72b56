"""`elbound` as a process of its own, forked from one that has imported it: each start costs seconds otherwise.

What a fresh interpreter imports, and in which order, is the business of `test_dependencies.py`; the README's commands
run as they stand there.
"""

import atexit
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

LOADED = ("elbound.cli", "training.train.pipeline", "training.report.build", "training.score.command", "service.server")
ENVIRON = {**os.environ, "OMP_NUM_THREADS": "1"}
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["pytest", *LOADED])


class Forked:
    """A running command, as far as tests use `subprocess.Popen`: its output goes to files."""

    def __init__(
        self,
        *arguments: object,
        stdout: Path,
        stderr: Path | None = None,
        env: Mapping[str, str] = ENVIRON,
        cwd: Path | None = None,
    ) -> None:
        for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY"):  # the libraries read them once, when they are loaded
            os.environ.setdefault(name, {**ENVIRON, "OMP_WAIT_POLICY": "PASSIVE"}[name])
        words = [str(one) for one in arguments]
        paths = (str(stdout), None if stderr is None else str(stderr))
        self._process = _FORKS.Process(target=_run, args=(words, *paths, dict(env), str(cwd or Path.cwd())))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("elbound", timeout or 0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def run(
    *arguments: object, env: Mapping[str, str] = ENVIRON, cwd: Path | None = None, timeout: float = 120
) -> "subprocess.CompletedProcess[str]":
    """`elbound` with these arguments, to its end."""
    with tempfile.TemporaryDirectory() as folder:
        stdout, stderr = Path(folder, "stdout"), Path(folder, "stderr")
        forked = Forked(*arguments, stdout=stdout, stderr=stderr, env=env, cwd=cwd)
        try:
            code = forked.wait(timeout)
        finally:
            forked.kill()
        return subprocess.CompletedProcess(arguments, code, stdout.read_text(), stderr.read_text())


def _run(words: list[str], stdout: str, stderr: str | None, environ: dict[str, str], cwd: str) -> None:
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environ)
    for stream, path in ((1, stdout), (2, stderr)):
        target = 1 if path is None else os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(target, stream)
    sys.argv = ["elbound", *words]
    from elbound.cli import main

    try:
        main()
    finally:
        atexit._run_exitfuncs()  # a forked process of multiprocessing leaves them out
