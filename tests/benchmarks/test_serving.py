"""The pure parts of the serving benchmark, and its open loop against a server of a few lines; nothing is timed."""

import base64
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.serving import against
from benchmarks.serving.apps import without_metrics
from benchmarks.serving.bundles import Material
from benchmarks.serving.closed import Sent, ratio, read_wrk
from benchmarks.serving.equal import check_equal, of_ours
from benchmarks.serving.openloop import Answer, Client, Plan, Tally, percentile, request_text
from benchmarks.serving.record import Figure, Found, Record
from benchmarks.serving.run import QUICK
from service.app import Service, create_app
from service.settings import Settings

WRK = """Running 2s test @ http://127.0.0.1:8801
  Latency Distribution
     50%   15.60ms
     99%  {tail}
  7934 requests in 2.00s, 3.1MB read
{trouble}Requests/sec:   3962.10
"""


@pytest.mark.parametrize(("tail", "ms"), [("850.00us", 0.85), ("31.90ms", 31.9), ("1.20s", 1200.0), ("1.00m", 6e4)])
def test_what_wrk_says_is_read(tail: str, ms: float) -> None:
    answered, per_second, p99_ms = read_wrk(WRK.format(tail=tail, trouble=""))
    assert (answered, per_second) == (7934, 3962.1)
    assert p99_ms == pytest.approx(ms)


@pytest.mark.parametrize("trouble", ["  Non-2xx or 3xx responses: 1\n", "  Socket errors: connect 0, read 1\n"])
def test_a_round_of_wrk_with_any_failure_is_none(trouble: str) -> None:
    with pytest.raises(RuntimeError, match=trouble.strip()[:7]):
        read_wrk(WRK.format(tail="1.00ms", trouble=trouble))


def test_ratios_are_taken_round_by_round() -> None:
    assert ratio([2.0, 20.0, 6.0], [1.0, 10.0, 2.0]) == 2.0


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1.0))
def test_a_percentile_is_the_least_value_that_covers_the_share(values: list[float], share: float) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9
    assert sum(value < found for value in values) < share * len(values) + 1e-9


def test_percentiles_of_a_hundred_values() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert [percentile(values, share) for share in (0.5, 0.99, 1.0)] == [50.0, 99.0, 100.0]


@given(st.lists(st.integers(1, 120), max_size=8), st.binary(max_size=40))
def test_an_answer_is_complete_with_its_last_byte_however_it_comes(cuts: list[int], body: bytes) -> None:
    whole = b"HTTP/1.1 503 No\r\nRetry-After: 1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    places = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    answer = Answer()
    complete = [answer.feed(whole[start:stop]) for start, stop in pairwise(places)]
    assert complete == [False] * (len(complete) - 1) + [True]
    assert answer.status == 503
    assert answer.header(b"retry-after") == b"1"
    assert answer.header(b"after") is None


def test_answers_in_time_are_those_with_200_before_the_deadline() -> None:
    tally = Tally()
    tally.add(200, 0.1, 0.5, retry_after=False)
    tally.add(200, 0.6, 0.5, retry_after=False)
    tally.add(503, 0.1, 0.5, retry_after=True)
    tally.add(503, 0.1, 0.5, retry_after=False)
    assert (tally.in_time, tally.late, tally.without_retry_after) == (1, 1, 1)
    assert tally.statuses == {200: 2, 503: 2}


@contextmanager
def answering(answer: bytes, delay_s: float = 0.0) -> Iterator[int]:
    """A server that says the same to everybody; its port."""

    class Talk(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            while self.request.recv(4096):
                time.sleep(delay_s)
                self.request.sendall(answer)
                if b"close" in answer:
                    return

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Talk) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def plan(port: int, **changed: float) -> Plan:
    request = request_text("/", {}, b"body")
    return Plan(
        port, [request], **{"rate": 200, "seconds": 0.2, "connections": 4, "patience_s": 9, "deadline_s": 1} | changed
    )  # type: ignore[arg-type]


def test_the_open_loop_sends_everything_when_it_is_due() -> None:
    with answering(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok") as port:
        tally = Client(plan(port)).run()
    assert tally.offered == tally.in_time == len(tally.lateness_ms) == 40
    assert tally.statuses == {200: 40}
    assert min(tally.lateness_ms) >= 0
    assert (tally.unsent, tally.broken, tally.unanswered) == (0, 0, 0)


def test_the_open_loop_charges_a_slow_server_for_requests_that_wait_in_the_client() -> None:
    with answering(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", delay_s=0.05) as port:
        tally = Client(plan(port, connections=1)).run()
    assert tally.percentile_ms(1.0) > 900  # 20 answers a second to 200 requests a second, until the deadline
    assert tally.late + tally.unsent > 0


def test_the_open_loop_gives_up_at_once_without_patience_and_counts_refusals() -> None:
    with answering(b"HTTP/1.1 503 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", delay_s=0.05) as port:
        tally = Client(plan(port, connections=1, patience_s=0)).run()
    assert tally.unsent > 20
    assert tally.without_retry_after == tally.statuses[503] > 1  # it connected again after each
    assert tally.unsent + sum(tally.statuses.values()) + tally.broken == 40


def test_a_request_goes_over_the_wire_as_http() -> None:
    text = base64.b64decode(request_text("/score", {"a": "b"}, b"{}"))
    assert text == b"POST /score HTTP/1.1\r\nhost: 127.0.0.1\r\na: b\r\ncontent-length: 2\r\n\r\n{}"


def test_wrk_sends_the_path_the_headers_and_each_body() -> None:
    script = Sent("/score", [b'{"rows": [[1]]}', b'{"rows": [[2]]}'], {"a": "b"}).script()
    assert '\'/score\', {["a"] = "b"}' in script
    assert '[==[{"rows": [[1]]}]==],\n[==[{"rows": [[2]]}]==]' in script


def test_answers_are_the_same_to_a_tolerance_and_in_every_row() -> None:
    layouts = (
        b'{"items": [{"score": 2, "p_value": 0.5, "is_anomaly": false},'
        b'{"score": 9, "p_value": 0.1, "is_anomaly": true}]}',
        b'{"columns": {"score": [2, 9], "p_value": [0.5, 0.1], "is_anomaly": [false, true]}}',
    )
    ours, other = map(of_ours, layouts)
    np.testing.assert_array_equal(ours, [[2, 0.5, 0], [9, 0.1, 1]])
    check_equal("peer", ours, other * (1 + 1e-6))
    with pytest.raises(RuntimeError, match="the same function: 0\\.5 apart"):
        check_equal("peer", ours, other + np.array([0, 0.5, 0]))
    with pytest.raises(RuntimeError, match=r"peer answers \(1, 3\)"):
        check_equal("peer", ours, other[:1])
    with pytest.raises(RuntimeError, match="the same function"):
        check_equal("peer", ours, other * np.nan)


def test_a_figure_is_held_against_its_mark() -> None:
    assert Figure("a", 5.0, 5.0).reached
    assert not Figure("a", 4.9, 5.0).reached
    assert Figure("a", 1.1, 1.1, at_most=True, unit=" x").row("run") == ["a", "1.1 x", "at most 1.1 x", "yes", "run"]
    assert Figure("a", None, 0.5, why="no GPU here").row("run")[1:4] == [
        "not measured: no GPU here",
        "at least 0.5",
        "",
    ]


def test_a_line_that_is_measured_again_replaces_itself_and_remarks_stay(tmp_path: Path) -> None:
    titles = {"one": "First", "two": "Second", "three": "Third"}
    fresh = Record(tmp_path)
    fresh.put("one", Found([Figure("a", 1.0, 2.0)], ("x",), [["old"]], "notes"))
    assert "| old |" in fresh.render(titles, "")
    Record(tmp_path).put("two", Found([Figure("b", 1.0)]))
    Record(tmp_path).put("one", Found([Figure("a", 3.0, 2.0)], ("x",), [["new"]], "notes"))
    Record(tmp_path).put("one", Found([Figure("a", None, 2.0, why="no such server")]))
    page = Record(tmp_path).render(titles, "tried this\n")
    assert "| a | 3 | at least 2 | yes |" in page
    assert "old" not in page
    assert "| new |" in page
    assert "## Second" in page
    assert "Third" not in page
    assert page.endswith("## Remarks\n\ntried this\n")


def test_lines_whose_servers_are_not_installed_are_not_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.serving.peers.ENVIRONMENTS", tmp_path / "none")
    material = Material(tmp_path, np.zeros((64, 32)))
    for found in (against.one_row(material, QUICK), against.large(material, QUICK)):
        assert found.figures
        assert all(figure.row("")[1].endswith("is installed; `make bench-peers`") for figure in found.figures)


def test_the_switch_takes_all_metrics_off_and_nothing_else() -> None:
    with without_metrics():
        app = create_app(Settings(), [])
    metrics = app.state.elbound.metrics
    with metrics.stage("decode"):
        pass
    metrics.observe_batch(object())
    assert b'elbound_stage_duration_seconds_count{stage="decode"} 0.0' in metrics.render()
    assert layers(create_app(Settings(), [])) == ["MetricsMiddleware", *layers(app)]
    assert layers(app) == ["AccessMiddleware", "ScoreEndpoint"]


def layers(app: Service) -> list[str]:
    """The names of our own layers, the outermost first."""
    found, layer = [], app.front
    while inner := vars(layer).get("app"):
        found.append(type(layer).__name__)
        layer = inner
    return found
