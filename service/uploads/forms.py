"""The files of a multipart form that is held in memory. RFC 7578."""

from dataclasses import dataclass, field
from email.message import Message
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from elbound.errors import DecodeError, LimitExceeded

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_TEXT_FIELDS = 100
"""Text fields of a form are passed over."""


@dataclass(frozen=True)
class FormFile:
    """One file: its bytes, its name (that of its field where it has none) and the type that it states, or ''."""

    body: bytes
    name: str
    content_type: str


@dataclass
class _Part:
    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)

    @property
    def stated(self) -> dict[bytes, bytes]:
        """The parameters of its Content-Disposition."""
        return parse_options_header(self.headers.get("content-disposition", ""))[1]

    @property
    def file_name(self) -> str | None:
        """`filename`, or `filename*`, which RFC 7578 forbids and some clients send; None where it has neither."""
        plain = self.stated.get(b"filename")
        if plain is not None:
            return plain.decode("utf-8", "replace")
        message = Message()
        message["content-disposition"] = self.headers.get("content-disposition", "")
        return message.get_filename()

    @property
    def name(self) -> str:
        return self.file_name or self.stated.get(b"name", b"").decode("utf-8", "replace")

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "")

    @property
    def is_file(self) -> bool:
        """A part without a file name is a text field, unless it states another type than plain text."""
        kind = self.content_type.partition(";")[0].strip().lower()
        return self.file_name is not None or kind not in ("", "text/plain")


class _Parts:
    """What the parser finds, at most `max_parts`; its callbacks."""

    def __init__(self, max_parts: int) -> None:
        self.max_parts = max_parts
        self.found: list[_Part] = []
        self.ended = False
        self._name = self._value = b""

    def on_part_begin(self) -> None:
        if len(self.found) == self.max_parts:  # the parser begins one more behind the last
            raise LimitExceeded(f"a form of more than {self.max_parts:,} parts (max_files)", where="body")
        self.found.append(_Part())

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def on_header_end(self) -> None:
        self.found[-1].headers[self._name.decode("latin-1").lower()] = self._value.decode("latin-1")
        self._name = self._value = b""

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        self.found[-1].body += data[start:end]

    def on_end(self) -> None:
        self.ended = True


def form_files(body: bytes, content_type: str, *, max_files: int) -> list[FormFile]:
    """Every file of the form in `body`, in their order; text fields are passed over.

    Raises DecodeError where the form is broken, ends before its last boundary or holds no file, and LimitExceeded for
    more than `max_files` files or `MAX_TEXT_FIELDS` text fields.
    """
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise DecodeError("the form cannot be read: Content-Type has no boundary", code="form_invalid", where="body")
    parts = _Parts(max_files + MAX_TEXT_FIELDS)
    callbacks: MultipartCallbacks = {
        "on_part_begin": parts.on_part_begin,
        "on_header_field": parts.on_header_field,
        "on_header_value": parts.on_header_value,
        "on_header_end": parts.on_header_end,
        "on_part_data": parts.on_part_data,
        "on_end": parts.on_end,
    }
    try:
        MultipartParser(boundary, callbacks).write(body)
    except FormParserError as error:
        raise DecodeError(f"the form cannot be read: {error}", code="form_invalid", where="body") from error
    if not parts.ended:
        last = parts.found[-1].name if parts.found else ""
        raise DecodeError(
            f"the form is cut off in or after its part {last!r}: its last line must be the boundary and two hyphens",
            code="form_invalid",
            where=last or "body",
        )
    found = [part for part in parts.found if part.is_file]
    if len(found) > max_files:
        raise LimitExceeded(f"{len(found):,} files; at most {max_files:,} are taken (max_files)", where="body")
    if len(parts.found) - len(found) > MAX_TEXT_FIELDS:
        raise LimitExceeded(f"more than {MAX_TEXT_FIELDS} text fields in the form", where="body")
    if not found:
        raise DecodeError("the form holds no files", code="form_empty", where="body")
    return [FormFile(bytes(part.body), part.name, part.content_type) for part in found]
