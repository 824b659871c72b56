"""A store in a bucket, as the service looks at every store."""

from collections.abc import Hashable
from pathlib import Path

from elbound.errors import BundleCorrupt, BundleUnavailable
from service.errors import StoreReadOnly, StoreUnreadable
from service.models.remote import RemoteStore
from service.models.store.source import Listing, age, is_name


class BucketStore:
    """Whoever publishes to the bucket writes its pins: the service reads alone.

    A version is taken for what never changes: one that was refused for its content is tried again only when somebody
    activates it, one that could not be fetched at every look.
    """

    def __init__(self, remote: RemoteStore) -> None:
        self.remote = remote

    def names(self) -> list[str]:
        try:
            return self.remote.names()
        except BundleUnavailable as error:
            raise StoreUnreadable(error.message, where="models") from error

    def listing(self, name: str) -> Listing | None:
        if not is_name(name):
            return None
        try:
            versions = sorted(self.remote.versions(name), key=age, reverse=True)
            return Listing(tuple(versions), self.remote.pin(name)) if versions else None
        except (BundleCorrupt, BundleUnavailable) as error:
            raise StoreUnreadable(error.message, where=name) from error

    def folder(self, name: str, version: str) -> Path:
        try:
            return self.remote.folder(name, version)
        except BundleUnavailable as error:
            raise StoreUnreadable(error.message, where=name) from error

    def shape_of(self, name: str, version: str) -> Hashable:
        return name, version

    def write_pin(self, name: str, version: str | None) -> None:  # noqa: ARG002
        raise StoreReadOnly(
            f"this server does not write to {self.remote.base}; write {name}/ACTIVE there, and every replica follows",
            where=name,
        )
