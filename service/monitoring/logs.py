"""Logs: text or JSON, with the id of the request; never a key, and nothing of an item.

What an unforeseen exception says may quote what it could not read. Its type and place are logged, and its words only
where `log_level` is debug.
"""

import logging
import random
import traceback
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime

import orjson

from elbound.errors import ElboundError
from service.settings import Settings

FIELDS = "elbound_fields"
"""The attribute of a log record with facts of its own."""
current_request: ContextVar[str | None] = ContextVar("current_request", default=None)
"""The id of the request that is being answered."""

logger = logging.getLogger("elbound")


class RequestLog:
    """A line for `log_requests_percent` of all requests, chosen by chance."""

    def __init__(self, log_requests_percent: int) -> None:
        self.share = log_requests_percent / 100

    def write(self, *, route: str, method: str, status: int, seconds: float, key: str | None) -> None:
        """Log a request or not; `route` is a template and `key` a name."""
        if random.random() >= self.share:
            return
        fields = {"method": method, "route": route, "status": status, "duration_ms": round(1000 * seconds, 3)}
        if key:
            fields["key"] = key
        logger.info("request %s", " ".join(f"{name}={value}" for name, value in fields.items()), extra={FIELDS: fields})


class TextFormatter(logging.Formatter):
    """A line a message, with the request's id where there is one."""

    def __init__(self, *, tell_all: bool) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")
        self.tell_all = tell_all

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - its name in logging
        request = current_request.get()
        line = super().formatMessage(record)
        return line if request is None else f"{line} [{request}]"

    def formatException(self, ei) -> str:  # type: ignore[no-untyped-def] # noqa: N802
        return describe_exception(ei[1], tell_all=self.tell_all)


class JsonFormatter(logging.Formatter):
    """An object a line: time (UTC), level, logger, message, request_id, the record's own facts, and the exception."""

    def __init__(self, *, tell_all: bool) -> None:
        super().__init__()
        self.tell_all = tell_all

    def format(self, record: logging.LogRecord) -> str:
        document: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage().strip(),
        }
        if (request := current_request.get()) is not None:
            document["request_id"] = request
        facts = getattr(record, FIELDS, None)
        if isinstance(facts, Mapping):
            document |= {"message": "request", **facts}
        if record.exc_info and record.exc_info[1] is not None:
            document["exception"] = describe_exception(record.exc_info[1], tell_all=self.tell_all)
        return orjson.dumps(document, default=str).decode()


def describe_exception(error: BaseException | None, *, tell_all: bool) -> str:
    """Where it was raised and of what type, with those behind it; what it says where that quotes nothing."""
    parts: list[str] = []
    while error is not None:
        said = f": {error}" if tell_all or isinstance(error, ElboundError) else ""
        frames = "".join(traceback.format_tb(error.__traceback__))
        parts.append(f"Traceback (most recent call last):\n{frames}{type(error).__qualname__}{said}")
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\n\n".join(reversed(parts))


def set_up_logs(settings: Settings) -> None:
    """Send every message of the process to stderr, as `log_format` and `log_level` say."""
    handler = logging.StreamHandler()
    kind = JsonFormatter if settings.log_format == "json" else TextFormatter
    handler.setFormatter(kind(tell_all=settings.log_level == "debug"))
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler])
