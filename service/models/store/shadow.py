"""A version beside the live one: it scores what the live one has scored, while nobody waits, and nobody sees it."""

import asyncio
import contextlib
import logging
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import torch

from elbound.calibration.calibration import ScoredItems
from elbound.data.items import TensorItems
from elbound.errors import ElboundError
from elbound.scorer import Scorer
from service.models.registry import ServedModel
from service.models.store.translation import translation
from service.monitoring.store import StoreMetrics
from service.queue.batcher import Batcher

BATCH_ROWS = 256
"""Of several small uploads so many items are scored together."""
MAX_LISTED = 100

logger = logging.getLogger("elbound")


@dataclass(frozen=True)
class Shown:
    """What the live version said of `m` items: their places in their upload, groups, and `(m,)` of each answer."""

    x: torch.Tensor
    index: np.ndarray
    groups: Sequence[str | None]
    score: np.ndarray
    p_value: np.ndarray
    is_anomaly: np.ndarray

    def part(self, start: int, stop: int) -> "Shown":
        own = slice(start, stop)
        return Shown(
            self.x[own], self.index[own], self.groups[own], self.score[own], self.p_value[own], self.is_anomaly[own]
        )


class Shadow:
    """One version beside one live version. Used from the event loop alone."""

    def __init__(
        self, live: Scorer, served: ServedModel, batcher: Batcher, metrics: StoreMetrics, *, max_bytes: int
    ) -> None:
        """Raises NoShadow where the version cannot score what the live one reads."""
        self.served = served
        self.live_version = live.version
        self.labels = (live.name, live.version, served.scorer.version)
        self.translate = translation(live.schema, served.scorer.schema)
        self.same_groups = live.schema.group_by == served.scorer.schema.group_by
        self.batcher = batcher
        self.metrics = metrics
        self.max_bytes = max_bytes
        self.since = datetime.now(UTC).replace(microsecond=0)
        self.waiting: deque[Shown] = deque()
        self.waiting_bytes = 0
        self.counts = {(is_live, is_shadow): 0 for is_live in (False, True) for is_shadow in (False, True)}
        self.skipped = {"waiting": 0, "failed": 0}
        self.disagreements: deque[dict[str, object]] = deque(maxlen=MAX_LISTED)
        self.work: asyncio.Task[None] | None = None
        for is_live, is_shadow in self.counts:
            self._count(is_live, is_shadow, 0)

    def show(
        self, items: TensorItems, scored: ScoredItems, is_anomaly: np.ndarray, start: int, groups: Sequence[str | None]
    ) -> None:
        """Let the shadow score `items` later; past `max_bytes` that wait they are counted and passed over."""
        if self.waiting_bytes + items.x.nbytes > self.max_bytes:
            self._skip("waiting", len(items.x))
            return
        shown = Shown(items.x, items.index + start, groups, scored.score, scored.p_value, is_anomaly)
        for first in range(0, len(items.x), BATCH_ROWS):
            self.waiting.append(shown.part(first, first + BATCH_ROWS))
        self.waiting_bytes += items.x.nbytes
        if self.work is None or self.work.done():
            self.work = asyncio.create_task(self._score_all())

    def end(self) -> None:
        """Drop what waits, and its series."""
        if self.work is not None:
            self.work.cancel()
        self.waiting.clear()
        self.metrics.end_shadow(self.labels)

    def document(self) -> dict[str, object]:
        """What came of it so far."""
        return {
            "version": self.served.scorer.version,
            "live_version": self.live_version,
            "since": self.since.isoformat(),
            "items": sum(self.counts.values()),
            "both_normal": self.counts[False, False],
            "both_anomaly": self.counts[True, True],
            "only_live": self.counts[True, False],
            "only_shadow": self.counts[False, True],
            "waiting": sum(len(shown.x) for shown in self.waiting),
            "skipped": self.skipped["waiting"],
            "failed": self.skipped["failed"],
            "disagreements": list(self.disagreements),
        }

    async def _score_all(self) -> None:
        while self.waiting:
            shown = self._take()
            try:
                await self._score(shown)
            except Exception:
                if not self.skipped["failed"]:
                    logger.exception("the shadow %s %s fails", self.served.name, self.served.scorer.version)
                self._skip("failed", len(shown.x))
                await asyncio.sleep(0)

    def _take(self) -> Shown:
        """The next items, joined to at most `BATCH_ROWS`."""
        parts, rows = [self.waiting.popleft()], 0
        rows = len(parts[0].x)
        while self.waiting and rows + len(self.waiting[0].x) <= BATCH_ROWS:
            parts.append(self.waiting.popleft())
            rows += len(parts[-1].x)
        self.waiting_bytes -= sum(part.x.nbytes for part in parts)
        if len(parts) == 1:
            return parts[0]
        return Shown(
            torch.cat([part.x for part in parts]),
            np.concatenate([part.index for part in parts]),
            [label for part in parts for label in part.groups],
            *(np.concatenate([getattr(part, name) for part in parts]) for name in ("score", "p_value", "is_anomaly")),
        )

    async def _score(self, shown: Shown) -> None:
        scorer = self.served.scorer
        x = self.translate(shown.x)
        scored = await self.batcher.submit(scorer.score_tensor, x, lane="idle", deadline=math.inf)
        if self.same_groups:
            scored = scorer.calibration.judge_by_group(scored, shown.groups)
        is_anomaly = scorer.decide(scored).is_anomaly
        for is_live, is_shadow in self.counts:
            n = int(np.count_nonzero((shown.is_anomaly == is_live) & (is_anomaly == is_shadow)))
            if n:
                self._count(is_live, is_shadow, n)
        at = datetime.now(UTC).replace(microsecond=0).isoformat()
        for i in np.flatnonzero(shown.is_anomaly != is_anomaly)[-MAX_LISTED:].tolist():
            told = [
                {"is_anomaly": bool(odd[i]), "score": float(score[i]), "p_value": float(p_value[i])}
                for odd, score, p_value in (
                    (shown.is_anomaly, shown.score, shown.p_value), (is_anomaly, scored.score, scored.p_value),
                )
            ]  # fmt: skip
            self.disagreements.append({"at": at, "index": int(shown.index[i]), "live": told[0], "shadow": told[1]})

    def _count(self, is_live: bool, is_shadow: bool, n: int) -> None:
        self.counts[is_live, is_shadow] += n
        verdicts = ("anomaly" if one else "normal" for one in (is_live, is_shadow))
        self.metrics.shadowed.labels(*self.labels, *verdicts).inc(n)

    def _skip(self, reason: str, n: int) -> None:
        self.skipped[reason] += n
        self.metrics.skipped.labels(*self.labels, reason).inc(n)


class Shadows:
    """The shadow of each model that has one."""

    def __init__(self, batcher: Batcher, metrics: StoreMetrics, *, max_shadow_bytes: int) -> None:
        self.batcher = batcher
        self.metrics = metrics
        self.max_shadow_bytes = max_shadow_bytes
        self.running: dict[str, Shadow] = {}

    def start(self, live: Scorer, served: ServedModel) -> Shadow:
        """From now on `served` is the shadow of `live`; another one's ends. Raises NoShadow."""
        shadow = Shadow(live, served, self.batcher, self.metrics, max_bytes=self.max_shadow_bytes)
        self.stop(live.name)
        self.running[live.name] = shadow
        return shadow

    def stay(self, live: ServedModel, shadow: Shadow) -> None:
        """Beside a new live version a shadow begins anew; it ends where it is that version or cannot follow it."""
        self.stop(live.name)
        if shadow.served is not live:
            try:
                self.start(live.scorer, shadow.served)
            except ElboundError as error:
                logger.warning("the shadow of %s ends: %s", live.name, error.message)

    def stop(self, name: str) -> Shadow | None:
        """End a model's shadow, if it has one."""
        shadow = self.running.pop(name, None)
        if shadow is not None:
            shadow.end()
        return shadow

    def show(
        self, scorer: Scorer, items: TensorItems, scored: ScoredItems, is_anomaly: np.ndarray, *, start: int = 0
    ) -> None:
        """What `scorer` said of readable items whose upload has them from `start` on."""
        shadow = self.running.get(scorer.name)
        if shadow is not None and shadow.live_version == scorer.version and len(items.x):
            groups = items.readable_groups or [None] * len(items.x)
            shadow.show(items, scored, is_anomaly, start, groups)

    async def end(self) -> None:
        """End them all; the server stops."""
        works = [shadow.work for shadow in map(self.stop, list(self.running)) if shadow and shadow.work]
        for work in works:
            with contextlib.suppress(asyncio.CancelledError):
                await work
