"""The folder of what was fetched: a bundle is in it whole or not at all."""

import logging
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from elbound.errors import BundleCorrupt, BundleError, BundleUnavailable, ConfigError, ElboundError
from service.settings import Settings

logger = logging.getLogger("elbound")

PARTIAL = ".partial"
WRITABLE_BY_OTHERS = 0o022


@dataclass(frozen=True)
class Download:
    """One bundle on its way: what it is called in messages, how large it may be and until when it may take."""

    source: str
    max_bytes: int
    until: float

    def check(self) -> None:
        """Raise BundleUnavailable where the time is over; to be called between two chunks."""
        if time.monotonic() > self.until:
            raise BundleUnavailable(f"{self.source} took too long to fetch", code="download_timeout", where=self.source)

    def copy(self, read: Callable[[], bytes], sink: BinaryIO, *, limit: int, what: str) -> int:
        """Write what `read` gives until it gives nothing; returns the bytes. Raises BundleCorrupt beyond `limit`."""
        size = 0
        while True:
            self.check()
            chunk = read()
            if not chunk:
                return size
            size += len(chunk)
            if size > limit:
                raise BundleCorrupt(f"{what} has more than {limit:,} bytes", where=what)
            sink.write(chunk)


class Cache:
    """Bundles below `folder`, in a subfolder that nobody else may write."""

    def __init__(self, folder: Path, *, max_bundle_bytes: int, download_timeout_s: float) -> None:
        self.folder = folder.absolute() / "bundles"
        self.max_bundle_bytes = max_bundle_bytes
        self.download_timeout_s = download_timeout_s

    @classmethod
    def of(cls, settings: Settings) -> "Cache":
        return cls(
            Path(settings.cache_dir) if settings.cache_dir else Path.home() / ".cache" / "elbound",
            max_bundle_bytes=settings.max_bundle_bytes,
            download_timeout_s=settings.download_timeout_s,
        )

    def get(
        self, place: str, source: str, *, check: Callable[[Path], object], fetch: Callable[[Path, Download], None]
    ) -> Path:
        """The folder at `place` (a relative path), fetched where it is not there or `check` refuses what is there.

        `fetch` fills an empty folder, which is renamed into place once `check` has not raised. Raises what they
        raise, with `source` in the message; BundleUnavailable after `download_timeout_s`; ConfigError for the folder.
        """
        target = self.folder / place
        self._prepare(target.parent)
        if target.exists():
            try:
                check(target)
            except BundleError as error:
                logger.warning("%s is fetched again: %s", source, error.message)
                shutil.rmtree(target, ignore_errors=True)
            else:
                with suppress(OSError):
                    os.utime(target)
                return target
        partial = target.parent / f".{target.name}.{secrets.token_hex(4)}{PARTIAL}"
        download = Download(source, self.max_bundle_bytes, time.monotonic() + self.download_timeout_s)
        try:
            partial.mkdir()
            _in_time(download, lambda: fetch(partial, download))
            check(partial)
            self._settle(partial, target)
        except BundleError as error:
            message = error.message.replace(f"{partial}/", "").replace(str(partial), "it")
            named = message if source in message else f"{source}: {message}"
            raise type(error)(named, code=error.code, where=error.where) from error
        except OSError as error:
            raise BundleUnavailable(
                f"{source} could not be kept in {self.folder}: {error.strerror or error}", where=source
            ) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return target

    def _prepare(self, parent: Path) -> None:
        """Make the folders, drop what a killed process left half. Raises ConfigError where others may write there."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            facts = self.folder.stat()
            parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"cache_dir: {self.folder} cannot be used: {error.strerror or error}", where="cache_dir"
            ) from error
        if os.name == "posix" and (facts.st_uid != os.getuid() or facts.st_mode & WRITABLE_BY_OTHERS):
            raise ConfigError(
                f"cache_dir: {self.folder} must belong to uid {os.getuid()} and be writable by nobody else",
                where="cache_dir",
            )
        stale = time.time() - 2 * self.download_timeout_s
        for left in parent.glob(f".*{PARTIAL}"):
            with suppress(OSError):
                if left.stat().st_mtime < stale:
                    shutil.rmtree(left, ignore_errors=True)

    def _settle(self, partial: Path, target: Path) -> None:
        try:
            partial.rename(target)
        except OSError:
            if not target.exists():  # else another process was first, and checked what it fetched
                raise


def _in_time(download: Download, work: Callable[[], None]) -> None:
    """Run `work` in a thread that is left alone when the time is over: no client library ends every way of hanging."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, name="download", daemon=True)
    thread.start()
    thread.join(max(0.0, download.until - time.monotonic()))
    if thread.is_alive():
        raise BundleUnavailable(
            f"{download.source} took too long to fetch", code="download_timeout", where=download.source
        )
    if raised:
        error = raised[0]
        if isinstance(error, ElboundError | OSError):
            raise error
        raise BundleUnavailable(f"{download.source} could not be fetched: {error}", where=download.source) from error
