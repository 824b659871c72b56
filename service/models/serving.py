"""What begins and ends with a model: its name, its series, its drift."""

import asyncio
import logging
import weakref

from service.models.registry import ModelRegistry, ServedModel
from service.monitoring.drift import DriftMonitor
from service.monitoring.metrics import Metrics

logger = logging.getLogger("elbound")


class Serving:
    """Puts a model in its place. Used from the event loop alone, or before it runs.

    A version that is replaced is let go once the last request that began with it is answered: only then its series
    end, so that nothing is counted for a version that is not there.
    """

    def __init__(self, registry: ModelRegistry, metrics: Metrics, drift: DriftMonitor) -> None:
        self.registry = registry
        self.metrics = metrics
        self.drift = drift
        self.loop: asyncio.AbstractEventLoop | None = None
        """The server's, once it runs."""
        self.changes = 0
        """How often the models have changed."""

    def begin(self, served: ServedModel) -> None:
        """Serve a model from now on, in the place of the one of its name."""
        scorer = served.scorer
        self.metrics.add_model(scorer)
        if followed := self.drift.add(scorer):
            self.metrics.add_drift(scorer, followed)
        self.registry.put(served)
        self.changes += 1
        weakref.finalize(scorer, _gone, weakref.ref(self), (scorer.name, scorer.version)).atexit = False
        logger.info(
            "serving %s %s on %s by %s (%s), alpha %g",
            scorer.name, scorer.version, scorer.device, scorer.engine.name, scorer.engine.reason, scorer.alpha,
        )  # fmt: skip
        if (silent := scorer.unresolved(scorer.alpha, scorer.guarantee)) is not None:
            logger.warning("%s %s: %s", scorer.name, scorer.version, silent)

    def end(self, name: str) -> None:
        """Serve nothing under a name; requests that have begun are answered."""
        self.registry.models.pop(name, None)
        self.changes += 1


def _gone(serving: "weakref.ref[Serving]", labels: tuple[str, str]) -> None:
    """Called by whatever thread held the model last."""
    found = serving()
    if found is not None and found.loop is not None and not found.loop.is_closed():
        found.loop.call_soon_threadsafe(found.metrics.remove_model, labels)
