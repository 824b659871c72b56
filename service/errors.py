"""The service's own errors, and the one table from exception class to HTTP status."""

from collections.abc import Mapping

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from elbound import errors as library
from elbound.errors import ElboundError
from service.access.routes import TABLE
from service.models.store import errors as store


class Overloaded(ElboundError):
    """The queue is full; try again after `retry_after_s` seconds."""

    default_code = "overloaded"
    retry_after_s = 1


class TooManyConnections(Overloaded):
    """As many connections are open as may be."""

    default_code = "too_many_connections"


class Stopping(Overloaded):
    """The server is stopping; another will answer."""

    default_code = "stopping"


class TooManyStreams(Overloaded):
    """As many uploads are read piece by piece as may be."""

    default_code = "too_many_streams"


class SpoolFull(Overloaded):
    """There is no room to set an upload aside."""

    default_code = "spool_full"


class MemoryFull(Overloaded):
    """Other requests hold all the memory that requests may hold."""

    default_code = "memory_full"


class DecoderFailed(ElboundError):
    """A process that decodes uploads could not do its work; the log has the reason."""

    default_code = "internal_error"


class NotAcceptable(ElboundError):
    """The caller accepts no form of answer that there is."""

    default_code = "not_acceptable"


class MalformedRequest(ElboundError):
    """What came is not HTTP."""

    default_code = "http_malformed"


class UrlTooLong(ElboundError):
    """The target of the request line is longer than may be."""

    default_code = "url_too_long"


class HeadersTooLarge(ElboundError):
    """More headers, or more bytes of them, than may be."""

    default_code = "headers_too_large"


class TransferCodingUnsupported(ElboundError):
    """The body is sent in a transfer coding other than chunked."""

    default_code = "transfer_coding_unsupported"


class TooManyPipelined(ElboundError):
    """More requests of one connection wait for the answers to those before them than may."""

    default_code = "too_many_pipelined"


class RequestTimeout(ElboundError):
    """The client took too long to send its request."""

    default_code = "request_timeout"


class DeadlineExceeded(ElboundError):
    """The request waited longer than its deadline."""

    default_code = "deadline_exceeded"


class CallerLeft(ElboundError):
    """The caller hung up while its items waited: nobody reads this."""

    default_code = "client_disconnected"


class DeviceFault(ElboundError):
    """The device has failed for good; the process ends, and another one may answer."""

    default_code = "device_fault"


class ModelNotFound(ElboundError):
    """No model of that name is served here."""

    default_code = "model_not_found"


class ReportMissing(ElboundError):
    """The bundle of a model has no report to show."""

    default_code = "report_missing"


class ModelRequired(ElboundError):
    """Several models are served and the request names none."""

    default_code = "model_required"


class StoreMissing(ElboundError):
    """Models can be neither loaded nor unloaded: the server has no store of them."""

    default_code = "store_missing"


class Unauthorized(ElboundError):
    """The key is missing, unknown or revoked."""

    default_code = "unauthorized"


class Forbidden(ElboundError):
    """The caller is known, and may not do this."""

    default_code = "forbidden"


class QuotaExceeded(ElboundError):
    """The key has had more rows than its quota; try again after `retry_after_s` seconds."""

    default_code = "quota_exceeded"

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message, where="authorization")
        self.retry_after_s = retry_after_s


class NoItemScored(ElboundError):
    """Not one item of the upload could be scored; `items` tells why for each."""

    default_code = "no_item_scored"

    def __init__(self, message: str, *, where: str | None, items: list[dict[str, object]]) -> None:
        super().__init__(message, where=where)
        self.items = items


STATUS: dict[type[ElboundError], int] = {
    library.ConfigError: 400,
    library.DataError: 400,
    library.SchemaError: 422,
    library.DecodeError: 400,
    library.UnsupportedMedia: 415,
    library.LimitExceeded: 413,
    library.TooFewItems: 422,
    library.DoubtfulData: 422,
    library.ItemError: 422,
    library.MissingExtra: 500,
    library.FitError: 500,
    library.BundleError: 500,
    library.BundleExists: 500,
    library.BundleCorrupt: 500,
    library.BundleUntrusted: 500,
    library.BundleUnavailable: 500,
    library.GoldenMismatch: 500,
    Overloaded: 503,
    TooManyConnections: 503,
    Stopping: 503,
    TooManyStreams: 503,
    SpoolFull: 503,
    MemoryFull: 503,
    NotAcceptable: 406,
    MalformedRequest: 400,
    UrlTooLong: 414,
    HeadersTooLarge: 431,
    TransferCodingUnsupported: 501,
    TooManyPipelined: 429,
    RequestTimeout: 408,
    DeadlineExceeded: 504,
    CallerLeft: 400,
    DeviceFault: 503,
    DecoderFailed: 500,
    ModelNotFound: 404,
    ReportMissing: 404,
    ModelRequired: 400,
    StoreMissing: 409,
    Unauthorized: 401,
    Forbidden: 403,
    QuotaExceeded: 429,
    store.NotInStore: 409,
    store.StoreReadOnly: 409,
    store.StoreUnreadable: 503,
    store.VersionNotFound: 404,
    store.VersionRefused: 422,
    store.NothingBefore: 409,
    store.NoShadow: 409,
    NoItemScored: 422,
    ElboundError: 500,
}

ERROR_CODE = "elbound.error_code"
"""Where the scope of a request holds the code of the error that it was answered with, for the metrics."""
REFUSED = "elbound.refused"
"""Where the scope of a request holds the error for which its connection was refused meanwhile."""
BREAK_OFF = "elbound.break_off"
"""Where the scope of a request has the call that ends its connection within an answer."""
HTTP_CODES = {404: "not_found", 405: "method_not_allowed"}
V2 = "/v2"
"""The root of the Open Inference Protocol's routes."""


def is_v2(path: str) -> bool:
    """Whether a request of `path` speaks the Open Inference Protocol."""
    return path == V2 or path.startswith(f"{V2}/")


def error_body(code: str, message: str, where: str | None = None, *, path: str = "") -> dict[str, object]:
    """The one error shape; that of the Open Inference Protocol for a `path` of its own."""
    if is_v2(path):
        return {"error": message}
    return {"error": {"code": code, "message": message, "where": where}}


def error_response(status: int, body: Mapping[str, object], headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(body), status, headers, media_type="application/json")


def answer_of(error: ElboundError, path: str = "") -> Response:
    """An error of the library or the service for a request of `path`, by the table; the nearest base class decides."""
    status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    body = error_body(error.code, error.message, error.where, path=path)
    headers = {}
    if isinstance(error, NoItemScored) and not is_v2(path):
        body["items"] = error.items
    if isinstance(error, Overloaded | QuotaExceeded):
        headers["retry-after"] = str(error.retry_after_s)
    if isinstance(error, Unauthorized):
        headers["www-authenticate"] = 'Bearer realm="elbound"'
    return error_response(status, body, headers)


def forget_frames(error: ElboundError) -> None:
    """Let go of what an error was raised in, once it is kept or told: those frames hold the body of the request.

    What leads back to the error makes a circle of them, which stays in memory until the collector comes by.
    """
    error.__traceback__ = error.__cause__ = error.__context__ = None


async def on_elbound_error(request: Request, error: Exception) -> Response:
    """What went wrong with a request, in the one shape."""
    assert isinstance(error, ElboundError)
    forget_frames(error)
    request.scope[ERROR_CODE] = error.code
    return answer_of(error, request.scope["path"])


async def on_http_error(request: Request, error: Exception) -> Response:
    """Unknown routes and methods in the same shape."""
    assert isinstance(error, HTTPException)
    code = request.scope[ERROR_CODE] = HTTP_CODES.get(error.status_code, "http_error")
    body = error_body(code, str(error.detail), path=request.scope["path"])
    allowed = {"Allow": ", ".join(TABLE.methods(request.scope["path"]))} if error.status_code == 405 else {}
    return error_response(error.status_code, body, {**(error.headers or {}), **allowed})


async def on_disconnect(request: Request, _: Exception) -> Response:
    """The body will not come: nobody reads this, it is for the metrics, and it is no fault of ours to log.

    Either the caller left, or the connection was refused for the error that stands in the scope, and has its answer.
    """
    refused = request.scope.get(REFUSED) or CallerLeft("the body ended before its announced length")
    return await on_elbound_error(request, refused)


async def on_unexpected_error(request: Request, _: Exception) -> Response:
    """A fault of ours: logged with its traceback by the server, told without it."""
    body = error_body("internal_error", "the server failed; its log has the reason", path=request.scope["path"])
    return error_response(500, body)
