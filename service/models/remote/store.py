"""A store of `NAME/VERSION/` bundles in a bucket, through fsspec; what is in it is believed by signature alone."""

import hashlib
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from elbound.bundle import check_bundle
from elbound.bundle.files import MANIFEST, MAX_MANIFEST_BYTES, read_manifest
from elbound.bundle.manifest import NAME_PATTERN
from elbound.bundle.signature import MAX_SIGNATURE_BYTES, SIGNATURE, Trust, TrustedKeys
from elbound.errors import BundleCorrupt, BundleUnavailable, ConfigError, ElboundError, MissingExtra
from service.models.remote.cache import Cache, Download

SCHEMES = ("s3", "gs", "az")
PIN = "ACTIVE"
MAX_PIN_BYTES = 256
KEPT_VERSIONS = 3
"""So many versions of a name stay in the cache; what is loaded is in memory and needs none."""
CHUNK_BYTES = 1 << 20


class RemoteStore:
    """Reads a store and never writes to it: the pin is written by whoever publishes.

    The caller's folder of a version is local, whole, signed by one of `keys`, and of that name and version.
    """

    def __init__(self, files: Any, base: str, cache: Cache, keys: TrustedKeys) -> None:
        """`files` is an fsspec file system and `base` a path in it."""
        self.files = files
        self.base = base.rstrip("/")
        self.cache = cache
        self.keys = keys
        self.place = "stores/" + hashlib.sha256(f"{files.protocol} {self.base}".encode()).hexdigest()[:16]

    @classmethod
    def open(cls, url: str, cache: Cache, keys: TrustedKeys | None) -> "RemoteStore":
        """The store at `s3://`, `gs://` or `az://`; credentials come from where each library looks for them.

        Raises ConfigError for another address and where no `keys` are trusted, MissingExtra.
        """
        if url.partition("://")[0] not in SCHEMES or "::" in url or "@" in url:
            raise ConfigError(f"{url} is no store: give s3://, gs:// or az://BUCKET/PATH", where="models")
        if keys is None:
            raise ConfigError(
                f"{url} is believed by signature alone: sign its bundles by `elbound sign BUNDLE --key KEY`, and serve "
                "with --require-signature --trusted-keys FILE",
                where="require_signature",
            )
        import fsspec

        try:
            files, base = fsspec.core.url_to_fs(url)
        except ImportError as error:
            raise MissingExtra(f"{url} needs more: pip install 'elbound[remote]' ({error})", where=url) from error
        except Exception as error:  # each client library has its own
            raise BundleUnavailable(f"{url} cannot be opened: {error}", where=url) from error
        return cls(files, base, cache, keys)

    def names(self) -> list[str]:
        """The names of models, sorted. Raises BundleUnavailable, here and below, where the store does not answer."""
        return self._folders(self.base)

    def versions(self, name: str) -> list[str]:
        """The versions of a model, sorted, half-written ones and bad ones among them."""
        return self._folders(f"{self.base}/{_plain(name)}")

    def pin(self, name: str) -> str | None:
        """The version that `NAME/ACTIVE` names, or None. Raises BundleCorrupt where it holds no name."""
        path = f"{self.base}/{_plain(name)}/{PIN}"
        with self._told(path):
            try:
                with self.files.open(path, "rb") as file:
                    text = bytes(file.read(MAX_PIN_BYTES + 1)).decode(errors="replace").strip()
            except FileNotFoundError:
                return None
        if not re.fullmatch(NAME_PATTERN, text):
            raise BundleCorrupt(f"{path} does not hold the name of a version", where=path)
        return text

    def folder(self, name: str, version: str) -> Path:
        """The local folder of a version, fetched unless it was; checked as it was signed, either way.

        Raises BundleUnavailable, BundleUntrusted, BundleCorrupt.
        """
        source = f"{self.base}/{_plain(name)}/{_plain(version)}"
        trust = Trust(self.keys, name, version)
        folder = self.cache.get(
            f"{self.place}/{name}/{version}",
            source,
            check=lambda folder: check_bundle(folder, trust),
            fetch=lambda folder, download: self._fetch(source, folder, trust, download),
        )
        _forget_old(folder)
        return folder

    def _fetch(self, source: str, folder: Path, trust: Trust, download: Download) -> None:
        """The manifest, who signed it, and then the files that it names, none of them larger than it says."""
        self._copy(source, MANIFEST, folder, download, limit=MAX_MANIFEST_BYTES)
        self._copy(source, SIGNATURE, folder, download, limit=MAX_SIGNATURE_BYTES, needed=False)
        manifest = read_manifest(folder, trust)
        total = sum(record.size for record in manifest.files.values())
        if total > download.max_bytes:
            raise BundleCorrupt(f"{source} has {total:,} bytes; at most {download.max_bytes:,} are taken", where=source)
        for name, record in manifest.files.items():
            self._copy(source, name, folder, download, limit=record.size)

    def _copy(
        self, source: str, name: str, folder: Path, download: Download, *, limit: int, needed: bool = True
    ) -> None:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with self._told(f"{source}/{name}"):
            try:
                opened = self.files.open(f"{source}/{name}", "rb")
            except FileNotFoundError:
                if needed:
                    raise
                return
            with opened as file, target.open("xb") as sink:
                download.copy(lambda: file.read(CHUNK_BYTES), sink, limit=limit, what=f"{source}/{name}")

    def _folders(self, path: str) -> list[str]:
        with self._told(path):
            self.files.invalidate_cache()
            found = self.files.ls(path, detail=True)
        names = (entry["name"].rstrip("/").rpartition("/")[2] for entry in found if entry["type"] == "directory")
        return sorted(name for name in names if re.fullmatch(NAME_PATTERN, name))

    @contextmanager
    def _told(self, path: str) -> Iterator[None]:
        try:
            yield
        except ElboundError:
            raise
        except FileNotFoundError as error:
            raise BundleUnavailable(f"{path} is not there", where=path) from error
        except Exception as error:  # each client library has its own
            raise BundleUnavailable(f"{path} cannot be read: {error}", where=path) from error


def _plain(name: str) -> str:
    if not re.fullmatch(NAME_PATTERN, name):
        raise BundleUnavailable(f"{name[:100]!r} is no name of a model or a version", where="models")
    return name


def _forget_old(folder: Path) -> None:
    """Leave the versions beside `folder` that were used last, and it."""
    used = {}
    for one in folder.parent.glob("[!.]*"):
        with suppress(OSError):  # another process was first
            used[one] = one.stat().st_mtime
    for old in sorted(used, key=lambda one: used[one])[:-KEPT_VERSIONS]:
        if old != folder:
            shutil.rmtree(old, ignore_errors=True)
