"""Running the application on uvicorn: one process, one socket, a graceful end."""

import ipaddress
import logging
import signal
import socket
import sys
from collections.abc import Sequence

import uvicorn

from elbound.errors import ConfigError
from service.app import create_app
from service.protocol import SPARE_CONNECTIONS, Reception
from service.settings import Settings
from service.state import State
from service.tls import tls_context

logger = logging.getLogger("elbound")

STOP_MARGIN_S = 3
"""What is not finished within `shutdown_grace_s` has been told so for this long when uvicorn cancels it."""
SWITCH_SECONDS = 0.0005
"""How long a thread that decodes or scores may keep the interpreter while a small request waits for it."""
OWN_FILES = 128
"""Open files beside the connections, generously."""


def run_server(settings: Settings, bundles: Sequence[str]) -> None:
    """Serve until SIGTERM or SIGINT; what was accepted by then is finished. Raises ElboundError."""
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(message)s")
    tls = tls_context(settings)
    app = create_app(settings, bundles)
    listener = _listen(settings)
    host, port = listener.getsockname()[:2]
    state = app.state.elbound
    assert isinstance(state, State)
    for served in state.registry.models.values():
        scorer = served.scorer
        logger.info(
            "serving %s %s on %s by %s (%s), alpha %g",
            scorer.name, scorer.version, scorer.device, scorer.engine.name, scorer.engine.reason, scorer.alpha,
        )  # fmt: skip
    if not settings.api_key and not ipaddress.ip_address(host).is_loopback:
        logger.warning("no ELBOUND_API_KEY is set: everybody who reaches %s may score", host)
    _allow_files(settings.max_connections + SPARE_CONNECTIONS + OWN_FILES)
    config = uvicorn.Config(
        app,
        http=Reception(settings, state.metrics.count_refused).protocol,  # type: ignore[arg-type]
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
    for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises them again when it has ended well
        signal.signal(number, lambda *_: None)
    logger.info("listening on %s://%s:%d", "https" if tls else "http", f"[{host}]" if ":" in host else host, port)
    uvicorn.Server(config).run(sockets=[listener])


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


def _allow_files(needed: int) -> None:
    """Raise the process's own limit on open files where it is lower; warn where it may not be."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        logger.warning("max_connections needs %d open files, and %d are allowed", needed, hard)
        needed = hard
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _loop() -> str:
    try:
        import uvloop  # noqa: F401
    except ImportError:
        logger.warning("uvloop is not installed: requests cost about a third more")
        return "asyncio"
    return "uvloop"
