"""New keys: made here, shown once, kept as a digest."""

import contextlib
import hashlib
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import orjson
from pydantic import ValidationError

from elbound.errors import ConfigError
from service.access.keys import KeyEntry, parse_keys, read_keys

PREFIX = "elb_"
KEY_BYTES = 32


def issue_key(
    path: Path, *, name: str, scopes: Sequence[str], rows_per_s: float | None, burst_rows: float | None
) -> str:
    """A new key, whose digest is appended to the file at `path`, which is made where it is not there (mode 600).

    The file is replaced as a whole, so that a server that reads it meanwhile sees the old or the new one.
    Raises ConfigError.
    """
    key = PREFIX + secrets.token_urlsafe(KEY_BYTES)
    try:
        entry = KeyEntry(
            name=name,
            sha256=hashlib.sha256(key.encode()).hexdigest(),
            scopes=list(dict.fromkeys(scopes)),  # type: ignore[arg-type]
            rows_per_s=rows_per_s,
            burst_rows=burst_rows,
        )
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise ConfigError(f"{first['loc'][0]}: {first['msg']}", where=str(first["loc"][0])) from error
    path = path.resolve()  # a link stays one
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _only_writer(path.parent):
            known = read_keys(path)[1].values() if path.exists() else []
            entries = [one.model_dump(exclude_none=True) for one in (*known, entry)]
            data = orjson.dumps({"keys": entries}, option=orjson.OPT_INDENT_2) + b"\n"
            parse_keys(data, path)  # above all: the name is not taken
            _replace(path, data)
    except OSError as error:
        raise ConfigError(f"the key file {path} cannot be written: {error.strerror or error}", where="file") from error
    return key


def _replace(path: Path, data: bytes) -> None:
    mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o600
    descriptor, beside = tempfile.mkstemp(dir=path.parent, prefix=".keys-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(beside, mode)
        os.replace(beside, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise


@contextlib.contextmanager
def _only_writer(folder: Path) -> Iterator[None]:
    """Two that add keys at once would lose one of them."""
    try:
        import fcntl
    except ImportError:  # Windows: nobody is kept out
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
