"""A request of `POST /score`, as its query and headers have it; its body has not been read."""

from dataclasses import dataclass

from starlette.types import Scope

from elbound.errors import ConfigError
from elbound.scorer import Scorer
from service.http.accept import answer_form
from service.http.media_types import JSON
from service.models.registry import ModelRegistry, ServedModel
from service.score.parameters import DEADLINE_HEADER, Query, due_time, parse_query
from service.scoring.terms import Terms, Wanted, check_groups

ACCEPT, DEADLINE = b"accept", DEADLINE_HEADER.encode()
CONTENT_TYPE, CONTENT_LENGTH, CONTENT_ENCODING = b"content-type", b"content-length", b"content-encoding"
NEEDED = frozenset((ACCEPT, DEADLINE, CONTENT_TYPE, CONTENT_LENGTH, CONTENT_ENCODING))


@dataclass(frozen=True)
class ScoreRequest:
    """What is asked for: the model, the terms, the form of the answer, and until when (`due`, monotonic clock)."""

    served: ServedModel
    terms: Terms
    query: Query
    form: str
    due: float
    json_bytes: int | None
    """Length of a body that is announced as plain JSON; None for any other."""

    @classmethod
    def of(cls, scope: Scope, registry: ModelRegistry) -> "ScoreRequest":
        """Read the head of a request.

        Raises NotAcceptable, ConfigError that names the parameter or header, ModelNotFound, ModelRequired.
        """
        headers = {name: value for name, value in reversed(scope["headers"]) if name in NEEDED}  # the first counts
        due = due_time(_text(headers.get(DEADLINE)))
        form = answer_form(_text(headers.get(ACCEPT)))
        query = parse_query(scope["query_string"])
        served = registry.get(query.model)
        scorer = served.scorer
        terms = Terms.of(scorer, alpha=query.alpha, guarantee=query.guarantee, fdr=query.fdr)
        if query.group is not None:
            check_groups(scorer)
        if form != JSON:
            check_streams(fdr=query.fdr, wanted=query.wanted, layout=query.layout)
        elif query.wanted is not None:
            query.wanted.check(scorer, terms)
        return cls(served, terms, query, form, due, _json_bytes(headers))

    @property
    def scorer(self) -> Scorer:
        return self.served.scorer


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")


def _json_bytes(headers: dict[bytes, bytes]) -> int | None:
    length = headers.get(CONTENT_LENGTH, b"")
    if CONTENT_ENCODING in headers or not length.isdigit():
        return None
    media_type = headers.get(CONTENT_TYPE, b"").partition(b";")[0].strip().lower()
    return int(length) if media_type == b"application/json" else None


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
