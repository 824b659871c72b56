"""The models that are served, by name."""

from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path

from elbound.errors import ConfigError
from elbound.scorer import Scorer
from service.answers.shared_batch import SharedRun
from service.errors import ModelNotFound, ModelRequired
from service.scoring.terms import Terms

MAX_RUNS = 64


class ServedModel:
    """A loaded bundle and where it came from. A request takes it once and keeps it to its end."""

    def __init__(self, scorer: Scorer, path: Path) -> None:
        self.scorer = scorer
        self.path = path
        self.run_of: Callable[[Terms], SharedRun] = lru_cache(MAX_RUNS)(partial(SharedRun, scorer))
        """What the device runs for small requests; of each terms one, so that their jobs join."""

    @property
    def name(self) -> str:
        return self.scorer.name


class ModelRegistry:
    """Which model answers to a name; another version takes its place in one assignment."""

    def __init__(self) -> None:
        self.models: dict[str, ServedModel] = {}

    def check_free(self, served: ServedModel) -> None:
        """Raise ConfigError where the name of a bundle is taken."""
        known = self.models.get(served.name)
        if known is not None:
            raise ConfigError(
                f"{served.path} and {known.path} are both named {served.name!r}; train one of them with another --name",
                where=served.name,
            )

    def put(self, served: ServedModel) -> None:
        """Serve a model from now on, in the place of the one of its name."""
        self.models[served.name] = served

    def get(self, name: str | None) -> ServedModel:
        """The model called `name`, or the only one. Raises ModelNotFound, ModelRequired with the names."""
        if name is None and len(self.models) == 1:
            return next(iter(self.models.values()))
        found = self.models.get(name or "")
        if found is not None:
            return found
        names = ", ".join(sorted(self.models))
        if name is not None or not names:
            raise ModelNotFound(f"there is no model {(name or '')[:100]!r}; served here: {names}", where="model")
        raise ModelRequired(f"several models are served; choose one with ?model=NAME of: {names}", where="model")
