"""Which versions of a model were served: where a rollback leads, and what is told of it."""

import json
import logging
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from elbound.bundle.files import replace_file
from service.models.store.source import Listing, age

MAX_KEPT = 100
How = Literal["started", "found", "activated", "rolled_back"]
"""With the server; as the newest version or by a pin written elsewhere; by a request here."""

logger = logging.getLogger("elbound")


@dataclass(frozen=True)
class Change:
    """Since when a version is served, in UTC, and why."""

    version: str
    at: str
    how: How


@dataclass
class Trail:
    """`versions` leads from the first to the present one. Who returns to one forgets what came after it, so that a
    second rollback leads further back. `changes` forgets nothing but the oldest."""

    versions: list[str] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)

    def go(self, version: str, how: How) -> None:
        """`version` is served from now on."""
        if self.versions and self.versions[-1] == version:
            return
        if version in self.versions:
            del self.versions[self.versions.index(version) + 1 :]
        else:
            self.versions = [*self.versions[-MAX_KEPT + 1 :], version]
        now = datetime.now(UTC).replace(microsecond=0).isoformat()
        self.changes = [*self.changes[-MAX_KEPT + 1 :], Change(version, now, how)]

    def before(self, active: str, listing: Listing) -> str | None:
        """The version that was served before `active`; where none is known, the next older one of the store."""
        for version in reversed(self.versions):
            if version != active and version in listing.versions:
                return version
        return next((version for version in listing.versions if age(version) < age(active)), None)

    def save(self, path: Path) -> None:
        """Write beside and rename; a disk that does not take it costs the history and nothing else."""
        try:
            replace_file(path, json.dumps(asdict(self), indent=1).encode())
        except OSError as error:
            logger.warning("which versions were served cannot be kept: %s: %s", path, error.strerror or error)

    @classmethod
    def read(cls, path: Path) -> "Trail":
        """What `save` wrote; empty where that is not there or torn."""
        try:
            document = json.loads(path.read_bytes())
            changes = [Change(**one) for one in document["changes"]]
            return cls([str(version) for version in document["versions"]], changes)
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError, TypeError, KeyError) as error:
            logger.warning("which versions were served is not known any more: %s: %s", path, error)
            return cls()
