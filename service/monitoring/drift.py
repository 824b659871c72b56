"""Drift of each served model: its martingale, and the state on disk that survives a restart."""

import asyncio
import contextlib
import logging
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError, safe_open

from elbound.bundle.files import replace_file
from elbound.calibration.drift import CHUNK, DriftMartingale, fingerprint
from elbound.errors import ConfigError, DataError
from elbound.scorer import Scorer
from service.threads import OwnThreads

MAX_FOLLOWED = 64
"""Versions whose martingales stay in memory: who goes back to one goes on where it was left."""
SAVE_SECONDS = 5
"""How often a state that has changed is written; a crash loses the scores since."""
SLICE = 1_024
"""Scores of one upload that are followed, in about 2 ms, before the event loop has its turn."""
MAX_STATE_BYTES = 1 << 20

logger = logging.getLogger("elbound")


class ModelDrift:
    """The martingale of one model, since when it runs, and what became of an earlier state.

    Scores wait until `CHUNK` are there or somebody looks: ranking them together costs 2 us a score, alone 70.
    """

    def __init__(
        self,
        scorer: Scorer,
        martingale: DriftMartingale,
        *,
        since: datetime,
        alarmed_at: datetime | None = None,
        lost: str | None = None,
    ) -> None:
        self.name, self.version = scorer.name, scorer.version
        self.since = since
        self.alarmed_at = alarmed_at
        self.lost = lost
        """Why the state of an earlier start could not be used."""
        self.saved_at: datetime | None = None
        self.saved_scores = martingale.scores
        self._martingale = martingale
        self._waiting: list[np.ndarray] = []
        self._n_waiting = 0

    def add(self, scores: np.ndarray) -> None:
        """Follow the verdict's `scores` of new items, `(m,)`."""
        self._waiting.append(scores)
        self._n_waiting += len(scores)
        if self._n_waiting >= CHUNK:
            self.up_to_date()

    def belongs_to(self, scorer: Scorer) -> bool:
        """Whether it follows this very calibration."""
        return fingerprint(self._martingale.calibrator) == fingerprint(scorer.calibration.verdict)

    def up_to_date(self) -> DriftMartingale:
        """The martingale after all scores so far."""
        martingale = self._martingale
        if self._n_waiting:
            martingale.observe(np.concatenate(self._waiting))
            self._waiting, self._n_waiting = [], 0
        if martingale.alarmed and self.alarmed_at is None:
            self.alarmed_at = _now()
            logger.warning(
                "%s %s has drifted: its scores are not exchangeable with those of its calibration (log martingale "
                "%.1f after %d scores)",
                self.name, self.version, martingale.max_log_martingale, martingale.alarmed_after,
            )  # fmt: skip
        return martingale

    def to_bytes(self) -> bytes:
        """The state as a safetensors file, with what it belongs to."""
        martingale = self.up_to_date()
        facts = {
            **_identity(self.name, self.version, martingale),
            "since": self.since.isoformat(),
            "alarmed_at": self.alarmed_at.isoformat() if self.alarmed_at else "",
            "lost": self.lost or "",
        }
        return safetensors.numpy.save(martingale.to_state(), metadata=facts)

    @classmethod
    def from_file(cls, scorer: Scorer, path: Path) -> "ModelDrift":
        """Go on where `path` was written. Raises DataError where it is torn, absurd or of another model."""
        facts, state = _read(path)
        fresh = _identity(scorer.name, scorer.version, DriftMartingale(scorer.calibration.verdict))
        for name, value in fresh.items():
            if facts.get(name) != value:
                raise DataError(f"it belongs to {name} {facts.get(name, 'unknown')[:100]} and not to {value}")
        martingale = DriftMartingale.from_state(scorer.calibration.verdict, state)
        since = _time(facts.get("since", ""))
        alarmed_at = _time(facts.get("alarmed_at", "")) if martingale.alarmed else None
        return cls(scorer, martingale, since=since, alarmed_at=alarmed_at, lost=facts.get("lost") or None)


class DriftMonitor:
    """Follows every model that promises a rate; keeps the states in a folder where one is set.

    Used from the event loop alone. Raises ConfigError where the folder cannot be written.
    """

    def __init__(self, state_dir: str) -> None:
        self.folder = _open_folder(Path(state_dir)) if state_dir else None
        self.threads = OwnThreads("state")
        self.models: dict[str, ModelDrift] = {}
        """By name the version that is served."""
        self.versions: dict[tuple[str, str], ModelDrift] = {}
        """By name and version those that are or were."""

    def add(self, scorer: Scorer) -> ModelDrift | None:
        """Start to follow a model, from where it was left or from its state; None for one that promises no rate."""
        is_first = all(name != scorer.name for name, _ in self.versions)
        self.models.pop(scorer.name, None)
        if not scorer.calibration.held_out:
            return None
        earlier = self.versions.get((scorer.name, scorer.version))
        if earlier is not None and earlier.belongs_to(scorer):
            earlier.saved_scores = -1  # the file has the state of another version by now
            return self._follow(earlier)
        path, lost = self._path(scorer.name), None
        if path and path.exists() and is_first:
            try:
                return self._follow(ModelDrift.from_file(scorer, path))
            except DataError as error:
                lost = f"{path.name} cannot be used: {error.message}"
                logger.warning("drift of %s %s starts anew: %s", scorer.name, scorer.version, lost)
        return self._follow(ModelDrift(scorer, DriftMartingale(scorer.calibration.verdict), since=_now(), lost=lost))

    def _follow(self, drift: ModelDrift) -> ModelDrift:
        self.models[drift.name] = drift
        key = (drift.name, drift.version)
        self.versions.pop(key, None)
        self.versions[key] = drift
        if len(self.versions) > MAX_FOLLOWED:
            del self.versions[next(iter(self.versions))]
        return drift

    async def observe(self, scorer: Scorer, scores: np.ndarray) -> None:
        """Follow the verdict's `scores` of an upload, `(m,)`, in slices between which others have their turn."""
        if drift := self.versions.get((scorer.name, scorer.version)):
            for start in range(0, len(scores), SLICE):
                if start:
                    await asyncio.sleep(0)
                drift.add(scores[start : start + SLICE])

    async def keep(self, stopping: asyncio.Event) -> None:
        """Write what has changed every `SAVE_SECONDS`, and once more when `stopping` is set."""
        while not stopping.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), SAVE_SECONDS)
            for drift in list(self.models.values()):
                await self._save(drift)

    async def _save(self, drift: ModelDrift) -> None:
        scores, path = drift.up_to_date().scores, self._path(drift.name)
        if path is None or scores == drift.saved_scores:
            return
        try:
            await self.threads.run(replace_file, path, drift.to_bytes())
        except OSError as error:
            logger.warning("drift of %s cannot be kept: %s: %s", drift.name, path, error.strerror or error)
            return
        drift.saved_at, drift.saved_scores = _now(), scores

    def _path(self, name: str) -> Path | None:
        return self.folder / f"{name}.drift.safetensors" if self.folder else None


def _identity(name: str, version: str, martingale: DriftMartingale) -> dict[str, str]:
    """What a state must agree in with the model that goes on from it."""
    return {"name": name, "version": version, "fingerprint": fingerprint(martingale.calibrator)}


def _open_folder(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise ConfigError(
            f"state_dir must be a folder that can be written. {folder} cannot: {error.strerror or error}",
            where="state_dir",
        ) from error


def _read(path: Path) -> tuple[Mapping[str, str], dict[str, np.ndarray]]:
    """Facts and arrays of a state file. Raises DataError."""
    try:
        size = path.stat().st_size
        if size > MAX_STATE_BYTES:
            raise DataError(f"it has {size:,} bytes, and a state at most {MAX_STATE_BYTES:,}")
        with safe_open(path, framework="numpy") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"it cannot be read: {str(error).splitlines()[0]}") from error


def _time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise DataError(f"{text[:100]!r} is not a time") from error


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
