"""Where versions come from: a folder of `NAME/VERSION/` bundles in which `NAME/ACTIVE` may pin one."""

import os
import re
from collections.abc import Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

from elbound.bundle.files import replace_file
from elbound.bundle.manifest import NAME_PATTERN
from elbound.bundle.regular_file import open_regular
from elbound.errors import BundleError
from service.errors import StoreReadOnly, StoreUnreadable

PIN = "ACTIVE"
MAX_PIN_BYTES = 256
MAX_FOLDERS = 10_000
"""Entries of the store, and of one name in it."""
MAX_SEEN = 2_000
"""Files of a version that are looked at for a change; a bundle has at most 1,000."""
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ")


@dataclass(frozen=True)
class Listing:
    """What the store holds of one name: its versions, newest first, and the one that is pinned."""

    versions: tuple[str, ...]
    pin: str | None = None


class Source(Protocol):
    """What a store is to the service. All calls may block; the first two raise StoreUnreadable too."""

    def names(self) -> Sequence[str]:
        """What there may be models of."""

    def listing(self, name: str) -> Listing | None:
        """One name, which may be anything that a caller sent; None where it has no version."""

    def folder(self, name: str, version: str) -> Path:
        """A local folder that holds a listed version. Raises StoreUnreadable where a later try may have it, or what
        is wrong with it for good."""

    def shape_of(self, name: str, version: str) -> Hashable:
        """What changes when the version's files do: one that was refused is tried again then."""

    def write_pin(self, name: str, version: str | None) -> None:
        """Pin a version for every replica, or none. Raises StoreReadOnly."""


class LocalStore:
    """A store in a folder. Names that begin with a dot are passed over: a bundle is copied under one, then renamed.

    A name, a version and a pin may be symbolic links to what lies in the store too; one that leads out of it would let
    whoever writes to the store have any file of the machine read.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> list[str]:
        return _folders(self.root)

    def listing(self, name: str) -> Listing | None:
        folder = self.root / name
        if not is_name(name) or (self.root.is_dir() and not folder.is_dir()):
            return None
        if not self._is_inside(folder):
            raise StoreUnreadable(f"{folder} is a link that leads out of the store", where=name)
        versions = sorted(_folders(folder), key=age, reverse=True)
        return Listing(tuple(versions), self._pin(name)) if versions else None

    def folder(self, name: str, version: str) -> Path:
        folder = self.root / name / version
        if not self._is_inside(folder):
            raise BundleError(f"{folder} is a link that leads out of the store", code="bundle_outside", where=version)
        return folder

    def shape_of(self, name: str, version: str) -> Hashable:
        """Path, size, time and number of the first files; whatever goes while this looks is not there."""
        folder = self.root / name / version
        return _shape(folder) if self._is_inside(folder) else os.path.realpath(folder)

    def write_pin(self, name: str, version: str | None) -> None:
        path = self.root / name / PIN
        try:
            if version is None:
                path.unlink(missing_ok=True)
            else:
                replace_file(path, f"{version}\n".encode())
        except OSError as error:
            raise StoreReadOnly(
                f"{path} cannot be written: {error.strerror or error}; nothing was changed. Where the store is mounted "
                "read-only, write that file at its source",
                where=name,
            ) from error

    def _pin(self, name: str) -> str | None:
        path = self.root / name / PIN
        if not self._is_inside(path):
            raise StoreUnreadable(f"{path} is a link that leads out of the store", where=name)
        real = Path(os.path.realpath(path))
        try:
            with open_regular(real.parent, real.name) as file:
                text = file.read(MAX_PIN_BYTES).decode("utf-8", "replace").strip()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreUnreadable(f"{path} cannot be read: {error.strerror or error}", where=name) from error
        return text or None

    def _is_inside(self, path: Path) -> bool:
        return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(self.root))


def is_name(text: str) -> bool:
    """Whether `text` may be a model's name or version: no path, nothing hidden, at most 100 characters."""
    return re.fullmatch(NAME_PATTERN.removesuffix("$"), text) is not None


def age(version: str) -> tuple[str, str]:
    """By what versions are ordered: the timestamp that they begin with; those without one are the oldest."""
    found = _TIMESTAMP.match(version)
    return (found[0] if found else "", version)


def _folders(root: Path) -> list[str]:
    """Folders whose names may be a model's. Raises StoreUnreadable."""
    try:
        with os.scandir(root) as found:
            entries = list(islice(found, MAX_FOLDERS + 1))
        if len(entries) > MAX_FOLDERS:
            raise StoreUnreadable(f"{root} has more than {MAX_FOLDERS:,} entries", where=root.name)
        return [one.name for one in entries if is_name(one.name) and one.is_dir()]
    except OSError as error:
        raise StoreUnreadable(f"{root} cannot be read: {error.strerror or error}", where=root.name) from error


def _shape(folder: Path) -> Hashable:
    files: list[tuple[str, int, int, int]] = []
    waiting = [str(folder)]
    while waiting and len(files) < MAX_SEEN:
        with suppress(OSError), os.scandir(waiting.pop()) as found:
            for one in islice(found, MAX_SEEN - len(files)):
                facts = one.stat(follow_symlinks=False)
                files.append((one.path, facts.st_size, facts.st_mtime_ns, facts.st_ino))
                if one.is_dir(follow_symlinks=False):
                    waiting.append(one.path)
    return tuple(sorted(files))
