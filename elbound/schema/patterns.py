"""Patterns of file names, in Python's syntax, matched by RE2 in time that is linear in the length of the name.

Python's own `re` tries alternatives again and again: one name of 40 letters can keep it busy for years. RE2 cannot look
around and has no back references; apart from these a pattern means what it means to Python (`\\b` knows the letters of
ASCII only).
"""

import itertools
import re
from collections.abc import Callable, Sequence
from functools import cache

import pyarrow as pa
import pyarrow.compute as pc

MAX_PATTERN = 1_000
"""Characters of a pattern; RE2 has a limit of its own for what it compiles to."""
MAX_MATCHED_NAME = 1_000
"""Characters of a file name that a pattern sees: names come from uploads."""
LABEL = "label"
"""What the one group is called that RE2 is asked for."""
LAST_ASCII = 0x7F
LAST_UNICODE = 0x10FFFF
SURROGATES = range(0xD800, 0xE000)
TOKEN = re.compile(
    r"\[\^?\]?(?:\\.|[^\]\\])*\]"  # a whole class
    r"|\\u[0-9A-Fa-f]{4}|\\U[0-9A-Fa-f]{8}|\\."
    r"|\(\?P<\w+>|\(\?|\("
    r"|\{,(?=\d+\})|.",
    re.DOTALL,
)
CLASS_TOKEN = re.compile(r"\\u[0-9A-Fa-f]{4}|\\U[0-9A-Fa-f]{8}|\\.|\[|[^\\\[]+", re.DOTALL)
KINDS: dict[str, Callable[[str], bool]] = {
    "w": lambda character: character.isalnum() or character == "_",
    "d": str.isdecimal,
    "s": str.isspace,
}
"""What Python's `\\w`, `\\d` and `\\s` match: RE2 alone would know their ASCII characters only."""


def check_pattern(pattern: str) -> None:
    """Raise ValueError, with what to do, where `pattern` cannot be used to group file names."""
    if len(pattern) > MAX_PATTERN:
        raise ValueError(f"the pattern has {len(pattern):,} characters; use at most {MAX_PATTERN:,}")
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
    for last in (LAST_ASCII, LAST_UNICODE):
        try:
            pc.extract_regex(pa.array([""]), pattern=_to_re2(pattern, last))
        except pa.ArrowInvalid as error:
            reason = str(error).removeprefix("Invalid regular expression: ")
            raise ValueError(
                f"{pattern!r} cannot be matched in linear time (RE2: {reason}); write it without look-around, back "
                "references and possessive quantifiers, and with small repetition counts"
            ) from error


def match_names(pattern: str, names: Sequence[str]) -> list[str | None]:
    """One label a name: the pattern's first group, or its whole match; None where it does not match.

    A first group that takes no part in the match, or is empty, is no label. Raises ValueError as `check_pattern` does.
    """
    seen = [name[:MAX_MATCHED_NAME].encode(errors="replace").decode() for name in names]
    last = LAST_ASCII if all(map(str.isascii, seen)) else LAST_UNICODE
    try:
        found = pc.extract_regex(pa.array(seen, pa.string()), pattern=_to_re2(pattern, last))
    except (pa.ArrowInvalid, re.error, OverflowError):
        check_pattern(pattern)
        raise
    return [label or None for label in pc.struct_field(found, LABEL).to_pylist()]


def _to_re2(pattern: str, last: int) -> str:
    """`pattern` for RE2, for names whose characters go up to `last`: its first group is called `LABEL`.

    RE2 compiles `\\w` of all alphabets a hundred times as slowly as that of ASCII.
    """
    has_groups = re.compile(pattern).groups > 0
    named = not has_groups
    parts: list[str] = []
    for token in TOKEN.findall(pattern):
        if token == "(" or token.startswith("(?P<"):
            parts.append("(?:" if named else f"(?P<{LABEL}>")
            named = True
        elif token.startswith("[") and len(token) > 1:
            parts.append(_class(token, last))
        elif token.startswith("\\"):
            parts.append(_escape(token, last))
        else:
            parts.append("{0," if token == "{," else token)
    whole = "".join(parts)
    return whole if has_groups else f"(?P<{LABEL}>{whole})"


def _class(token: str, last: int) -> str:
    """A class such as `[^\\W_]`; a bracket within is a character, and no POSIX name begins there."""
    begin = re.match(r"\[\^?\]?", token)
    assert begin is not None
    inside = CLASS_TOKEN.findall(token[begin.end() : -1])
    parts = ["\\[" if part == "[" else _escape(part, last, within=True) for part in inside]
    return begin[0].replace("]", "\\]") + "".join(parts) + "]"


def _escape(token: str, last: int, *, within: bool = False) -> str:
    """An escape that RE2 writes in another way, or `token` as it is."""
    if token[:1] != "\\":
        return token
    letter = token[1]
    if letter.lower() in KINDS:
        ranges = _ranges(letter.lower(), letter.isupper(), last)
        return ranges if within else f"[{ranges}]"
    if letter in "uU":
        return f"\\x{{{token[2:]}}}"
    return "\\z" if letter == "Z" and not within else token


@cache
def _ranges(kind: str, negated: bool, last: int) -> str:
    """The characters up to `last` that are of a kind, or that are not, as the inside of a class."""
    is_one = KINDS[kind]
    points = (point for point in range(last + 1) if point not in SURROGATES and is_one(chr(point)) != negated)
    runs = itertools.groupby(enumerate(points), key=lambda pair: pair[1] - pair[0])  # of characters in a row
    text = ""
    for _, run in runs:
        found = [point for _, point in run]
        text += f"\\x{{{found[0]:x}}}-\\x{{{found[-1]:x}}}"
    return text
