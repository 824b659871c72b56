"""What a running server holds, found from any request."""

from dataclasses import dataclass, field

from starlette.requests import Request

from service.memory.budget import Budget
from service.models.registry import ModelRegistry
from service.models.serving import Serving
from service.models.store.models import StoreModels
from service.models.store.shadow import Shadows
from service.monitoring.drift import DriftMonitor
from service.monitoring.live import Live, live_record
from service.monitoring.metrics import Metrics
from service.queue.batcher import Batcher
from service.score.frame import ScoreFrame
from service.settings import Settings
from service.threads import OwnThreads
from service.uploads.decoding.pool import Decoders
from service.uploads.streams import Streams


@dataclass
class State:
    settings: Settings
    metrics: Metrics
    batcher: Batcher
    drift: DriftMonitor
    streams: Streams
    serving: Serving
    shadows: Shadows
    budget: Budget
    decoders: Decoders
    store: StoreModels | None = None
    """Models whose versions change, where there are such."""
    loaded: bool = False
    documents: OwnThreads = field(default_factory=lambda: OwnThreads("documents"))
    """Makes the documents of models that take a while."""
    live: Live = field(init=False)
    frame: ScoreFrame = field(init=False)

    def __post_init__(self) -> None:
        self.live = Live(self._live_record, max_live_streams=self.settings.max_live_streams)
        self.frame = ScoreFrame(
            settings=self.settings,
            registry=self.registry,
            metrics=self.metrics,
            batcher=self.batcher,
            budget=self.budget,
            decoders=self.decoders,
            streams=self.streams,
            drift=self.drift,
            shadows=self.shadows,
        )

    def _live_record(self) -> bytes:
        return live_record(
            self.metrics,
            [served.scorer for served in self.registry.models.values()],
            ready=self.ready,
            queue_depth=self.batcher.waiting_rows,
            queue_limit=self.settings.max_queue_rows,
            uploads_open=self.streams.open,
        )

    @property
    def registry(self) -> ModelRegistry:
        return self.serving.registry

    @property
    def ready(self) -> bool:
        return self.loaded and self.batcher.alive and (self.store is None or self.store.complete)


def state_of(request: Request) -> State:
    """The server's state; set by `create_app`."""
    state = request.app.state.elbound
    assert isinstance(state, State)
    return state
