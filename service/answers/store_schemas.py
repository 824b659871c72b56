"""What the service answers about its store, for the OpenAPI document."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class RefusedVersion(_Answer):
    """A version of the store that is not served, and why."""

    name: str
    version: str
    code: str
    message: str


class ActiveAnswer(_Answer):
    """The version that is served, and the one that is pinned."""

    name: str
    version: str | None
    pinned: str | None


class OneVerdict(_Answer):
    is_anomaly: bool
    score: float
    p_value: float


class Disagreement(_Answer):
    """An item on which both versions differ; `index` is its place in its upload."""

    at: datetime
    index: int
    live: OneVerdict
    shadow: OneVerdict


class ShadowAnswer(_Answer):
    """Items by both verdicts since `since`; the latest disagreements; items that were passed over or failed."""

    version: str
    live_version: str
    since: datetime
    items: int
    both_normal: int
    both_anomaly: int
    only_live: int
    only_shadow: int
    waiting: int
    skipped: int
    failed: int
    disagreements: list[Disagreement]


class StoredVersion(_Answer):
    version: str
    state: Literal["active", "shadow", "refused", "there"]


class VersionChange(_Answer):
    """Since when a version was served, and why: `found` is the newest, or a pin that was written elsewhere."""

    version: str
    at: datetime
    how: Literal["started", "found", "activated", "rolled_back"]


class StoreAnswer(_Answer):
    """What the store has of a model, newest first, and what was served here."""

    versions: list[StoredVersion]
    pinned: str | None
    refused: list[RefusedVersion]
    changes: list[VersionChange]
    problem: str | None
