"""Bounds on what stands around a body: httptools takes a request line, headers and trailers of any length."""

from abc import abstractmethod
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from elbound.errors import ElboundError
from service.errors import (
    HeadersTooLarge,
    MalformedRequest,
    TooManyPipelined,
    TransferCodingUnsupported,
    UrlTooLong,
)
from service.settings import Settings

MAX_PIPELINED = 8
"""So many requests of one connection may wait behind the one that is being answered."""
UPGRADE_HEADERS = (b"upgrade", b"connection")
VERSIONS = ("1.0", "1.1")


class BoundedProtocol(HttpToolsProtocol):
    """Where in a message the parser is, and how much of it came; what passes a bound is refused.

    An `Upgrade` is ignored, as RFC 9110, 7.8 allows: the request is answered as HTTP/1.1, and its body is read as
    its headers frame it. httptools takes such a request to have no body, so its headers are parsed once more without
    the upgrade, by a new parser that goes on with what follows. Without this the body would be the next request.

    Complete headers are measured when all are there; before, and in trailers, every read is counted that brings none
    of a body. So httptools holds at most `max_header_bytes` and two reads of at most 256 kB.
    """

    def __init__(self, settings: Settings, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.settings = settings
        self.messages = 0
        self.in_headers = False
        self.in_body = False
        self.read_bytes = 0
        self.began_in_read = False
        self.header_bytes = 0
        self.header_names: list[bytes] = []
        """Of the newest request whose headers are complete."""
        self.body_bytes = 0
        self.refusal: ElboundError | None = None
        self.upgrading = False

    @abstractmethod
    def refuse(self, error: ElboundError) -> None:
        """Answer `error` in the place of the newest request, after those before it, and end the connection."""

    @abstractmethod
    def on_request(self) -> None:
        """Called when the headers of a request are complete and `cycle` is its own, before its body comes."""

    @abstractmethod
    def on_request_complete(self) -> None:
        """Called when a request is complete, before the application is told so."""

    def data_received(self, data: bytes) -> None:
        messages, in_headers, body_bytes = self.messages, self.in_headers, self.body_bytes
        self.read_bytes, self.began_in_read = len(data), False
        try:
            self._parse(data)
        except httptools.HttpParserCallbackError:
            self.refuse(self.refusal or MalformedRequest("the target cannot be read", where="url"))
            return
        except httptools.HttpParserError as error:
            self.refuse(self.refusal or MalformedRequest(f"the request is not HTTP/1.1: {error}"))
            return
        if messages != self.messages or in_headers != self.in_headers or body_bytes != self.body_bytes:
            self.header_bytes = 0
        else:
            self.header_bytes += len(data)
            if self.header_bytes > self.settings.max_header_bytes:
                self.refuse(self._too_large())

    def _parse(self, data: bytes) -> None:
        rest: bytes | memoryview = data
        while True:
            try:
                self.parser.feed_data(rest)
            except httptools.HttpParserUpgrade as upgrade:
                rest = memoryview(rest)[upgrade.args[0] :]
                self._parse_without_upgrade()
            else:
                return

    def _parse_without_upgrade(self) -> None:
        """Parse the headers that asked for an upgrade again, without it; the new parser waits for what follows."""
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        if method == b"CONNECT":
            raise httptools.HttpParserError("CONNECT is not taken")
        kept = [(name, value) for name, value in self.headers if name not in UPGRADE_HEADERS]
        options = b",".join(value for name, value in self.headers if name == b"connection").split(b",")
        options = [option.strip() for option in options if option.strip().lower() != b"upgrade"]
        kept += [(b"connection", option) for option in options if option]
        lines = [
            b"%b %b HTTP/%b\r\n" % (method, self.url, version),
            *(b"%b: %b\r\n" % header for header in kept),
            b"\r\n",
        ]
        head = b"".join(lines)
        self.upgrading = False
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's own
        self.read_bytes = len(head)
        self.parser.feed_data(head)

    # Callbacks of the parser
    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.messages += 1
        self.began_in_read = self.in_headers = True
        self.header_bytes = self.body_bytes = 0

    def on_headers_complete(self) -> None:
        """Check the headers, then start the request. Raises what `_check_headers` raises."""
        if self.parser.should_upgrade():
            self.upgrading = True
            return
        try:
            self._check_headers()
        except ElboundError as refusal:
            self.refusal = refusal
            raise  # which ends `feed_data` with an error of httptools' own
        super().on_headers_complete()
        self.in_headers = False
        self.in_body = True
        self.headers = []  # of trailers: they may not change what was decided on the headers
        self.on_request()

    def on_body(self, body: bytes) -> None:
        self.body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.upgrading:
            return
        self.in_body = False
        self.on_request_complete()
        super().on_message_complete()

    def _check_headers(self) -> None:
        """Raises TooManyPipelined, UrlTooLong, HeadersTooLarge, MalformedRequest, TransferCodingUnsupported."""
        if len(self.pipeline) >= MAX_PIPELINED:
            raise TooManyPipelined(
                f"at most {MAX_PIPELINED} requests of a connection may wait; send the next ones after their answers"
            )
        settings = self.settings
        size = self.read_bytes
        if not self.began_in_read or size > settings.max_header_bytes:  # most often one read holds it all
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if (
            len(self.url) > settings.max_url_bytes
            or len(self.headers) > settings.max_headers
            or size > settings.max_header_bytes
        ):
            raise self._too_large()
        self._check_framing()

    def _check_framing(self) -> None:
        """Refuse what a proxy in front may understand in another way: it could see other requests than we do.

        httptools refuses a wrong or doubled Content-Length, Transfer-Encoding beside it, folded headers, bare CR or LF
        and spaces before a colon. It takes what is refused here. Raises MalformedRequest, TransferCodingUnsupported.
        """
        version = self.parser.get_http_version()
        names = self.header_names = [name for name, _ in self.headers]
        hosts = names.count(b"host")
        if version not in VERSIONS:
            raise MalformedRequest(f"HTTP/{version} is not taken, HTTP/1.1 is", where="version")
        if hosts != 1 and (hosts or version == "1.1"):
            raise MalformedRequest(f"a request has one Host header. Got {hosts} instead", where="host")
        if b"transfer-encoding" not in names:
            return
        if version == "1.0":
            raise MalformedRequest("HTTP/1.0 has no Transfer-Encoding", where="transfer-encoding")
        codings = [value.lower() for name, value in self.headers if name == b"transfer-encoding"]
        if codings != [b"chunked"]:
            raise TransferCodingUnsupported(
                "Transfer-Encoding must be chunked and nothing else; for a compressed body use Content-Encoding",
                where="transfer-encoding",
            )

    def _too_large(self) -> UrlTooLong | HeadersTooLarge:
        settings = self.settings
        if len(self.url) > settings.max_url_bytes:
            return UrlTooLong(f"the target is longer than {settings.max_url_bytes:,} bytes", where="url")
        return HeadersTooLarge(
            f"at most {settings.max_headers} headers and {settings.max_header_bytes:,} bytes of them are taken",
            where="headers",
        )
