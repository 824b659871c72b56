"""A request of `POST /score`, as its query and headers have it; its body has not been read."""

import difflib
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from starlette.datastructures import QueryParams
from starlette.types import Scope

from elbound.errors import ConfigError
from elbound.scorer import Scorer
from service.answers.documents import Layout
from service.http.accept import answer_form
from service.http.media_types import JSON
from service.models.registry import ModelRegistry, ServedModel
from service.scoring.terms import Terms, Wanted, check_groups

T = TypeVar("T", bound=str)
DEADLINE_HEADER = "x-request-deadline-ms"
MAX_DIGITS = 15
HEADERS = {
    "X-Request-Deadline-Ms": {
        "schema": {"type": "integer", "minimum": 1},
        "description": "Milliseconds after which the answer is of no use: 504. The server's own limit holds too.",
    },
}
PARAMETERS = {
    "model": {
        "schema": {"type": "string"},
        "description": "Which model; may be left out where one is served.",
    },
    "alpha": {
        "schema": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        "description": "False-alarm rate of this request; the bundle's own by default.",
    },
    "guarantee": {
        "schema": {"type": "number"},
        "description": "Confidence, from 0.5 to below 1, that the realised rate stays below alpha; 0 for none. "
        "The bundle's own by default.",
    },
    "fdr": {
        "schema": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        "description": "False-discovery rate of the whole upload; `is_anomaly` then follows it.",
    },
    "group": {
        "schema": {"type": "string"},
        "description": "The calibration group of all items of this upload.",
    },
    "layout": {
        "schema": {"type": "string", "enum": ["items", "columns"], "default": "items"},
        "description": "`columns` answers one array a field, for many rows.",
    },
    "explain": {
        "schema": {"type": "boolean", "default": False},
        "description": "`true` adds to each item the shares that its columns or pixels have in `negative_elbo`.",
    },
    "top": {
        "schema": {"type": "integer", "minimum": 1},
        "description": "With `explain=true`: so many columns of a row are told, and the others together.",
    },
    "heatmap": {
        "schema": {"type": "string", "enum": ["png", "npy"], "default": "png"},
        "description": "With `explain=true`: `npy` adds each pixel's share of an image as an array.",
    },
    "counterfactual": {
        "schema": {"type": "boolean", "default": False},
        "description": "`true` adds to each anomaly the nearest item that the model finds normal.",
    },
}


@dataclass(frozen=True)
class Query:
    model: str | None
    alpha: float | None
    guarantee: float | None
    fdr: float | None
    group: str | None
    layout: Layout | None
    wanted: Wanted | None
    """Beyond scores, where something is."""


def due_time(header: str | None) -> float:
    """When an answer is of no use any more, on the monotonic clock, by `X-Request-Deadline-Ms`.

    Infinite without the header. Raises ConfigError unless it is a whole number of at least 1.
    """
    if header is None:
        return math.inf
    if not _is_count(header):
        raise ConfigError(
            f"{DEADLINE_HEADER} must be a whole number of milliseconds, at least 1. Got {header[:40]!r} instead",
            code="deadline_invalid",
            where=DEADLINE_HEADER,
        )
    return time.monotonic() + int(header) / 1000


@lru_cache(maxsize=256)
def parse_query(query_string: bytes) -> Query:
    """The parameters, each at most once and known. Raises ConfigError that names the parameter."""
    given = QueryParams(query_string).multi_items()
    for name, _ in given:
        if name not in PARAMETERS:
            nearest = difflib.get_close_matches(name, PARAMETERS, n=1)
            hint = f"did you mean {nearest[0]!r}?" if nearest else f"known: {', '.join(PARAMETERS)}"
            raise ConfigError(f"unknown parameter {name[:100]!r}; {hint}", code="parameter_unknown", where=name[:100])
    values = dict(given)
    if len(values) < len(given):
        raise ConfigError("a parameter is given twice", code="parameter_repeated", where="query")
    return Query(
        model=values.get("model"),
        alpha=_number(values, "alpha"),
        guarantee=_number(values, "guarantee"),
        fdr=_number(values, "fdr"),
        group=values.get("group"),
        layout=_choice(values, "layout", "items", "columns"),
        wanted=_wanted(values),
    )


def _wanted(values: Mapping[str, str]) -> Wanted | None:
    explain = _choice(values, "explain", "false", "true") == "true"
    for name in ("top", "heatmap"):
        if name in values and not explain:
            raise ConfigError(f"{name} says how items are explained: it goes with explain=true", where=name)
    counterfactual = _choice(values, "counterfactual", "false", "true") == "true"
    if not (explain or counterfactual):
        return None
    return Wanted(explain, _count(values, "top"), _choice(values, "heatmap", "png", "npy"), counterfactual)


def _choice(values: Mapping[str, str], name: str, first: T, second: T) -> T | None:
    """One of two words, or None where the parameter is not given."""
    text = values.get(name)
    for choice in (first, second):
        if text == choice:
            return choice
    if text is None:
        return None
    raise ConfigError(f"{name} must be {first} or {second}. Got {text[:100]!r} instead", where=name)


def _number(values: Mapping[str, str], name: str) -> float | None:
    text = values.get(name)
    if text is None:
        return None
    try:
        return float(text)
    except ValueError as error:
        raise ConfigError(f"{name} must be a number. Got {text[:100]!r} instead", where=name) from error


def _count(values: Mapping[str, str], name: str) -> int | None:
    text = values.get(name)
    if text is None:
        return None
    if not _is_count(text):
        raise ConfigError(f"{name} must be a whole number of at least 1. Got {text[:100]!r} instead", where=name)
    return int(text)


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS and int(text) > 0


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
