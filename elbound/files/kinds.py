"""What a file or an upload is by its first bytes, whatever its name says, and what to do where it is not read so."""

import codecs
import io
import re
from typing import BinaryIO

from elbound.errors import DecodeError, UnsupportedMedia

START_BYTES = 4_096
"""How much of the start says what something is."""
EXPORT = "save or export it as CSV in UTF-8 or as Parquet"
UNPACK = "unpack it first, or, for a file on disk, name it for what it is, as in data.csv{suffix}"
KINDS: tuple[tuple[bytes, str, str], ...] = (
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Excel workbook (.xls)", f"name it .xls, or {EXPORT}"),
    (b"\x1f\x8b", "a gzip", UNPACK.format(suffix=".gz") + "; over HTTP, send Content-Encoding: gzip"),
    (b"\x28\xb5\x2f\xfd", "packed with zstd", UNPACK.format(suffix=".zst")),
    (b"BZh", "packed with bzip2", UNPACK.format(suffix=".bz2")),
    (b"\xfd7zXZ\x00", "packed with xz", UNPACK.format(suffix=".xz")),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it first"),
    (b"Rar!\x1a\x07", "a RAR archive", "unpack it first"),
    (b"PAR1", "Parquet", "name it .parquet; over HTTP, send application/vnd.apache.parquet"),
    (b"ARROW1", "an Arrow file", "name it .arrow; over HTTP, send application/vnd.apache.arrow.stream"),
    (b"\x93NUMPY", "a NumPy array (.npy)", EXPORT),
    (b"SQLite format 3\x00", "an SQLite database", EXPORT),
    (b"\x89HDF\r\n\x1a\n", "HDF5", EXPORT),
    (b"%PDF-", "a PDF", EXPORT),
    (b"\x89PNG\r\n\x1a\n", "a PNG image", "name it .png; over HTTP, send image/png"),
    (b"\xff\xd8\xff", "a JPEG image", "name it .jpg; over HTTP, send image/jpeg"),
    (b"Obj\x01", "Avro", EXPORT),
    (b"ORC", "ORC", EXPORT),
)
"""The bytes at the start, what they are, and what to do."""
ZIP_START = b"PK\x03\x04"
WORKBOOK_MEMBER = re.compile(rb"xl/|\[Content_Types\]\.xml|mimetypeapplication/vnd\.oasis")
HTML = re.compile(rb"\s*<(!doctype|html|\?xml|table|head)\b", re.IGNORECASE)
JSON = re.compile(rb'\s*(\{\s*"[^"]*"\s*:|\[\s*[\[{])')
MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
"""Byte order marks of text that is no UTF-8, and Python's name of it; the longer mark comes first."""
MIN_UTF16_BYTES = 8


def check_csv(start: bytes) -> None:
    """Raise UnsupportedMedia that names what begins with `start` where that is certainly no CSV."""
    found = _binary_kind(start)
    if found is None and HTML.match(start):
        found = "HTML or XML (perhaps a web page that was saved in place of the file)", EXPORT
    if found is None and JSON.match(start):
        found = (
            "JSON",
            "a file with one object a line is named .ndjson; a list becomes that by jq -c '.[]' FILE > NEW.ndjson; "
            "over HTTP, send application/json or application/x-ndjson",
        )
    _refuse(found, "CSV")


def check_binary(start: bytes, wanted: str) -> None:
    """Raise UnsupportedMedia where what begins with `start` is of a known kind that is not `wanted`."""
    found = _binary_kind(start)
    _refuse(None if found is None or wanted in found[0] else found, wanted)


def _refuse(found: tuple[str, str] | None, wanted: str) -> None:
    if found is not None:
        raise UnsupportedMedia(f"this is {found[0]}, not {wanted}: {found[1]}")


def _binary_kind(start: bytes) -> tuple[str, str] | None:
    if start.startswith(ZIP_START):
        if WORKBOOK_MEMBER.search(start):
            return "an Excel or OpenDocument workbook (.xlsx, .ods)", f"name it .xlsx or .ods, or {EXPORT}"
        return "a zip", "unpack it first"
    for bytes_at_start, name, advice in KINDS:
        if start.startswith(bytes_at_start):
            return name, advice
    unmarked = _utf16_without_mark(start)
    if unmarked is not None:
        return (
            f"{unmarked} text without a byte order mark",
            f"save it as UTF-8, as in iconv -f {unmarked} -t UTF-8 FILE > NEW",
        )
    return None


def _utf16_without_mark(start: bytes) -> str | None:
    """UTF-16LE or UTF-16BE where nearly all bytes at odd, or at even, places are NUL and none of the others."""
    part = start[:256]
    half = len(part) // 2
    if len(part) < MIN_UTF16_BYTES or part.startswith(tuple(mark for mark, _ in MARKS)):
        return None
    even, odd = part[::2].count(0), part[1::2].count(0)
    if odd >= 0.8 * half and even == 0:
        return "UTF-16LE"
    return "UTF-16BE" if even >= 0.8 * half and odd == 0 else None


def as_utf8(source: BinaryIO, start: bytes) -> BinaryIO | None:
    """What begins with `start` as UTF-8 where it is UTF-16 or UTF-32 with a byte order mark; else None.

    `source` stands at its beginning. Reading raises DecodeError where the bytes are not what the mark says.
    """
    encoding = next((name for mark, name in MARKS if start.startswith(mark)), None)
    return None if encoding is None else io.BufferedReader(_Utf8(source, encoding))


class _Utf8(io.RawIOBase):
    """Text of another encoding as UTF-8, as it is read."""

    def __init__(self, source: BinaryIO, encoding: str) -> None:
        self._source = source
        self._encoding = encoding
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._held = b""
        self._ended = False
        self._line = 1

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._held and not self._ended:
            block = self._source.read(len(buffer))
            self._ended = not block
            try:
                self._held = self._decoder.decode(block, final=not block).encode()
            except UnicodeError as error:
                name = self._encoding.upper()
                message = (
                    f"not readable as CSV: line {self._line:,} or a later one is not {name} text, as its mark says"
                )
                raise DecodeError(message) from error
            self._line += self._held.count(b"\n")
        found, self._held = self._held[: len(buffer)], self._held[len(buffer) :]
        buffer[: len(found)] = found
        return len(found)


def not_utf8(line: int) -> str:
    """The message of a line that is not UTF-8."""
    return (
        f"line {line:,} is not UTF-8 text; it is probably Windows-1252 (Latin-1): convert the file, "
        "as in iconv -f CP1252 -t UTF-8 FILE > NEW"
    )
