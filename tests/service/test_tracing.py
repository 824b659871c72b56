"""Spans as a collector receives them from a real server, by OTLP over HTTP."""

import gzip
import re
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from service import server

otlp = pytest.importorskip(
    "opentelemetry.proto.collector.trace.v1.trace_service_pb2", reason="the extra `otel` is not installed"
)

JSON = "application/json"
REQUEST = {"POST /score"}
STAGES = {"decode", "queue", "infer", "postprocess"}
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Collector(ThreadingHTTPServer):
    """What a server sends its spans to."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        super().__init__(("127.0.0.1", 0), Receiver)

    def trace(self, trace_id: str, names: set[str]) -> list[Any]:
        """The spans of a trace, by their start, once those of `names` are there."""
        end = time.monotonic() + 20
        while time.monotonic() < end:
            found = [span for span in list(self.spans) if span.trace_id.hex() == trace_id]
            if names <= {span.name for span in found}:
                return sorted(found, key=lambda span: span.start_time_unix_nano)
            time.sleep(0.02)
        raise AssertionError([(span.name, span.trace_id.hex()) for span in self.spans])


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        request = otlp.ExportTraceServiceRequest.FromString(body)
        for resource in request.resource_spans:
            names = {one.key: one.value.string_value for one in resource.resource.attributes}
            assert names["service.name"] == "elbound"
            self.server.spans += [span for scope in resource.scope_spans for span in scope.spans]  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def traced(start, numeric_bundle: Path) -> Iterator[tuple[Any, Collector]]:
    """A server that sends its spans to a collector, and that collector."""
    with Collector() as collector, pytest.MonkeyPatch.context() as patch:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server_port}")
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        traced_server = start(numeric_bundle)
        yield traced_server, collector
        traced_server.stop()
        collector.shutdown()


def post(traced: tuple[Any, Collector], trace_id: str, body: bytes, names: set[str], **headers: str) -> list[Any]:
    traced_server, collector = traced
    parent = f"00-{trace_id}-{PARENT}-01"
    traced_server.client.post("/score", content=body, headers={"content-type": JSON, "traceparent": parent, **headers})
    return collector.trace(trace_id, names)


def facts(span: Any) -> dict[str, Any]:
    return {one.key: one.value.string_value or one.value.int_value for one in span.attributes}


def test_a_small_request_is_a_span_below_its_caller_s_with_its_stages(traced) -> None:
    spans = {span.name: span for span in post(traced, TRACE, b"[[1, 2, 3]]", REQUEST | STAGES)}
    assert spans.keys() == REQUEST | STAGES
    request = spans["POST /score"]
    assert request.parent_span_id.hex() == PARENT
    assert facts(request) == {"http.request.method": "POST", "http.route": "/score", "http.response.status_code": 200}
    assert facts(spans["infer"]) == {"elbound.batch.items": 1}
    ordered = [spans[name] for name in ("decode", "queue", "infer", "postprocess")]
    for stage, after in zip(ordered, [*ordered[1:], None], strict=True):
        assert stage.parent_span_id == request.span_id
        assert request.start_time_unix_nano - 1e6 <= stage.start_time_unix_nano <= stage.end_time_unix_nano
        assert stage.end_time_unix_nano <= request.end_time_unix_nano + 1e6
        assert after is None or stage.start_time_unix_nano <= after.start_time_unix_nano + 1e6


def test_a_refusal_is_a_span_with_its_code_and_nothing_of_the_body(traced) -> None:
    (request, *_) = post(traced, "a" * 32, b"secret", REQUEST)
    assert facts(request)["error.type"] == "json_invalid"
    assert facts(request)["http.response.status_code"] == 400
    assert not any(b"secret" in span.SerializeToString() for span in traced[1].spans)


def test_an_upload_piece_by_piece_has_spans_of_its_pieces(traced) -> None:
    headers = {"content-type": "text/csv", "accept": "text/csv"}
    body = b"a,b,c\n" + b"1,2,3\n" * 300
    spans = post(traced, "b" * 32, body, REQUEST | {"queue", "infer"}, **headers)
    (request,) = [span for span in spans if span.name in REQUEST]
    assert {span.parent_span_id for span in spans if span is not request} == {request.span_id}


def test_health_and_metrics_are_not_traced(traced) -> None:
    traced_server, collector = traced
    headers = {"traceparent": f"00-{'c' * 32}-{PARENT}-01"}
    for path in ("/healthz", "/readyz", "/metrics"):
        traced_server.client.get(path, headers=headers)
    post(traced, "d" * 32, b"[[1, 2, 3]]", REQUEST)
    assert "c" * 32 not in {span.trace_id.hex() for span in collector.spans}


def test_without_an_endpoint_or_the_extra_nothing_is_traced(monkeypatch, caplog) -> None:
    for name in server.TRACE_ENDPOINTS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(sys.modules, "service.monitoring.opentelemetry", None)  # as where the extra is missing
    assert server._tracing() is None
    assert not caplog.records
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    assert server._tracing() is None
    assert 'pip install "elbound[otel]"' in caplog.text


def test_only_one_file_needs_the_extra() -> None:
    for file in Path(server.__file__).parent.rglob("*.py"):
        needs = re.search(r"^\s*(from|import) opentelemetry", file.read_text(), re.MULTILINE)
        assert file.name == "opentelemetry.py" or not needs, file
