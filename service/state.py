"""What a running server holds, found from any request."""

import time
from dataclasses import dataclass, field

from starlette.requests import Request

from service.batcher import Batcher
from service.drift import DriftMonitor
from service.metrics import Metrics
from service.registry import ModelRegistry
from service.settings import Settings
from service.streaming.streams import Streams


@dataclass
class State:
    settings: Settings
    metrics: Metrics
    batcher: Batcher
    drift: DriftMonitor
    streams: Streams
    registry: ModelRegistry = field(default_factory=ModelRegistry)
    loaded: bool = False

    @property
    def ready(self) -> bool:
        return self.loaded and self.batcher.alive

    def until(self, due: float) -> float:
        """A request's own `due` time or the end of `deadline_ms` from now, whichever is earlier; monotonic clock."""
        return min(due, time.monotonic() + self.settings.deadline_ms / 1000)


def state_of(request: Request) -> State:
    """The server's state; set by `create_app`."""
    state = request.app.state.elbound
    assert isinstance(state, State)
    return state
