"""A bundle as one zip file, which one SHA-256 stands for."""

import hashlib
import os
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, cast

from elbound.bundle.files import MANIFEST, check_bundle
from elbound.bundle.manifest import is_plain_path
from elbound.bundle.regular_file import open_regular
from elbound.bundle.signature import SIGNATURE
from elbound.errors import BundleCorrupt, BundleError, BundleExists

FIXED_DATE = (1980, 1, 1, 0, 0, 0)
READABLE = (stat.S_IFREG | 0o644) << 16
METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
"""Others may ask for gigabytes of memory before the first byte comes out."""
ENCRYPTED = 0x1
MAX_ENTRIES = 10_000
CHUNK_BYTES = 1 << 20
UNREADABLE = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    struct.error,
    EOFError,
    LookupError,
    ValueError,
    NotImplementedError,
)
"""What zipfile lets out for damage; an empty name is an IndexError."""


def pack_bundle(path: Path, out: Path) -> str:
    """Write the zip `out` of a bundle and its signature; returns its SHA-256 in hex.

    The same bundle makes the same bytes: sorted names, one date, nothing compressed. Raises BundleExists where `out`
    is there, BundleCorrupt, and BundleError where the disk does not take it.
    """
    manifest = check_bundle(path)
    names = [MANIFEST, *((SIGNATURE,) if (path / SIGNATURE).exists() else ()), *sorted(manifest.files)]
    try:
        with out.open("xb") as file, zipfile.ZipFile(file, "w") as archive:
            for name in names:
                info = zipfile.ZipInfo(name, FIXED_DATE)
                info.external_attr = READABLE
                info.create_system = 3  # Unix, whichever wrote it
                with open_regular(path, name) as source:
                    info.file_size = os.fstat(source.fileno()).st_size  # decides at once whether the zip needs 64 bits
                    with archive.open(info, "w") as target:
                        shutil.copyfileobj(source, target, CHUNK_BYTES)
        with out.open("rb") as packed:
            return hashlib.file_digest(packed, "sha256").hexdigest()
    except FileExistsError as error:
        raise BundleExists(f"{out} exists already; choose another --out", where=str(out)) from error
    except OSError as error:
        out.unlink(missing_ok=True)
        raise BundleError(
            f"{out} could not be written: {error.strerror or error}", code="bundle_not_written", where=str(out)
        ) from error


def unpack_bundle(archive: Path, folder: Path, *, max_bytes: int, check: Callable[[], None]) -> None:
    """Write the files of a zip below `folder`, which is there and empty; `check` may raise between two chunks.

    Distrusts every entry: only plain files under plain relative names, each once, `max_bytes` in all whatever the zip
    says. Raises BundleCorrupt that names the entry.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = [entry for entry in opened.infolist() if not entry.is_dir()]
            if len(entries) > MAX_ENTRIES:
                raise BundleCorrupt(f"the archive holds more than {MAX_ENTRIES:,} files", where=archive.name)
            for entry in entries:
                _check_entry(entry)
            if len({entry.filename for entry in entries}) != len(entries):
                raise BundleCorrupt("the archive holds a name twice", where=archive.name)
            left = max_bytes
            for entry in entries:
                target = folder / entry.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                with _open(opened, entry) as source, target.open("xb") as sink:
                    left = _copy(source, sink, left, check)
                if left < 0:
                    raise BundleCorrupt(f"the archive opens to more than {max_bytes:,} bytes", where=entry.filename)
    except UNREADABLE as error:
        raise BundleCorrupt(f"the archive is not readable as a zip: {error}", where=archive.name) from error


def _open(opened: zipfile.ZipFile, entry: zipfile.ZipInfo) -> BinaryIO:
    try:
        return cast(BinaryIO, opened.open(entry))
    except OSError as error:  # a place before the file's beginning
        raise BundleCorrupt(f"{entry.filename} is not where the archive says: {error}", where=entry.filename) from error


def _check_entry(entry: zipfile.ZipInfo) -> None:
    name = entry.filename
    if not is_plain_path(name):
        raise BundleCorrupt(f"{name!r} in the archive is not a plain path", where=name)
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        raise BundleCorrupt(f"{name!r} in the archive is a link or a device", where=name)
    if entry.compress_type not in METHODS or entry.flag_bits & ENCRYPTED:
        raise BundleCorrupt(f"{name!r} in the archive is encrypted or compressed otherwise than by deflate", where=name)


def _copy(source: BinaryIO, sink: BinaryIO, left: int, check: Callable[[], None]) -> int:
    """Copy until the end or until more than `left` bytes came; returns what is left, below zero for too much."""
    while left >= 0 and (chunk := source.read(CHUNK_BYTES)):
        check()
        left -= len(chunk)
        if left >= 0:
            sink.write(chunk)
    return left
