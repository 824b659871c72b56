"""The form of an answer, by `Accept`."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from elbound.errors import LimitExceeded
from service.errors import NotAcceptable
from service.http.media_types import ALIASES, ARROW, CSV, JSON, NDJSON

FORMS = (JSON, NDJSON, CSV, ARROW)
"""What an answer may be written as, what is taken first among equals first."""
STREAMED = FORMS[1:]


@contextmanager
def pointing_to_streams() -> Iterator[None]:
    """Whoever is refused for the size of what was sent is told which answers take more."""
    try:
        yield
    except LimitExceeded as error:
        if error.code == "body_too_large" or error.where == "rows":
            message = f"{error.message}; a streamed answer (Accept: {', '.join(STREAMED)}) takes more"
            raise LimitExceeded(message, code=error.code, where=error.where) from error
        raise


@lru_cache(maxsize=256)
def answer_form(accept: str | None) -> str:
    """The most wanted of `FORMS`; JSON where nothing is asked for. Raises NotAcceptable.

    RFC 9110, 12.5.1: of the ranges that match a form the most precise counts; then the largest weight wins, then
    the more precise range.
    """
    if accept is None or not accept.strip():
        return JSON
    ranges = [_range(part) for part in accept.split(",") if part.strip()]
    wanted = []
    for form in FORMS:
        matches = [(precision, weight) for name, precision, weight in ranges if _matches(name, form)]
        if matches:
            precision, weight = max(matches)
            wanted.append((weight, precision, form))
    best = max(wanted, key=lambda one: one[:2], default=None)
    if best is None or best[0] <= 0:
        raise NotAcceptable(f"{accept[:200]!r} accepts none of {', '.join(FORMS)}", where="accept")
    return best[2]


def _range(part: str) -> tuple[str, int, float]:
    """A media range in lower case, how precise it is, and its weight; a weight that is none counts as 1."""
    name, *parameters = (piece.strip().lower() for piece in part.split(";"))
    weight = 1.0
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            weight = _weight(value.strip())
    name = ALIASES.get(name, name)
    return name, 0 if name == "*/*" else 1 if name.endswith("/*") else 2, weight


def _weight(text: str) -> float:
    whole, _, digits = text.partition(".")
    plain = whole in ("0", "1") and len(digits) <= 3 and (not digits or digits.isdecimal())
    return min(1.0, float(text)) if plain else 1.0


def _matches(name: str, form: str) -> bool:
    return name in ("*/*", form) or (name.endswith("/*") and form.startswith(name[:-1]))
