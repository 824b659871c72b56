"""Patterns of file names: what Python's own `re` finds, in linear time."""

import json
import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elbound.errors import SchemaError
from elbound.schema import ImageSchema, read_schema
from elbound.schema.patterns import MAX_PATTERN, check_pattern, match_names

PATTERNS = (
    r"tile(\d+)_", r"^a|^b", r"^(\w+)/", r"(\w+)-", r"[^\W_]+", r"[^\W\d]+", r"(?i)CAM-(\d)", r"(?P<x>\w)(\d)",
    r"[\S]+", r"[]x]", r"[^]x]+", r"[[x]", r"^a{,2}$", r"\s(\S+)\Z", r"(a)?b", r"\u00f6\w", r"[\u0430-\u044f]+", r"\D+",
    r"\((\w)", r"(?:a|b)(\w)", r"^(\w+\s?)*-lot",
)  # fmt: skip
NAMES = (
    "a/tile12_3.png", "b1", "cam-1 lot.png", "Größe_12-lot", "Gro\u0308sse-1", "линия 3/x.png", "日本-4", "x-²", "[x]",
    "a^b]", "aa", "a\x0bb", "\u3000x", "", "(q)",
)  # fmt: skip


def expected(pattern: str, name: str) -> str | None:
    compiled = re.compile(pattern)
    found = compiled.search(name)
    return None if found is None else found[1 if compiled.groups else 0] or None


@pytest.mark.filterwarnings("ignore:Possible nested set:FutureWarning")
@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_means_what_it_means_to_python(pattern: str) -> None:
    wanted = [expected(pattern, name) for name in NAMES]
    assert match_names(pattern, NAMES) == wanted
    assert [match_names(pattern, [name])[0] for name in NAMES] == wanted, "alone, a name may be of ASCII only"


@given(
    st.sampled_from([r"(\w+)\s", r"(\D+)\d", r"[^\W_]+", r"\S+"]), st.text(st.characters(codec="utf-8"), max_size=20)
)
def test_any_name_is_read_as_python_reads_it(pattern: str, name: str) -> None:
    assert match_names(pattern, [name]) == [expected(pattern, name)]


def test_a_name_that_keeps_python_busy_for_ever_takes_no_time() -> None:
    started = time.perf_counter()
    assert match_names(r"^(\w+\s?)*-lot", ["a" * 37, "ä" * 1_000, "a b-lot"] * 100)[:3] == [None, None, "b"]
    assert time.perf_counter() - started < 1


def test_a_pattern_that_was_not_checked_is_an_error_when_it_is_used() -> None:
    with pytest.raises(ValueError, match="is not a regular expression"):
        match_names("(", ["a"])
    with pytest.raises(ValueError, match="look-around"):
        match_names("(?<=a)b", ["a"])


def test_a_name_that_is_no_unicode_is_no_error() -> None:
    assert match_names(r"^(\w)", ["a\udcff", "\udcff"]) == ["a", None]


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("(", "is not a regular expression"),
        ("(?<=a)b", "in linear time .*look-around"),
        (r"(a)\1", "in linear time .*back references"),
        ("a++b", "possessive"),
        ("(?x)a b", "in linear time"),
        ("(a{100}){100}", "small repetition counts"),
        (r"\w{1,900}", "pattern too large"),
        ("a" * (MAX_PATTERN + 1), "1,001 characters; use at most 1,000"),
    ],
)
def test_a_pattern_that_cannot_be_used_is_refused_with_the_reason(pattern: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said):
        check_pattern(pattern)
    with pytest.raises(ValueError, match=said):
        ImageSchema(height=12, width=12, channels=1, group_by=pattern)
    file = tmp_path / "schema.json"
    file.write_text(json.dumps({"kind": "image", "height": 12, "width": 12, "channels": 1, "group_by": pattern}))
    with pytest.raises(SchemaError, match=said):
        read_schema(file)
