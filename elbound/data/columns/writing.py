"""How the numbers of a text column are written, found from its cells."""

import re
from dataclasses import dataclass, replace
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from elbound.data.cells import numbers_or_none
from elbound.schema.number_format import PLACEHOLDERS, NumberFormat, body_pattern

MIN_NUMBER_SHARE = 0.98
"""Share of the cells, placeholders and missing ones aside, that must be numbers of one way of writing."""
MAX_GAP_SHARE = 0.5
"""Largest share of placeholders among cells that are not missing."""
MIN_NUMBERS = 3
SAMPLE = 1000

CURRENCY_CODES = (
    "AED ARS AUD BRL CAD CHF CLP CNY COP CZK DKK EGP EUR GBP HKD HUF IDR ILS INR ISK JPY KRW KZT MXN MYR NOK "
    "NZD PHP PLN "
    "QAR RON RUB SAR SEK SGD THB TRY TWD UAH USD VND ZAR kr Kr KR Fr Fr. SFr. Rs Rs. Rp R\\$ US\\$ A\\$ C\\$ "
    "NZ\\$ HK\\$ S\\$"
)
PREFIX = r"(?P<prefix>\p{Sc}|" + "|".join(CURRENCY_CODES.replace(".", r"\.").split()) + ")?"
SUFFIX = (
    r"(?P<suffix>[^\d\s.,;:()\[\]+\-\x{2212}/\\_=*#&@!?'\"|<>~^][^\d\s;:,()]{0,11}[23]?"
    r"(?:[ /*·][^\d\s;:,()/]{1,8}[23]?){0,2}|\")?"
)
UNITS_IN_CAPITALS = (
    "KB MB GB TB PB KIB MIB GIB TIB RPM PS HP HZ KHZ MHZ GHZ KW MW GW KWH MWH GWH VA KVA MVA DB PPM PPB BAR PSI PA KPA "
    "MPA KG MG MM CM KM FT IN LB LBS OZ MS NM"
)
CAPITAL_UNITS = frozenset(f"{UNITS_IN_CAPITALS} {CURRENCY_CODES.upper()}".split())
"""Units that are written in capitals; other capitals at a whole number are a code or a size."""
SPACE = r"[\s\x{00a0}\x{2007}\x{2009}\x{202f}]*"
PARTS = (
    rf"^(?P<open>\()?(?P<sign>[+\x{{2212}}-]?){PREFIX}{SPACE}[+\x{{2212}}-]?"
    rf"(?P<body>\d(?:[\d.,'\x{{2019}} \x{{00a0}}\x{{2007}}\x{{2009}}\x{{202f}}]*\d)?[.,]?(?:[eE][+-]?\d+)?"
    rf"|[.,]\d+(?:[eE][+-]?\d+)?)"
    rf"{SPACE}{SUFFIX}(?P<close>-|\))?$"
)
Separators = tuple[Literal[".", ","], Literal["", ",", ".", "'", " "]]
WAYS: tuple[Separators, ...] = (
    (".", ""), (",", ""), (".", ","), (",", "."), (".", " "), (",", " "), (".", "'"), (",", "'"),
)  # fmt: skip
GROUPED_BY_POINTS = r"^[+-]?(?:[1-9]\d{0,2}(?:\.\d{3})+|\d{1,3})$"
MIN_WHOLE_SHARE = 0.05
"""Share of cells below 1,000 without a point from which points before three digits are taken for thousands."""
AMBIGUOUS_BY_COMMA = r"^[1-9]\d{0,2}(,\d{3})$"
PLAIN = NumberFormat()
Evidence = Literal[".", ",", ""]


@dataclass(frozen=True)
class Writing:
    """The way of writing of a column: `numbers` are its cells where they are plain already.

    `rival` is the other reading where the column alone does not decide; `undecided` says that a person should.
    `gaps` and `bad` count the cells that are
    placeholders and no numbers at all, by their text.
    """

    form: NumberFormat = PLAIN
    numbers: pa.ChunkedArray | None = None
    rival: NumberFormat | None = None
    undecided: bool = False
    gaps: tuple[tuple[str, int], ...] = ()
    bad: tuple[tuple[str, int], ...] = ()

    @property
    def plain(self) -> bool:
        return self.form == PLAIN


@dataclass(frozen=True)
class MixedUnits:
    """Numbers with several units, of which none may be dropped."""

    units: tuple[str, ...]


@dataclass(frozen=True)
class MixedWays:
    """Numbers that are written in two ways, with an example of each: no single way reads them all."""

    examples: tuple[str, str]


def find_writing(text: pa.ChunkedArray) -> Writing | MixedUnits | MixedWays | None:
    """How the numbers of trimmed `text` are written; None where the cells are no numbers."""
    numbers = numbers_or_none(text)
    if numbers is not None:
        return _plain_or_grouped(text, numbers)
    if not _mostly_digits(text):
        return None
    counts = text.drop_null().value_counts()
    cells, weights = counts.field("values"), counts.field("counts")
    lower = pc.utf8_lower(cells)
    gap = pc.is_in(lower, value_set=pa.array(sorted(PLACEHOLDERS)))
    total, absent = pc.sum(weights).as_py(), pc.sum(pc.if_else(gap, weights, 0)).as_py()
    if absent > MAX_GAP_SHARE * total:
        return None
    names = tuple(dict.fromkeys(lower.filter(gap).to_pylist()))
    form = _find_form(cells.filter(pc.invert(gap)), weights.filter(pc.invert(gap)))
    if not isinstance(form, NumberFormat):
        return form
    form = form.model_copy(update={"gaps": names})
    good = pc.match_substring_regex(cells, form.pattern)
    numbers_seen = pc.sum(pc.if_else(good, weights, 0)).as_py()
    wrong = pc.and_not(pc.invert(good), gap)
    if numbers_seen < max(MIN_NUMBERS, MIN_NUMBER_SHARE * (total - absent)):
        return _mixed_ways(cells.filter(good), cells.filter(wrong))
    rival = _rival(form, cells.filter(good))
    return Writing(
        form,
        rival=rival,
        undecided=rival is not None and not _are_round(cells.filter(good)),
        gaps=_listed(cells, weights, gap),
        bad=_listed(cells, weights, wrong),
    )


def _plain_or_grouped(text: pa.ChunkedArray, numbers: pa.ChunkedArray) -> Writing:
    """Numbers that Arrow reads; where every point stands before three digits they may be points between thousands.

    Whole numbers beside them, such as 270 beside 2.418, say that they are: a fraction of three digits hardly ever
    ends in 000.
    """
    if not _all_match(text, GROUPED_BY_POINTS):
        return Writing(numbers=numbers)
    pointed = pc.mean(pc.cast(pc.match_substring(text.drop_null(), "."), pa.float64())).as_py()
    if not pointed:
        return Writing(numbers=numbers)
    grouped = NumberFormat(decimal=",", thousands=".")
    if pointed > 1 - MIN_WHOLE_SHARE:
        return Writing(numbers=numbers, rival=grouped)
    return Writing(grouped, rival=PLAIN)


def point_evidence(writing: Writing, text: pa.ChunkedArray) -> Evidence:
    """The decimal separator that the cells of a column prove, for the other columns of its file."""
    if writing.rival is not None:
        return ""
    if writing.form.decimal == "," or writing.form.thousands == ".":
        return ","
    if writing.form.thousands == ",":
        return "."
    head = text.slice(0, SAMPLE)
    return "." if pc.any(pc.match_substring_regex(head, r"\.(\d{1,2}|\d{4,})$")).as_py() else ""


def settle(writing: Writing, decimal: Evidence) -> Writing:
    """`writing` with the reading that has the file's `decimal` separator, where the column alone does not decide."""
    if writing.rival is None or not decimal or writing.form.decimal == decimal:
        return writing
    return replace(writing, form=writing.rival, rival=writing.form, undecided=False, numbers=None)


def _mixed_ways(good: pa.Array, wrong: pa.Array) -> MixedWays | None:
    """Whether the cells that one way of writing does not read are all numbers of another."""
    if len(good) < MIN_NUMBERS or len(wrong) < MIN_NUMBERS:
        return None
    other = _find_form(wrong, pa.array([1] * len(wrong)))
    if not isinstance(other, NumberFormat) or not pc.all(pc.match_substring_regex(wrong, other.pattern)).as_py():
        return None
    return MixedWays((good[0].as_py(), wrong[0].as_py()))


def _mostly_digits(text: pa.ChunkedArray) -> bool:
    """Whether enough of the first cells that are there could be numbers."""
    head = text.slice(0, 20 * SAMPLE).drop_null().slice(0, SAMPLE)
    return len(head) > 0 and pc.mean(pc.cast(pc.match_substring_regex(head, r"\d"), pa.float64())).as_py() >= 0.4


def _find_form(cells: pa.Array, weights: pa.Array) -> NumberFormat | MixedUnits | None:
    """The way in which most of the different `cells` are written."""
    parts = pc.extract_regex(cells, PARTS)
    found = pc.is_valid(parts)
    total = pc.sum(weights).as_py() or 0
    parts, weights = parts.filter(found), weights.filter(found)
    known = pc.sum(weights).as_py() or 0
    if not known or known < MIN_NUMBER_SHARE * total:
        return None
    affixes: dict[tuple[str, str], int] = {}
    for prefix, suffix, n in zip(
        parts.field("prefix").to_pylist(), parts.field("suffix").to_pylist(), weights.to_pylist(), strict=True
    ):
        key = (prefix, re.sub(r"\s+", " ", suffix))
        affixes[key] = affixes.get(key, 0) + n
    (prefix, suffix), n = max(affixes.items(), key=lambda entry: entry[1])
    if n < MIN_NUMBER_SHARE * known:
        units = sorted({" ".join(filter(None, affix)) for affix in affixes}, key=len)
        of_one = sum(count for affix, count in affixes.items() if any(affix)) >= MIN_NUMBER_SHARE * known
        return MixedUnits(tuple(units)) if of_one and len(units) <= 12 else None
    bodies = parts.field("body")
    way = _find_separators(bodies, weights)
    if suffix.isupper() and len(suffix) > 1 and suffix not in CAPITAL_UNITS and not prefix and _attached(cells, suffix):
        return None
    accounting = pc.any(pc.not_equal(parts.field("close"), "")).as_py()
    minus: Literal["-", "\u2212"] = "\u2212" if pc.any(pc.match_substring(cells, "\u2212")).as_py() else "-"
    return NumberFormat(
        decimal=way[0], thousands=way[1], prefix=prefix, suffix=suffix, accounting=bool(accounting), minus=minus
    )


def _attached(cells: pa.Array, suffix: str) -> bool:
    """Whether the suffix stands at whole numbers, without a space, as in sizes (2XL) and codes (12AB)."""
    return bool(
        pc.mean(pc.cast(pc.match_substring_regex(cells, rf"^\d+{re.escape(suffix)}$"), pa.float64())).as_py() > 0.5
    )


def _find_separators(bodies: pa.Array, weights: pa.Array) -> Separators:
    """The separators under which most of the numbers read; of equal ones the first, but thousands for `1,234`."""
    read = {
        way: pc.sum(pc.if_else(pc.match_substring_regex(bodies, f"^{body_pattern(*way)}$"), weights, 0)).as_py()
        for way in WAYS
    }
    best = max(read.values())
    if read[(".", "")] < best and read[(",", "")] == best == read[(".", ",")]:
        return (".", ",")
    return next(way for way in WAYS if read[way] == best)


def _rival(form: NumberFormat, cells: pa.Array) -> NumberFormat | None:
    """The other reading of a column whose every comma stands before exactly three digits."""
    if (form.decimal, form.thousands) != (".", ","):
        return None
    bodies = pc.extract_regex(cells, PARTS).field("body")
    with_comma = bodies.filter(pc.match_substring(bodies, ","))
    other = pc.match_substring_regex(bodies, f"^{body_pattern(',', '')}$")
    if (
        len(with_comma) < len(bodies)
        or not pc.all(other).as_py()
        or not pc.all(pc.match_substring_regex(with_comma, AMBIGUOUS_BY_COMMA)).as_py()
    ):
        return None
    return form.model_copy(update={"decimal": ",", "thousands": ""})


def _are_round(cells: pa.Array) -> bool:
    """Whether more numbers end in 0 than those with three digits after a decimal comma would."""
    return bool(pc.mean(pc.cast(pc.match_substring_regex(cells, r"0\D*$"), pa.float64())).as_py() >= 0.25)


def _all_match(text: pa.ChunkedArray, pattern: str) -> bool:
    """Whether every cell that is there matches; most columns are dismissed by their first cells."""
    for part in (text.slice(0, SAMPLE), text):
        if part.null_count == len(part) or not pc.all(pc.match_substring_regex(part, pattern)).as_py():
            return False
    return True


def _listed(cells: pa.Array, weights: pa.Array, chosen: pa.Array) -> tuple[tuple[str, int], ...]:
    pairs = zip(cells.filter(chosen).to_pylist(), weights.filter(chosen).to_pylist(), strict=True)
    return tuple(sorted(pairs, key=lambda pair: (-pair[1], pair[0])))
