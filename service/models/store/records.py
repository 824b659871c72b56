"""What is known of the models of a store."""

from collections.abc import Hashable
from dataclasses import dataclass, field

from service.models.store.source import Listing
from service.models.store.trail import Trail

NOTHING = Listing(())


@dataclass(frozen=True)
class Refusal:
    """Why a version is not served; `shape` is what its files looked like, None where a later look may succeed."""

    code: str
    message: str
    shape: Hashable = None


@dataclass
class StoreModel:
    """One name of the store.

    `active` is the version that is served, `problem` why the folder cannot be read; `unloaded` that nothing is to be
    served of it for now.
    """

    name: str
    trail: Trail
    listing: Listing = NOTHING
    active: str | None = None
    refused: dict[str, Refusal] = field(default_factory=dict)
    problem: str | None = None
    unloaded: bool = False
