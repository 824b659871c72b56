"""The errors of the service; `service.http.error_answers` maps each to a status."""

from elbound.errors import ElboundError


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


class NotInStore(ElboundError):
    """The model is a bundle of its own and has no other versions."""

    default_code = "not_in_store"


class StoreReadOnly(ElboundError):
    """The store's pins cannot be written from here."""

    default_code = "store_read_only"


class StoreUnreadable(ElboundError):
    """The store cannot be listed now."""

    default_code = "store_unreadable"


class VersionNotFound(ElboundError):
    """The store has no such version."""

    default_code = "version_not_found"


class VersionRefused(ElboundError):
    """The version is there and cannot be served."""

    default_code = "version_refused"


class NothingBefore(ElboundError):
    """There is no version to go back to."""

    default_code = "nothing_to_roll_back_to"


class NoShadow(ElboundError):
    """The model has no shadow, or cannot have this one."""

    default_code = "no_shadow"
