"""What a log line has, and what it never has."""

import io
import json
import logging

import pytest

from elbound.errors import DataError
from service.monitoring.logs import FIELDS, JsonFormatter, RequestLog, TextFormatter, current_request


def line_of(formatter: logging.Formatter, error: BaseException | None = None, **fields: object) -> str:
    sink = io.StringIO()
    handler = logging.StreamHandler(sink)
    handler.setFormatter(formatter)
    log = logging.Logger("elbound")
    log.addHandler(handler)
    log.error("it failed for %s", "a reason", exc_info=error, extra={FIELDS: fields} if fields else None)
    return sink.getvalue()


def failed(cell: str) -> BaseException:
    try:
        try:
            float(f"cell {cell}")
        except ValueError as error:
            raise RuntimeError(f"near {cell}") from error
    except RuntimeError as error:
        return error


@pytest.mark.parametrize("kind", [TextFormatter, JsonFormatter])
def test_an_unforeseen_exception_is_placed_and_not_quoted(kind: type[TextFormatter]) -> None:
    text = line_of(kind(tell_all=False), failed("31415"))
    assert "31415" not in text
    for said in ("ValueError", "RuntimeError", "test_logs.py", "in failed", "Traceback"):
        assert said in text
    assert "could not convert string to float: 'cell 31415'" in line_of(kind(tell_all=True), failed("31415"))
    assert "which column" in line_of(kind(tell_all=False), DataError("which column"))


def test_json_is_an_object_a_line() -> None:
    token = current_request.set("r-1")
    try:
        plain = json.loads(line_of(JsonFormatter(tell_all=False)))
        facts = json.loads(line_of(JsonFormatter(tell_all=False), status=200, route="/score"))
        text = line_of(TextFormatter(tell_all=False))
    finally:
        current_request.reset(token)
    assert plain.keys() == {"time", "level", "logger", "message", "request_id"}
    assert (plain["message"], plain["request_id"], plain["level"]) == ("it failed for a reason", "r-1", "error")
    assert (facts["message"], facts["status"], facts["route"]) == ("request", 200, "/score")
    assert text.endswith("ERROR it failed for a reason [r-1]\n")
    assert "request_id" not in json.loads(line_of(JsonFormatter(tell_all=False)))


def test_a_share_of_the_requests_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    counts = []
    for percent in (0, 25, 100):
        caplog.clear()
        with caplog.at_level("INFO", "elbound"):
            for _ in range(1000):
                RequestLog(percent).write(route="/score", method="POST", status=200, seconds=0.001, key=None)
        counts.append(len(caplog.records))
    assert (counts[0], counts[2]) == (0, 1000)
    assert 150 < counts[1] < 350  # seven standard deviations
