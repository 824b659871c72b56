"""A single bundle as `https://HOST/FILE.zip@sha256:HEX`: the hash that the operator gave is what is trusted."""

import hashlib
import re
import ssl
import urllib.error
import urllib.request
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from elbound import __version__
from elbound.bundle import check_bundle
from elbound.bundle.archive import unpack_bundle
from elbound.errors import BundleCorrupt, BundleUnavailable, ConfigError
from service.models.remote.cache import Cache, Download

SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")
PINNED = re.compile(r"(?P<url>https://\S+)@sha256:(?P<sha256>[0-9a-f]{64})")
SILENCE_S = 30
"""How long the other side may say nothing."""
CHUNK_BYTES = 1 << 20


def is_local(bundle: str) -> bool:
    """Whether `bundle` is a path and no address."""
    return SCHEME.match(bundle) is None


def fetch_pinned(bundle: str, cache: Cache) -> Path:
    """The local folder of `bundle`, downloaded unless it was.

    Raises ConfigError for any other form of address, BundleUnavailable, BundleCorrupt.
    """
    found = PINNED.fullmatch(bundle)
    if found is None:
        raise ConfigError(
            f"{_shown(bundle)} is no bundle: give a folder, or https://HOST/FILE.zip@sha256:HEX with the 64 digits "
            "that `elbound pack` prints",
            where="bundles",
        )
    url, sha256 = found["url"], found["sha256"]

    def fetch(folder: Path, download: Download) -> None:
        archive = folder / ".archive.zip"
        _download(url, archive, sha256, download)
        unpack_bundle(archive, folder, max_bytes=download.max_bytes, check=download.check)
        archive.unlink()

    return cache.get(f"archives/{sha256}", _shown(url), check=check_bundle, fetch=fetch)


def _download(url: str, archive: Path, sha256: str, download: Download) -> None:
    request = urllib.request.Request(
        url, headers={"User-Agent": f"elbound/{__version__}", "Accept-Encoding": "identity"}
    )
    opener = urllib.request.build_opener(_OnlyHttps, urllib.request.HTTPSHandler(context=ssl.create_default_context()))
    source = download.source
    try:
        with opener.open(request, timeout=SILENCE_S) as answer, archive.open("xb") as sink:
            announced = answer.headers.get("Content-Length", "")
            if announced.isdigit() and int(announced) > download.max_bytes:
                raise BundleCorrupt(
                    f"{source} has {announced} bytes; at most {download.max_bytes:,} are taken", where=source
                )
            size = download.copy(lambda: answer.read1(CHUNK_BYTES), sink, limit=download.max_bytes, what=source)
    except urllib.error.HTTPError as error:
        error.close()
        raise BundleUnavailable(f"{source} was answered with {error.code} {error.reason}", where=source) from error
    except (urllib.error.URLError, HTTPException, OSError) as error:
        reason = getattr(error, "reason", None) or error
        raise BundleUnavailable(f"{source} could not be fetched: {reason}", where=source) from error
    if announced.isdigit() and size != int(announced):
        raise BundleUnavailable(
            f"{source} ended after {size:,} of {int(announced):,} bytes", code="download_cut", where=source
        )
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise BundleCorrupt(f"{source} is not what was asked for: its SHA-256 is {found}", where=source)


class _OnlyHttps(urllib.request.HTTPRedirectHandler):
    """Follows no redirect to anything but https."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        if urlsplit(newurl).scheme != "https":
            raise urllib.error.HTTPError(req.full_url, code, "to an address that is not https", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _shown(address: str) -> str:
    """The address without its query, which may be a signed permission, and without a name and password."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
