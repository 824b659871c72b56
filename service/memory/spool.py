"""Room on disk for what cannot be read while it arrives, bounded over all requests."""

import errno
import io
import tempfile
import threading
from pathlib import Path

from elbound.errors import ConfigError, LimitExceeded
from service.errors import SpoolFull

COPY_BYTES = 1 << 20


class Spool:
    """Files without a name in the folder `spool_dir` (the system's own for temporary files where empty).

    All of them together hold at most `max_spool_bytes`. Nothing is left of them when the process ends, however it
    ends. Raises ConfigError where a folder is given that cannot be written.
    """

    def __init__(self, spool_dir: str, *, max_spool_bytes: int) -> None:
        self.folder = Path(spool_dir or tempfile.gettempdir())
        self.max_spool_bytes = max_spool_bytes
        self.used_bytes = 0
        self._lock = threading.Lock()
        if spool_dir:
            self._try()

    def _try(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            raise ConfigError(
                f"spool_dir must be a folder that can be written. {self.folder} cannot: {error.strerror or error}",
                where="spool_dir",
            ) from error

    def open(self) -> "SpoolFile":
        """A new, empty file. Raises SpoolFull."""
        return SpoolFile(self)

    def reserve(self, own_bytes: int, more_bytes: int) -> None:
        """Room for `more_bytes` of a file that has `own_bytes`. Raises LimitExceeded, SpoolFull."""
        with self._lock:
            if own_bytes + more_bytes > self.max_spool_bytes:
                raise LimitExceeded(
                    f"more than {self.max_spool_bytes:,} bytes to set aside on disk; send Parquet, zip and .npy in "
                    "Fortran order in several uploads, or CSV, NDJSON, Arrow or .npy in C order",
                    code="body_too_large",
                    where="body",
                )
            if self.used_bytes + more_bytes > self.max_spool_bytes:
                raise SpoolFull("other uploads fill the spool; try again shortly", where="body")
            self.used_bytes += more_bytes

    def release(self, size: int) -> None:
        with self._lock:
            self.used_bytes -= size


class SpoolFile:
    """A file without a name; what it holds counts until it is closed."""

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        self.size = 0
        try:
            self.file = tempfile.TemporaryFile(dir=spool.folder)  # noqa: SIM115
        except OSError as error:
            raise _refused(error) from error

    def write(self, data: bytes | memoryview) -> int:
        """Append; the place at which it begins. Raises LimitExceeded, SpoolFull."""
        place = self.size
        self.spool.reserve(self.size, len(data))
        self.size += len(data)
        try:
            self.file.seek(place)
            self.file.write(data)
            self.file.flush()
        except OSError as error:
            raise _refused(error) from error
        return place

    def read(self, place: int, size: int) -> bytes:
        self.file.seek(place)
        return self.file.read(size)

    def copy(self, source: io.BufferedIOBase) -> None:
        """Append all that is left of `source`, and go to the start. Raises LimitExceeded, SpoolFull."""
        while data := source.read(COPY_BYTES):
            self.write(data)
        self.file.seek(0)

    def close(self) -> None:
        try:
            self.file.close()
        except OSError:  # what could not be written is of no use to anybody
            pass
        finally:
            self.spool.release(self.size)
            self.size = 0


def _refused(error: OSError) -> SpoolFull:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    reason = "the disk is full" if full else f"it cannot be written: {error.strerror or error}"
    return SpoolFull(f"there is no room in the spool folder: {reason}", where="body")
