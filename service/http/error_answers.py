"""The one table from exception class to HTTP status, and the answers that errors become."""

from collections.abc import Callable, Mapping

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from elbound import errors as library
from elbound.errors import ElboundError
from service.errors import (
    CallerLeft,
    DeadlineExceeded,
    DecoderFailed,
    DeviceFault,
    Forbidden,
    HeadersTooLarge,
    MalformedRequest,
    MemoryFull,
    ModelNotFound,
    ModelRequired,
    NoItemScored,
    NoShadow,
    NotAcceptable,
    NothingBefore,
    NotInStore,
    Overloaded,
    QuotaExceeded,
    ReportMissing,
    RequestTimeout,
    SpoolFull,
    Stopping,
    StoreMissing,
    StoreReadOnly,
    StoreUnreadable,
    TooManyConnections,
    TooManyPipelined,
    TooManyStreams,
    TransferCodingUnsupported,
    Unauthorized,
    UrlTooLong,
    VersionNotFound,
    VersionRefused,
)

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
    NotInStore: 409,
    StoreReadOnly: 409,
    StoreUnreadable: 503,
    VersionNotFound: 404,
    VersionRefused: 422,
    NothingBefore: 409,
    NoShadow: 409,
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


def json_response(document: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer whose body is `document` as JSON."""
    return Response(orjson.dumps(document), status, headers, media_type="application/json")


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
    return json_response(body, status, headers)


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


async def on_http_error(request: Request, error: Exception, *, methods_of: Callable[[str], list[str]]) -> Response:
    """Unknown routes and methods in the same shape; `methods_of` says with what a path may be asked."""
    assert isinstance(error, HTTPException)
    code = request.scope[ERROR_CODE] = HTTP_CODES.get(error.status_code, "http_error")
    body = error_body(code, str(error.detail), path=request.scope["path"])
    allowed = {"Allow": ", ".join(methods_of(request.scope["path"]))} if error.status_code == 405 else {}
    return json_response(body, error.status_code, {**(error.headers or {}), **allowed})


async def on_disconnect(request: Request, _: Exception) -> Response:
    """The body will not come: nobody reads this, it is for the metrics, and it is no fault of ours to log.

    Either the caller left, or the connection was refused for the error that stands in the scope, and has its answer.
    """
    refused = request.scope.get(REFUSED) or CallerLeft("the body ended before its announced length")
    return await on_elbound_error(request, refused)


async def on_unexpected_error(request: Request, _: Exception) -> Response:
    """A fault of ours: logged with its traceback by the server, told without it."""
    body = error_body("internal_error", "the server failed; its log has the reason", path=request.scope["path"])
    return json_response(body, 500)
