"""`manifest.json`: the frozen, versioned description of a bundle."""

import hashlib
import json
import platform
import re
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

from elbound.detector import DetectorSpec
from elbound.schema import Schema

FORMAT_VERSION = 1
MAX_FILES, MAX_SCORE_GROUPS, MAX_ITEM_GROUPS = 1_000, 64, 10_000
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class FileRecord(_Frozen):
    """`sha256` in hex and `size` in bytes of one file of the bundle."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=0)


class VerdictSpec(_Frozen):
    """The rule that makes one score of several (or the one score), its groups, the default false-alarm rate.

    With a `guarantee` the rate stays below alpha with that confidence over calibration sets, else on average.
    """

    rule: str
    groups: tuple[Annotated[tuple[str, ...], Field(max_length=MAX_SCORE_GROUPS)], ...] = Field(
        default=(), max_length=MAX_SCORE_GROUPS
    )
    alpha: float = Field(gt=0, lt=1)
    guarantee: float | None = Field(default=None, ge=0.5, lt=1)


class ItemGroups(_Frozen):
    """Groups of items with thresholds of their own; those with fewer than `min_items` share the pooled one.

    `names` are in the order of their numbers in `calibration.safetensors`.
    """

    names: tuple[str, ...] = Field(max_length=MAX_ITEM_GROUPS)
    min_items: int = Field(ge=1)


class TrainingRecord(_Frozen):
    """What was trained on what. Items are counts; `fingerprint` is the SHA-256 of data, split and settings."""

    items: int
    train: int
    validation: int
    calibration: int
    held_out: bool
    grouped: bool
    seed: int
    steps: int
    skipped_updates: int
    seconds: float
    device: str
    fingerprint: str
    history: tuple[dict[str, float], ...] = ()


class Manifest(_Frozen):
    """Everything about a bundle but its tensors. `files` has every other file but a detached signature."""

    format_version: int = FORMAT_VERSION
    name: str = Field(pattern=NAME_PATTERN)
    version: str = Field(pattern=NAME_PATTERN)
    created: datetime
    item: Schema
    detector: DetectorSpec
    verdict: VerdictSpec
    item_groups: ItemGroups | None = None
    calibrated_from: str | None = None
    """The version whose calibration this one replaced."""
    training: TrainingRecord
    metrics: dict[str, float] = Field(default_factory=dict)
    software: dict[str, str] = Field(default_factory=dict)
    files: dict[str, FileRecord] = Field(default_factory=dict, max_length=MAX_FILES)
    digest: str = ""
    """SHA-256 of this manifest without the digest itself: against slips, not against an attacker."""

    @field_validator("files")
    @classmethod
    def _paths_stay_inside(cls, files: dict[str, FileRecord]) -> dict[str, FileRecord]:
        for name in files:
            if not is_plain_path(name):
                raise ValueError(f"{name!r} is not a plain path inside the bundle")
        return files


def is_plain_path(name: str) -> bool:
    """Whether `name` stays inside the folder that it is taken below, wherever that is."""
    path = PurePosixPath(name)
    return not (path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or name != str(path))


def document_digest(document: Mapping[str, object]) -> str:
    """What `digest` must be: SHA-256 of the JSON document without it, keys sorted, no white space.

    Of the document and not of a `Manifest`, so that a later version with more fields still agrees.
    """
    rest = {key: value for key, value in document.items() if key != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def new_version(now: datetime) -> str:
    """Sortable and unique: `2026-11-21T08-00-00Z-3f9c`."""
    return f"{now:%Y-%m-%dT%H-%M-%SZ}-{secrets.token_hex(2)}"


def clean_name(text: str) -> str:
    """`text` as a bundle's name: letters, digits, dots, dashes and underscores."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:100] or "model"


def software_versions() -> dict[str, str]:
    """Versions of what could move a score."""
    found = {"python": platform.python_version()}
    for package in ("elbound", "torch", "numpy", "pyarrow", "pillow"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found


def now_utc() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
