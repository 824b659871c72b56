"""The models that are served, by name."""

from dataclasses import dataclass
from pathlib import Path

from elbound.errors import ConfigError
from elbound.scorer import Scorer
from elbound.signature import Trust
from service.errors import ModelNotFound, ModelRequired


@dataclass(frozen=True)
class ServedModel:
    """A loaded bundle and where it came from."""

    scorer: Scorer
    path: Path

    @property
    def name(self) -> str:
        return self.scorer.name


class ModelRegistry:
    """Loads bundles once, at start; a bundle that does not load stops the server with its reason."""

    def __init__(self) -> None:
        self.models: dict[str, ServedModel] = {}

    def load(self, path: Path, *, device: str, trust: Trust) -> ServedModel:
        """Raises BundleError, BundleUntrusted, GoldenMismatch; ConfigError where the name is taken."""
        scorer = Scorer.from_bundle(path, device=device, trust=trust)
        if scorer.name in self.models:
            raise ConfigError(
                f"{path} and {self.models[scorer.name].path} are both named {scorer.name!r}; "
                "train one of them with another --name",
                where=scorer.name,
            )
        served = ServedModel(scorer, path)
        self.models[scorer.name] = served
        return served

    def get(self, name: str | None) -> ServedModel:
        """The model called `name`, or the only one. Raises ModelNotFound, ModelRequired with the names."""
        names = ", ".join(sorted(self.models))
        if name is None:
            if len(self.models) != 1:
                raise ModelRequired(
                    f"several models are served; choose one with ?model=NAME of: {names}", where="model"
                )
            return next(iter(self.models.values()))
        if name not in self.models:
            raise ModelNotFound(f"there is no model {name[:100]!r}; served here: {names}", where="model")
        return self.models[name]
