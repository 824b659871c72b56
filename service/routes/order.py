"""What a request for a streamed answer asks for."""

from dataclasses import dataclass

from elbound.errors import ConfigError
from elbound.scorer import Scorer
from service.scoring.terms import Terms, Wanted


@dataclass(frozen=True)
class Order:
    """What a request asks for; `due` is on the monotonic clock."""

    scorer: Scorer
    terms: Terms
    form: str
    group: str | None
    due: float


def check_streams(*, fdr: float | None, wanted: Wanted | None, layout: str | None) -> None:
    """Raise ConfigError for a parameter that a streamed answer does not have."""
    for name, given, why in (
        ("fdr", fdr is not None, "it is decided over all items together"),
        ("explain", wanted is not None and wanted.explain, "explanations are not written piece by piece"),
        ("counterfactual", wanted is not None and wanted.counterfactual, "each takes longer than many scores"),
        ("layout", layout is not None, "it is the layout of JSON"),
    ):
        if given:
            raise ConfigError(
                f"{name} is not for a streamed answer: {why}; ask for JSON (Accept: application/json), which takes up "
                "to max_rows items",
                code=f"{name}_not_streamed",
                where=name,
            )
