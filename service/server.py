"""Running the application on uvicorn: one process, one socket, a graceful end."""

import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import uvicorn

from elbound.errors import ConfigError
from service.access.local import check_exposure
from service.app import create_app
from service.http.protocol import SPARE_CONNECTIONS, Reception
from service.http.tls import tls_context
from service.memory.freed import map_large_blocks
from service.monitoring.logs import set_up_logs
from service.settings import Settings
from service.state import State

if TYPE_CHECKING:
    from service.monitoring.opentelemetry import Tracing

logger = logging.getLogger("elbound")

STOP_MARGIN_S = 3
"""What is not finished within `shutdown_grace_s` has been told so for this long when uvicorn cancels it."""
SWITCH_SECONDS = 0.0005
"""How long a thread that decodes or scores may keep the interpreter while a small request waits for it."""
TRACE_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
OWN_FILES = 128
"""Open files beside the connections, generously."""
LEAST_CONNECTIONS = 16
"""A server that may open fewer does not start."""


def run_server(settings: Settings, bundles: Sequence[str]) -> None:
    """Serve until SIGTERM or SIGINT; what was accepted by then is finished. Raises ElboundError."""
    set_up_logs(settings)
    check_exposure(settings)
    if not bundles and not settings.models:
        raise ConfigError("nothing to serve: name bundles, or a folder of models with --models", where="bundles")
    settings = _fit_files(settings)
    tls = tls_context(settings)
    app = create_app(settings, bundles, _tracing())
    listener = _listen(settings)
    host, port = listener.getsockname()[:2]
    check_exposure(replace(settings, host=host))  # a name may lead elsewhere by now
    state = app.state.elbound
    assert isinstance(state, State)
    if settings.insecure and not settings.api_keys_file:
        logger.warning("insecure, and without keys: everybody who reaches %s may score and read", host)
    reception = Reception(settings, state.metrics.count_refused, state.live.stop, state.budget.count)
    state.metrics.watch("elbound_connections", "Connections that are open.", lambda: len(reception.open))
    config = uvicorn.Config(
        app,
        http=reception.protocol,  # type: ignore[arg-type]
        ssl_context_factory=None if tls is None else lambda *_: tls,
        ws="none",
        loop=_loop(),
        log_config=None,
        log_level=settings.log_level,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=settings.shutdown_grace_s + STOP_MARGIN_S,
    )
    sys.setswitchinterval(SWITCH_SECONDS)
    map_large_blocks()
    for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises them again when it has ended well
        signal.signal(number, lambda *_: None)
    logger.info("listening on %s://%s:%d", "https" if tls else "http", f"[{host}]" if ":" in host else host, port)
    uvicorn.Server(config).run(sockets=[listener])
    if state.store is not None and state.store.aside.is_busy:  # the end of the interpreter would wait for it
        logger.warning("stopped without waiting for the store")
        logging.shutdown()
        os._exit(0)


def _tracing() -> "Tracing | None":
    """Spans where the environment says where they go, as OpenTelemetry has it."""
    if not any(os.environ.get(name) for name in TRACE_ENDPOINTS):
        return None
    try:
        from service.monitoring.opentelemetry import Tracing
    except ImportError:
        logger.warning('%s is set, but nothing is traced: pip install "elbound[otel]"', TRACE_ENDPOINTS[0])
        return None
    return Tracing.exporting()


def _listen(settings: Settings) -> socket.socket:
    """The listening socket. Raises ConfigError that names the address."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except (OSError, OverflowError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot listen on {settings.host}:{settings.port}: {reason}", where="port") from error
    listener.listen(2048)
    return listener


def _fit_files(settings: Settings) -> Settings:
    """Raise the process's own limit on open files where it is lower; where it may not be, take fewer connections.

    Without that a server which has no file left accepts nobody, and says nothing. Raises ConfigError.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return settings
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = settings.max_connections + SPARE_CONNECTIONS + OWN_FILES
    if hard != resource.RLIM_INFINITY and hard < needed:
        fitting, needed = hard - SPARE_CONNECTIONS - OWN_FILES, hard
        if fitting < LEAST_CONNECTIONS:
            least = LEAST_CONNECTIONS + SPARE_CONNECTIONS + OWN_FILES
            raise ConfigError(
                f"the process may open {hard} files, and the server needs {least} for {LEAST_CONNECTIONS} connections: "
                "raise the limit (ulimit -n, LimitNOFILE of systemd, --ulimit nofile of docker)",
                where="max_connections",
            )
        logger.warning(
            "max_connections is %d and not %d: the process may open %d files; raise the limit (ulimit -n, LimitNOFILE "
            "of systemd, --ulimit nofile of docker) or set max_connections lower",
            fitting,
            settings.max_connections,
            hard,
        )
        settings = replace(settings, max_connections=fitting)
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    return settings


def _loop() -> str:
    try:
        import uvloop  # noqa: F401
    except ImportError:
        logger.warning("uvloop is not installed: requests cost about a third more")
        return "asyncio"
    return "uvloop"
