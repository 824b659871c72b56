"""API keys: a file of their digests, read again when it changes, and who a request's key makes the caller."""

import asyncio
import hashlib
import hmac
import logging
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.types import Scope

from elbound.errors import ConfigError
from service.errors import Unauthorized
from service.threads import OwnThreads

UNLIMITED = math.inf


class Quota:
    """A balance that grows by `rows_per_s` to at most `burst_rows`; what a request costs may take it below zero.

    Kept as the one time, on the monotonic clock, at which the balance is zero.
    """

    def __init__(self, rows_per_s: float, burst_rows: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.zero_at = -math.inf
        self.counting = asyncio.Lock()
        """Held by the one request whose rows are not counted yet; the others come in their order."""
        self.rows_per_s = rows_per_s
        self.change(rows_per_s, burst_rows)

    def change(self, rows_per_s: float, burst_rows: float) -> None:
        """Other terms from now on; a debt stays as many rows."""
        if self.debt_s > 0:
            self.zero_at = self.clock() + self.debt_s * self.rows_per_s / rows_per_s
        self.rows_per_s = rows_per_s
        self.burst_s = 0.0 if rows_per_s == UNLIMITED else burst_rows / rows_per_s

    @property
    def limited(self) -> bool:
        """Whether rows cost anything."""
        return self.rows_per_s != UNLIMITED

    @property
    def debt_s(self) -> float:
        """Seconds until the balance is not below zero; 0 where it is not."""
        return max(0.0, self.zero_at - self.clock())

    def admit(self, rows: int) -> float:
        """Take `rows` from the balance unless it is below zero; the seconds of debt that keep them out, else 0."""
        now = self.clock()
        if self.zero_at > now:
            return self.zero_at - now
        self.zero_at = max(self.zero_at, now - self.burst_s) + rows / self.rows_per_s
        return 0.0

    def charge(self, rows: int) -> None:
        """Take `rows` from the balance, however many they are."""
        self.zero_at = max(self.zero_at, self.clock() - self.burst_s) + rows / self.rows_per_s

    def give_back(self, rows: int) -> None:
        """Return `rows` that were taken to the balance."""
        self.zero_at -= rows / self.rows_per_s


MAX_FILE_BYTES = 16 << 20
CHECK_S = 0.4
"""How often the file is looked at: with the time to read it, a revoked key is refused within a second."""

Signature = tuple[int, int, int, int]
logger = logging.getLogger("elbound")


class KeyEntry(BaseModel):
    """One key of the file; without `rows_per_s` it has no quota, and `burst_rows` is one second's by default."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    scopes: Annotated[list[Literal["score", "read", "admin"]], Field(min_length=1)]
    rows_per_s: Annotated[float, Field(ge=0.001, le=1e12)] | None = None
    burst_rows: Annotated[float, Field(ge=0, le=1e15)] | None = None

    @property
    def quota(self) -> tuple[float, float]:
        """Rows per second, and the most rows of a balance."""
        rows_per_s = self.rows_per_s or UNLIMITED
        return rows_per_s, rows_per_s if self.burst_rows is None else self.burst_rows


class KeyDocument(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    keys: list[KeyEntry]


class ApiKey:
    """A caller's rights, the same object for as long as the file has them."""

    def __init__(self, name: str, scopes: frozenset[str], quota: Quota, digest: bytes = b"") -> None:
        self.name = name
        self.scopes = scopes
        self.quota = quota
        self.digest = digest
        self.withdrawn = asyncio.Event()
        """Set once the key is revoked, or has lost a scope."""


class KeyRing:
    """The keys of a file, by their digests. Raises ConfigError where the file cannot be used at the start.

    Later a file that cannot be used changes nothing: the keys before it hold on, it is logged and `on_error` told.
    """

    def __init__(self, path: Path, on_error: Callable[[], None] = lambda: None) -> None:
        self.path = path
        self.on_error = on_error
        self.keys: dict[bytes, ApiKey] = {}
        self.signature: Signature | None = None
        self.threads = OwnThreads("keys")
        signature, entries = read_keys(path)
        self._replace(signature, entries)

    def identify(self, scope: Scope) -> ApiKey:
        """Whose key the request carries. Raises Unauthorized."""
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        kind, _, text = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
        if kind != b"Bearer" and kind.lower() != b"bearer":
            raise Unauthorized("send one key as 'Authorization: Bearer KEY'", where="authorization")
        digest = hashlib.sha256(text.strip()).digest()
        key = self.keys.get(digest)
        if key is None or not hmac.compare_digest(key.digest, digest):
            raise Unauthorized("no such key; it may have been revoked", where="authorization")
        return key

    async def watch(self, stopping: asyncio.Event) -> None:
        """Read the file again whenever it is another one, until `stopping`."""
        while not stopping.is_set():
            await self.refresh()
            try:
                await asyncio.wait_for(stopping.wait(), CHECK_S)
            except TimeoutError:
                continue

    async def refresh(self) -> None:
        """Read the file if it has changed; a broken one is told once, and tried again when it changes."""
        seen = await self.threads.run(_signature_of, self.path)
        if seen == self.signature:
            return
        try:
            signature, entries = await self.threads.run(read_keys, self.path)
        except ConfigError as error:
            self.signature = seen
            logger.error("%s; the keys read before hold on", error.message)
            self.on_error()
            return
        self._replace(signature, entries)
        logger.info("%s read again: %d keys", self.path, len(entries))

    def _replace(self, signature: Signature, entries: Mapping[bytes, KeyEntry]) -> None:
        """Take new keys; those that are still there keep their debts, and where nothing was lost their streams."""
        before, self.keys, self.signature = self.keys, {}, signature
        for digest, entry in entries.items():
            scopes = frozenset[str](entry.scopes)
            old = before.pop(digest, None)
            if old is None:
                self.keys[digest] = ApiKey(entry.name, scopes, Quota(*entry.quota), digest)
                continue
            old.quota.change(*entry.quota)
            if (old.name, old.scopes) == (entry.name, scopes):
                self.keys[digest] = old
                continue
            self.keys[digest] = ApiKey(entry.name, scopes, old.quota, digest)
            if old.scopes - scopes:
                old.withdrawn.set()
        for gone in before.values():
            gone.withdrawn.set()


def read_keys(path: Path) -> tuple[Signature, dict[bytes, KeyEntry]]:
    """What tells this file from the next, and its keys by digest. Raises ConfigError that names file and place."""
    try:
        with path.open("rb") as file:
            signature = _signed(os.fstat(file.fileno()))
            data = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        raise _unusable(path, getattr(error, "strerror", None) or str(error)) from error
    return signature, parse_keys(data, path)


def parse_keys(data: bytes, path: Path) -> dict[bytes, KeyEntry]:
    """The keys of a file's bytes by digest. Raises ConfigError, which never repeats what stands there."""
    if len(data) > MAX_FILE_BYTES:
        raise _unusable(path, f"it has more than {MAX_FILE_BYTES:,} bytes")
    try:
        document = KeyDocument.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "the document"
        raise _unusable(path, f"{place}: {first['msg']}") from error
    for field in ("name", "sha256"):
        values = [getattr(entry, field) for entry in document.keys]
        if len(set(values)) < len(values):
            raise _unusable(path, f"two keys have the same {field}")
    return {bytes.fromhex(entry.sha256): entry for entry in document.keys}


def _unusable(path: Path, reason: str) -> ConfigError:
    return ConfigError(f"the key file {path} cannot be used: {reason}", code="key_file_invalid", where="api_keys_file")


def _signature_of(path: Path) -> Signature | None:
    try:
        return _signed(path.stat())
    except (OSError, ValueError):
        return None


def _signed(status: os.stat_result) -> Signature:
    """Behind every symbolic link: a mounted secret is replaced by pointing one elsewhere."""
    return status.st_mtime_ns, status.st_size, status.st_ino, status.st_dev
