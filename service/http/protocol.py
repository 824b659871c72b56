"""How requests are received: bounds, deadlines and visible refusals around uvicorn's HTTP protocol on httptools.

uvicorn parses, starts the application and writes its answers; here stands what it leaves open. A refusal is answered,
the sending side closed, and a bounded rest of what the client still sends read and dropped: a plain close would reset
the connection and lose the answer.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle
from uvicorn.server import ServerState

from elbound.errors import ElboundError
from service.errors import Overloaded, RequestTimeout, Stopping, TooManyConnections
from service.http.bounds import BoundedProtocol
from service.http.deadlines import BodyClock, Rate, Sweep, ticks
from service.http.error_answers import BREAK_OFF, REFUSED, answer_of
from service.http.headers import REQUEST_ID, REQUEST_ID_HEADER, new_request_id, request_id_of, with_defaults
from service.settings import Settings

SPARE_CONNECTIONS = 64
"""So many beyond `max_connections` are told why they are refused; any more are closed without a word."""
FAREWELL_S = 1
"""How long the answer to a connection that never became a request, or is stopped, is left to be read."""
UNSENT_BYTES = 128 << 10
"""So much of an answer waits in the kernel at most. It takes megabytes otherwise, and lets a client that reads slowly
look like one that reads nothing until it has taken a third of them."""


@dataclass(eq=False)
class Reception:
    """What all connections of one server share.

    `on_refused` is called with each error that no route answered, `on_stop` once when the server begins to stop, and
    `count_unsent` with the change in bytes of answers that wait for their clients.
    """

    settings: Settings
    on_refused: Callable[[ElboundError], None]
    on_stop: Callable[[], None]
    count_unsent: Callable[[int], None] = lambda _: None
    open: "set[ReceivingProtocol]" = field(default_factory=set)
    stop_tick: int | None = None

    def __post_init__(self) -> None:
        self.sweep = Sweep(lambda: self.open)

    def protocol(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> "ReceivingProtocol":
        """One connection; what uvicorn wants of a protocol class."""
        return ReceivingProtocol(self, config, server_state, app_state, _loop)


class ReceivingProtocol(BoundedProtocol):
    """One connection. It is lingering, busy with a request, within headers, or idle; `since` is that state's tick."""

    def __init__(
        self,
        reception: Reception,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        super().__init__(reception.settings, config, server_state, app_state, _loop)
        self.reception = reception
        self.sweep = reception.sweep
        self.since = self.sweep.tick
        self.written_bytes = 0
        self.unsent_bytes = 0
        """Of answers, as they were counted last."""
        self.answer_rate: Rate | None = None
        """Of what waits in the transport, while something does."""
        self.keep_alive = True
        self.body = BodyClock()
        self.running: RequestResponseCycle | None = None
        self.linger_until: int | None = None
        self.drained = 0

    # The connection
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        with contextlib.suppress(OSError, AttributeError):  # a system without this option waits as it did
            connection: socket.socket = transport.get_extra_info("socket")
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        self.flow = OrderedFlow(self, transport)
        self.reception.open.add(self)
        self.sweep.start(self.loop)
        self.cycle_transport = CycleTransport(self, transport)
        excess = len(self.reception.open) - self.settings.max_connections
        if excess > SPARE_CONNECTIONS:
            transport.abort()
        elif excess > 0:
            self.refuse(TooManyConnections(f"{self.settings.max_connections:,} connections are open already"))

    def connection_lost(self, exc: Exception | None) -> None:
        self.reception.open.discard(self)
        if self.running is not None:  # uvicorn tells the newest of pipelined requests only
            self.running.disconnected = True
            self.running.message_event.set()
        super().connection_lost(exc)
        self._count_unsent(0)

    @property
    def busy(self) -> bool:
        return self.running is not None and not self.running.response_complete

    def check(self) -> None:
        """End what takes too long; called by the sweep once a tick."""
        settings, waited = self.settings, self.sweep.tick - self.since
        self._count_unsent(self.transport.get_write_buffer_size())
        if self._answer_is_slow():
            self.transport.abort()
        elif self.linger_until is not None:
            if self.sweep.tick >= self.linger_until:
                self.transport.abort()
        elif self.busy:
            stop_tick = self.reception.stop_tick
            if stop_tick is not None and self.sweep.tick >= stop_tick:
                self.refuse(Stopping("the server stops and could not finish this request"))
            elif self.in_body and (slow := self._slow_body()):
                self.refuse(slow)
        elif self.in_headers:
            if waited >= ticks(settings.header_timeout_s):
                seconds = settings.header_timeout_s
                self.refuse(RequestTimeout(f"the headers took longer than {seconds} s", where="headers"))
        elif self.answer_rate is not None:
            self.since = self.sweep.tick  # a long answer is still under way
        elif waited >= ticks(settings.idle_timeout_s):
            if self.messages:
                self.transport.close()  # an answer to nothing could be taken for that to the next request
            else:
                self.refuse(RequestTimeout(f"nothing came in {settings.idle_timeout_s} s"))

    def _count_unsent(self, size: int) -> None:
        if size != self.unsent_bytes:
            self.reception.count_unsent(size - self.unsent_bytes)
            self.unsent_bytes = size

    def _answer_is_slow(self) -> bool:
        sent_bytes = self.written_bytes - self.transport.get_write_buffer_size()
        if sent_bytes == self.written_bytes:
            self.answer_rate = None
            return False
        self.answer_rate = self.answer_rate or Rate(sent_bytes)
        timeout_s, least = self.settings.answer_idle_timeout_s, self.settings.min_answer_bytes_per_s
        return self.answer_rate.look(sent_bytes, timeout_s=timeout_s, min_bytes_per_s=least) is not None

    def _slow_body(self) -> RequestTimeout | None:
        return self.body.check(
            self.body_bytes,
            body_idle_timeout_s=self.settings.body_idle_timeout_s,
            min_body_bytes_per_s=self.settings.min_body_bytes_per_s,
        )

    def shutdown(self) -> None:
        """Called once when the server stops: finish what is under way, within `shutdown_grace_s`."""
        if self.reception.stop_tick is None:
            self.reception.stop_tick = self.sweep.tick + ticks(self.settings.shutdown_grace_s)
            self.reception.on_stop()
        if self.linger_until is not None:
            self.linger_until = min(self.linger_until, self.sweep.tick + ticks(FAREWELL_S))
        elif self.busy:
            self.cycle.keep_alive = False
        elif self.in_headers:
            self.refuse(Stopping("the server stops"))
        else:
            self.transport.close()

    # What comes
    def data_received(self, data: bytes) -> None:
        if self.linger_until is not None:
            self.drained += len(data)
            if self.drained > self.settings.max_drain_bytes:
                self.transport.abort()
            return
        if self.refusal is not None:
            return  # it waits until the requests before it are answered
        super().data_received(data)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.since = self.sweep.tick

    def on_request(self) -> None:
        cycle, self.body = self.cycle, BodyClock()
        cycle.transport = self.cycle_transport  # type: ignore[assignment]
        cycle.message_event = self.body
        own = REQUEST_ID_HEADER in self.header_names
        request_id = request_id_of(cycle.scope["headers"]) if own else new_request_id()
        cycle.scope[REQUEST_ID] = request_id.decode()  # type: ignore[literal-required]
        cycle.default_headers = [*cycle.default_headers, (REQUEST_ID_HEADER, request_id)]
        cycle.scope[BREAK_OFF] = self._break_off  # type: ignore[literal-required]
        self.keep_alive = cycle.keep_alive
        cycle.keep_alive = False  # until all of the body is there: who answers before wants no more of it

    def on_request_complete(self) -> None:
        if not self.cycle.response_started and self.reception.stop_tick is None:
            self.cycle.keep_alive = self.keep_alive

    # What is answered
    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self.running = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """Go on with the next request; without a timer, since the sweep has the deadlines."""
        self.server_state.total_requests += 1
        self.since = self.sweep.tick
        self._count_unsent(self.transport.get_write_buffer_size())
        if self.linger_until is not None or self.transport.is_closing():
            return
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            self.flow.resume_reading()
        elif self.refusal is not None:
            self._farewell(self.refusal)
        else:
            self.flow.resume_reading()

    @property
    def reads(self) -> bool:
        """Whether more may be read: not while requests wait, or what follows them is refused already."""
        return self.linger_until is not None or (not self.pipeline and self.refusal is None)

    def refuse(self, error: ElboundError) -> None:
        """Answer `error` in the place of the newest request, after those before it, and end the connection."""
        if self.linger_until is not None or self.transport.is_closing():
            return
        if not self.busy:
            self._farewell(error)
        elif isinstance(error, Stopping) or (self.in_body and not self.pipeline):
            self._end_running(error)
        else:
            if self.in_body:
                self.pipeline.popleft()
            self.refusal = error
            self.flow.pause_reading()

    def _end_running(self, error: ElboundError) -> None:
        """Answer in the place of the application, which is told that nobody listens, and counts it."""
        assert self.running is not None
        self.pipeline.clear()
        self.running.disconnected = True
        self.running.scope[REFUSED] = error  # type: ignore[literal-required]
        self.running.message_event.set()
        if self.running.response_started:
            self.transport.abort()
        else:
            self._write(error, self.running.scope["path"], self.running.default_headers)

    def _break_off(self) -> None:
        """End the connection within an answer, so that the caller sees that it is not whole."""
        assert self.running is not None
        self.running.disconnected = True
        self.cycle_transport.close()

    def _farewell(self, error: ElboundError) -> None:
        path = self.url.decode("latin-1").partition("?")[0] if self.messages else ""
        self._write(error, path, [*self.server_state.default_headers, (REQUEST_ID_HEADER, new_request_id())])
        self.reception.on_refused(error)

    def _write(self, error: ElboundError, path: str, default_headers: list[tuple[bytes, bytes]]) -> None:
        answer = answer_of(error, path)
        headers = [*default_headers, *with_defaults(answer.raw_headers), (b"connection", b"close")]
        lines = [b"%b: %b\r\n" % header for header in headers]
        self.transport.write(b"".join([STATUS_LINE[answer.status_code], *lines, b"\r\n", bytes(answer.body)]))
        still_sends = not isinstance(error, RequestTimeout | Overloaded)
        self.linger(self.settings.drain_timeout_s if still_sends else FAREWELL_S)

    def linger(self, seconds: int) -> None:
        """Close the sending side; drop what comes, for so long and to `max_drain_bytes`, until the client closes."""
        self.linger_until = self.sweep.tick + ticks(seconds)
        if self.transport.can_write_eof():  # not under TLS, where the length of the answer has to do
            with contextlib.suppress(OSError):  # the client has gone already; asyncio's own loop says so here
                self.transport.write_eof()
        self.flow.resume_reading()


class OrderedFlow(FlowControl):
    """uvicorn resumes reading whenever an application waits for a message, however many requests wait by then."""

    def __init__(self, protocol: ReceivingProtocol, transport: asyncio.Transport) -> None:
        super().__init__(transport)
        self.protocol = protocol

    def resume_reading(self) -> None:
        if self.read_paused and self.protocol.reads:
            super().resume_reading()


class CycleTransport:
    """What uvicorn writes an answer to: it counts, and closes at once only where all of the request has come."""

    def __init__(self, protocol: ReceivingProtocol, transport: asyncio.Transport) -> None:
        self.protocol = protocol
        self.transport = transport

    def write(self, data: bytes) -> None:
        self.protocol.written_bytes += len(data)
        self.transport.write(data)

    def is_closing(self) -> bool:
        return self.protocol.linger_until is not None or self.protocol.transport.is_closing()

    def close(self) -> None:
        if self.is_closing():
            return
        if self.protocol.in_body:
            self.protocol.linger(self.protocol.settings.drain_timeout_s)
        else:
            self.protocol.transport.close()
