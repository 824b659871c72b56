"""Reading a file that somebody else may have put there: a regular file, never a link, and never a wait."""

import os
import stat
from io import BufferedReader
from pathlib import Path, PurePosixPath

FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
"""Opening a FIFO would wait for a writer; a link that takes a file's place at the last moment is not followed."""


class NotRegular(OSError):
    """Something else than a regular file lies there, or more than was allowed; `strerror` says what."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.strerror = reason


def open_regular(folder: Path, name: str) -> BufferedReader:
    """Open the file `name`, a relative path, below `folder`, which may itself be reached over links.

    Raises NotRegular for a link anywhere in `name`, a folder, a FIFO, a socket and a device; other OSErrors as `open`.
    """
    path = folder
    for part in PurePosixPath(name).parts:
        path = path / part
        if path.is_symlink():
            raise NotRegular(f"{part} is a symbolic link; put the file itself there")
    handle = os.open(path, FLAGS)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise NotRegular("it is not a regular file")
    return os.fdopen(handle, "rb")


def read_regular(folder: Path, name: str, *, max_bytes: int) -> bytes:
    """All bytes of that file. Raises as `open_regular`, and NotRegular where it has more than `max_bytes`."""
    with open_regular(folder, name) as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise NotRegular(f"it has more than {max_bytes:,} bytes")
    return data
