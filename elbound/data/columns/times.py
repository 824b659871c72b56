"""Columns that are times: dates as text in every usual way of writing, and numbers that count time."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from elbound.data.cells import is_datetime, seconds_or_none
from elbound.data.columns.facts import ColumnFacts
from elbound.data.columns.names import names_day, names_time

MIN_DATE_SHARE = 0.98
"""Share of the cells of a text column that must be dates; of fewer, the column is what its text is."""

MONTH = (
    r"(?:jan(?:uary|uar|vier|v)?|feb(?:ruary|ruar|rero)?|f[eé]v(?:rier|r)?|ene(?:ro)?|m[aä]r(?:ch|z|s|zo)?|mrz|apr(?:il|ile)?"
    r"|avr(?:il)?|abr(?:il)?|ma[iy]o?|june?|jun[io]o?|juin|july?|juli?o?|juil(?:let)?|aug(?:ust)?|ago(?:sto)?|ao[uû]t"
    r"|sept?(?:ember|embre|iembre)?|o[ck]t(?:ober|obre|ubre)?|nov(?:ember|embre|iembre)?|de[cz](?:ember|embre)?"
    r"|d[ée]c(?:embre)?|dic(?:iembre|embre)?)\.?"
)
"""English, German, French and Spanish, whole or shortened; no other word that begins alike, such as Marker."""
WEEKDAY = (
    r"(?:mon|tue|wed|thu|fri|sat|sun|mo|di|mi|do|fr|sa|so|lun|mar|mer|mi[eé]|jeu|jue|ven|vie|sam|s[aá]b|dim|dom)"
    r"\p{L}{0,9}[.,]*\s+"
)
CLOCK = (
    r"\d{1,2}[:.h]\d{2}(?:[:.]\d{2}(?:[.,:]\d+)?)?(?:\s*[ap]\.?m\.?)?"
    r"(?:\s*(?:z|[a-z]{3,4}|[+-]\d{2}:?\d{2}|(?:utc|gmt)[+-]\d+))?"
    r"(?:\s*\([a-z]{2,5}\)|\s*\[?[a-z_]+/[a-z_/]+\]?)?"
)
YEAR, ANY_MONTH, ANY_DAY = r"(?:1[89]|2[01])\d{2}", r"(?:0?[1-9]|1[0-2])", r"(?:0?[1-9]|[12]\d|3[01])"
DAYS = (
    rf"{YEAR}([-/.])\s?{ANY_MONTH}[-/.]\s?{ANY_DAY}",
    rf"{ANY_DAY}[-/.]\s?{ANY_MONTH}[-/.]\s?{YEAR}",
    rf"{ANY_MONTH}[-/.]\s?{ANY_DAY}[-/.]\s?{YEAR}",
    r"(?:0[1-9]|[12]\d|3[01])[-/.](?:0[1-9]|1[0-2])[-/.]\d{2}",
    r"(?:0[1-9]|1[0-2])[-/.](?:0[1-9]|[12]\d|3[01])[-/.]\d{2}",
    rf"\d{{1,2}}(?:st|nd|rd|th|\.)?[-/., ]?\s?(?:de\s|of\s)?{MONTH}[-/,. ]?\s?(?:de\s)?(?:\d{{4}}|\d{{2}})",
    rf"{MONTH}[-/. ]?\s?\d{{1,2}}(?:st|nd|rd|th)?,?[-/ ]\s?{YEAR}",
    rf"{YEAR}[-/. ]{MONTH}[-/. ]\d{{1,2}}",
    rf"{YEAR}[年./-]\s?{ANY_MONTH}[月./-]\s?{ANY_DAY}日?",
    rf"{YEAR}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])",
)
PERIODS = (
    rf"{YEAR}-?w\d{{1,2}}(?:-?[1-7])?", rf"(?:w|cw|kw|week)\s?\d{{1,2}}[ /-]{YEAR}", rf"{YEAR}[-/](?:0[1-9]|1[0-2])",
    rf"(?:0[1-9]|1[0-2])[-/.]{YEAR}", rf"{MONTH}[-/ ,.]\s?(?:{YEAR}|\d{{2}})", rf"{YEAR}[-/ ]{MONTH}",
    rf"{YEAR}[- /]?q[1-4]", rf"q[1-4][- /]?{YEAR}",
)  # fmt: skip
DATE = (
    rf"(?i)^(?:(?:{WEEKDAY})?(?:{'|'.join(DAYS)})(?:[T ,:]+(?:at\s|um\s)?{CLOCK}|T\d{{4,6}}Z?|\s\d{{6}})?"
    rf"|(?:{CLOCK})[ ,]+(?:{WEEKDAY})?(?:{'|'.join(DAYS)})"
    rf"|{WEEKDAY}{MONTH}\s+\d{{1,2}}\s+{CLOCK}\s+{YEAR}|{'|'.join(PERIODS)})$"
)
"""A whole cell that is a day, with or without a clock time or a weekday, or a week, a month or a quarter of a year."""
TIME_OF_DAY = r"(?i)^(?:\d{1,2}:[0-5]\d(?::[0-5]\d(?:[.,]\d+)?)?(?:\s*[ap]\.?m\.?)?|\d{1,2}\s*[ap]\.?m\.?)$"

CLOCK_OR_DURATION = "a time of day or a duration as text"

SECONDS_1990, SECONDS_2100 = 631_152_000.0, 4_102_444_800.0
UNITS = {1.0: "seconds", 1e3: "milliseconds", 1e6: "microseconds", 1e9: "nanoseconds"}
EXCEL_DAYS = (20_000.0, 60_000.0)
"""Days since 1900 from 1954 to 2064."""
CALENDAR_DIGITS = {8: "YYYYMMDD", 10: "YYYYMMDDHH", 12: "YYYYMMDDHHMM", 14: "YYYYMMDDHHMMSS"}
EVEN_STEP = 5.0
"""A clock's longest step, in median steps."""


def is_iso_time(facts: ColumnFacts) -> bool:
    """Whether cells are dates of Arrow or ISO 8601 text, which a column of kind `datetime` can read."""
    if is_datetime(facts.cells.type):
        return True
    return facts.text is not None and facts.numbers is None and seconds_or_none(facts.text) is not None


def text_time(facts: ColumnFacts) -> str | None:
    """Why the text of a column is a time, or None."""
    if is_iso_time(facts):
        return "a date or time"
    if facts.text is None or facts.numbers is not None:
        return None
    if _share_matching(facts.text, DATE) >= MIN_DATE_SHARE:
        return "a date or time"
    if _share_matching(facts.text, TIME_OF_DAY) >= MIN_DATE_SHARE:
        return CLOCK_OR_DURATION
    return None


def number_time(facts: ColumnFacts) -> str | None:
    """Why the numbers of a column are a time, or None. A year alone stays a number."""
    values = facts.values
    if len(values) == 0 or not np.isfinite(values).all():
        return None
    low, high = float(values.min()), float(values.max())
    named = names_time(facts.name)
    for scale, unit in UNITS.items():
        if SECONDS_1990 * scale <= low and high <= SECONDS_2100 * scale and (named or facts.rising):
            return f"a time ({unit} since 1970)"
    if facts.whole:
        digits = _calendar_digits(low, high)
        if digits and (named or facts.distinct >= 5) and _are_calendar_days(np.unique(values), digits):
            return f"a time ({CALENDAR_DIGITS[digits]})"
    days = EXCEL_DAYS[0] <= low and high <= EXCEL_DAYS[1]
    if days and (names_day(facts.name) or (named and facts.rising)):
        return "a time (days since 1900, as in Excel)"
    if not facts.whole and facts.strictly_rising and facts.steps.max() <= EVEN_STEP * float(np.median(facts.steps)):
        return "a time (it rises from row to row in even steps)"
    return None


def _share_matching(text: pa.ChunkedArray, pattern: str) -> float:
    """The share of cells that match; of most columns the first 100 cells say enough."""
    for part in (text.slice(0, 100), text):
        cells = part.drop_null()
        share = pc.mean(pc.cast(pc.match_substring_regex(cells, pattern), pa.float64())).as_py() or 0.0
        if len(cells) and share < 0.5:
            return 0.0
    return float(share)


def _calendar_digits(low: float, high: float) -> int:
    """How many digits all of the numbers have, where dates are written with so many; else 0."""
    digits = len(str(int(high)))
    return digits if low > 0 and len(str(int(low))) == digits and digits in CALENDAR_DIGITS else 0


def _are_calendar_days(values: np.ndarray, digits: int) -> bool:
    whole = values.astype(np.int64)
    parts = [whole // 10 ** (digits - 4)] + [whole // 10**place % 100 for place in range(digits - 6, -1, -2)]
    bounds = ((1900, 2100), (1, 12), (1, 31), (0, 24), (0, 59), (0, 60))
    return all(bool(((low <= part) & (part <= high)).all()) for part, (low, high) in zip(parts, bounds, strict=False))
