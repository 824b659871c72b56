"""Bundles from elsewhere: fetched into a cache, and trusted by a hash that the operator gave or by a signature."""

from pathlib import Path

from service.models.remote.cache import Cache
from service.models.remote.pinned import fetch_pinned, is_local
from service.models.remote.store import RemoteStore
from service.settings import Settings

__all__ = ["Cache", "RemoteStore", "local_folder"]


def local_folder(bundle: str, settings: Settings) -> Path:
    """The folder of a bundle as `elbound serve` is given it: a path, or `https://...@sha256:HEX`, which is fetched.

    Raises ConfigError, BundleUnavailable, BundleCorrupt.
    """
    return Path(bundle) if is_local(bundle) else fetch_pinned(bundle, Cache.of(settings))
