"""Bounds on what stands around a body: httptools takes a request line, headers and trailers of any length."""

from abc import abstractmethod
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from elbound.errors import ElboundError
from service.errors import HeadersTooLarge, MalformedRequest, UrlTooLong
from service.settings import Settings

FRAMING_FACTOR = 16
"""Bytes of chunk sizes that each byte of a body may bring; the rest counts as headers."""


class BoundedProtocol(HttpToolsProtocol):
    """Where in a message the parser is, and how much of it came; what passes a bound is refused.

    Complete headers are counted one by one. One that does not end is counted by what was read since the message
    began, but for the first read: httptools holds at most twice the bound and one read, 256 kB, of it.
    """

    def __init__(self, settings: Settings, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.settings = settings
        self.messages = 0
        self.in_headers = False
        self.in_body = False
        self.header_bytes = 0
        self.body_bytes = 0
        self.framing_bytes = 0
        self.refusal: ElboundError | None = None

    @abstractmethod
    def refuse(self, error: ElboundError) -> None:
        """Answer `error` in the place of the newest request, after those before it, and end the connection."""

    def data_received(self, data: bytes) -> None:
        messages, in_headers, body_bytes = self.messages, self.in_headers, self.body_bytes
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # answered as what it is, a request of HTTP/1.1
        except httptools.HttpParserCallbackError:
            self.refuse(self.refusal or MalformedRequest("the target cannot be read", where="url"))
            return
        except httptools.HttpParserError as error:
            self.refuse(self.refusal or MalformedRequest(f"the request is not HTTP/1.1: {error}"))
            return
        if messages != self.messages or in_headers != self.in_headers:
            return  # which part of this read belongs where is not known
        self.framing_bytes += len(data) - (self.body_bytes - body_bytes)
        if self.framing_bytes > self.settings.max_header_bytes + FRAMING_FACTOR * self.body_bytes:
            self.refuse(self._headers_too_large())

    # Callbacks of the parser
    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.messages += 1
        self.in_headers = True
        self.header_bytes = self.body_bytes = self.framing_bytes = 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self.header_bytes += len(url)
        if len(self.url) > self.settings.max_url_bytes:
            self._stop_parsing(
                UrlTooLong(f"the target is longer than {self.settings.max_url_bytes:,} bytes", where="url")
            )

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.in_headers:
            return  # a trailer: it may not change what was decided on the headers
        super().on_header(name, value)
        self.header_bytes += len(name) + len(value) + 4
        if self.header_bytes > self.settings.max_header_bytes or len(self.headers) > self.settings.max_headers:
            self._stop_parsing(self._headers_too_large())

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self.in_headers = False
        self.in_body = True
        self.framing_bytes = 0

    def on_body(self, body: bytes) -> None:
        self.body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self.in_body = False
        super().on_message_complete()

    def _headers_too_large(self) -> HeadersTooLarge:
        settings = self.settings
        return HeadersTooLarge(
            f"at most {settings.max_headers} headers and {settings.max_header_bytes:,} bytes of them are taken",
            where="headers",
        )

    def _stop_parsing(self, error: ElboundError) -> None:
        """Raise, which ends `feed_data` with an error of httptools' own."""
        self.refusal = error
        raise error
