"""Stores for tests: versions of one model, some of them broken."""

import copy
from pathlib import Path

from elbound.scorer import Scorer

NAME = "numbers"


def version_at(i: int) -> str:
    return f"2026-01-01T00-{i // 60:02d}-{i % 60:02d}Z-{i:04x}"


def as_version(scorer: Scorer, version: str, *, name: str = NAME) -> Scorer:
    """The same scorer under another version."""
    other = copy.copy(scorer)
    other.manifest = scorer.manifest.model_copy(update={"version": version, "name": name})
    return other


def put(root: Path, scorer: Scorer, i: int, *, broken: bool = False) -> str:
    """Save version `i` into a store, under a hidden name first; a broken one has a byte too few."""
    version = version_at(i)
    hidden, target = root / NAME / f".{version}", root / NAME / version
    as_version(scorer, version).save(hidden, force=True)
    if broken:
        weights = hidden / "weights.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1])
    hidden.rename(target)
    return version
