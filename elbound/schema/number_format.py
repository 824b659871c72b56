"""How the numbers of a text column are written, and such text as numbers."""

import re
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field, model_validator

NUMBER_PATTERN = r"^[+-]?(\d+\.?\d*([eE][+-]?\d+)?|\.\d+([eE][+-]?\d+)?|inf|infinity)$"
"""Exactly what Arrow reads as a number, but for `nan(...)`."""
SPACES = r"[ \x{00a0}\x{2007}\x{2009}\x{202f}]"
"""A space, a no-break space, and the figure, thin and narrow spaces that stand in numbers."""
THOUSANDS = {"": "", ",": ",", ".": r"\.", "'": "['\u2019]", " ": SPACES}
"""The pattern of each separator of thousands."""
PLACEHOLDERS = frozenset(
    {
        "-", "--", "---", "\u2013", "\u2014", "?", "??", "\\n", ".", "..", "...", "*", "/", "_", "n.a.",
        "n.a", "na.", "n. a.",
        "n/d", "n.d.", "nd", "k.a.", "k. a.", "tbd", "nil", "nv", "missing", "unknown", "not available",
        "(null)", "<null>",
        "undefined", "#div/0!", "#value!", "#ref!", "#name?", "#num!", "#null!", "#n/a!", "#nv", "#wert!", "#bezug!",
        "#getting_data", "null.", "(blank)", "(none)", "error", "err", "1.#ind", "-1.#ind", "1.#qnan",
    }
)  # fmt: skip
"""Text in lower case that says among numbers that there is no value."""


class NumberFormat(BaseModel):
    """How the numbers of a text column are written, apart from the plain `-1234.5e6`.

    `decimal` stands before the fraction and `thousands` between groups of three digits, which a number may leave
    out. `prefix` (a currency) stands before each number and `suffix` (a percent sign, a unit, a currency) after it,
    with or without a space; the number itself stays in that unit: `12 %` is 12. `accounting` allows `(12.5)` and
    `12.5-` for -12.5. `minus` is the sign of negative numbers; both signs are read where any part of the format is not
    plain. `gaps` are texts in lower case that count as missing cells.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    decimal: Literal[".", ","] = "."
    thousands: Literal["", ",", ".", "'", " "] = ""
    prefix: str = Field(default="", max_length=40)
    suffix: str = Field(default="", max_length=40)
    accounting: bool = False
    minus: Literal["-", "\u2212"] = "-"
    gaps: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _separators_differ(self) -> "NumberFormat":
        if self.decimal == self.thousands:
            raise ValueError(f"decimal and thousands cannot both be {self.decimal!r}")
        return self

    @property
    def plain(self) -> bool:
        """Whether numbers are written as Arrow writes them, `gaps` aside."""
        return self == NumberFormat(gaps=self.gaps)

    @property
    def pattern(self) -> str:
        """The regular expression (RE2) of a trimmed cell that is a number."""
        if self.plain:
            return f"(?i){NUMBER_PATTERN}"
        number = body_pattern(self.decimal, self.thousands)
        if not self.thousands:  # a larger number than training had: both separators in one cell leave no doubt
            other = r"\." if self.decimal == "," else ","
            number = rf"(?:{number}|[1-9]\d{{0,2}}(?:{other}\d{{3}})+{re.escape(self.decimal)}\d+)"
        before = f"{re.escape(self.prefix)}{SPACES}*" if self.prefix else ""
        after = f"{SPACES}*{re.escape(self.suffix)}" if self.suffix else ""
        sign = "[+\u2212-]?"
        signed = f"{sign}{before}{number}{after}" if not before else f"({sign}{before}|{before}{sign}){number}{after}"
        if not self.accounting:
            return f"^(?:{signed})$"
        return f"^(?:{signed}|\\({before}{number}{after}\\)|{before}{number}{after}-)$"

    def describe(self) -> str:
        """The way of writing in words, as in `a number with a decimal comma and 'kg' after it`."""
        parts = [
            "a decimal comma" if self.decimal == "," else "",
            f"{_SEPARATOR_NAMES[self.thousands]} between thousands" if self.thousands else "",
            f"{self.prefix!r} before it" if self.prefix else "",
            f"{self.suffix!r} after it" if self.suffix else "",
            "losses in parentheses or with a trailing minus" if self.accounting else "",
            f"{self.minus!r} (U+2212) for a minus" if self.minus != "-" else "",
        ]
        found = [part for part in parts if part]
        listed = " and ".join(filter(None, [", ".join(found[:-1]), *found[-1:]]))
        return f"a number with {listed}" if listed else "a number"


def body_pattern(decimal: str, thousands: str) -> str:
    """The pattern of digits with these separators, without a sign."""
    whole = r"\d+"
    if thousands:
        whole = rf"(?:\d+|[1-9]\d{{0,2}}(?:{THOUSANDS[thousands]}\d{{3}})+)"
    point = re.escape(decimal)
    return rf"(?:{whole}(?:{point}\d*)?|{point}\d+)(?:[eE][+-]?\d+)?"


def clear_gaps(text: pa.ChunkedArray, form: NumberFormat) -> pa.ChunkedArray:
    """Trimmed `text` with the placeholders of `form` as missing cells."""
    if not form.gaps:
        return text
    gaps = pc.is_in(pc.utf8_lower(text), value_set=pa.array(form.gaps))
    return pc.if_else(gaps, pa.scalar(None, pa.string()), text)


def parse_numbers(text: pa.ChunkedArray, form: NumberFormat) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """Trimmed `text` without gaps as float64, and which cells are numbers (null where a cell is missing).

    A cell that is not written as `form` says becomes null.
    """
    good = pc.match_substring_regex(text, form.pattern)
    kept = pc.if_else(good, text, pa.scalar(None, pa.string()))
    return pc.cast(kept if form.plain else _plainly_written(kept, form), pa.float64()), good


def _plainly_written(text: pa.ChunkedArray, form: NumberFormat) -> pa.ChunkedArray:
    """Cells of `form` as Arrow reads numbers."""
    negative = pc.match_substring_regex(text, "^\\(|-$") if form.accounting else None
    if form.suffix:
        text = pc.replace_substring_regex(text, f"{re.escape(form.suffix)}([)-]?)$", r"\1")
    if form.prefix:
        text = pc.replace_substring(text, form.prefix, "", max_replacements=1)
    text = pc.replace_substring_regex(text, f"{SPACES}+", "")
    if form.accounting:
        text = pc.replace_substring_regex(text, r"[()]|-$", "")
        text = pc.if_else(negative, pc.binary_join_element_wise("-", text, ""), text)
    text = pc.replace_substring(text, "\u2212", "-")
    thousands = form.thousands or ("." if form.decimal == "," else ",")
    if thousands != " ":
        text = pc.replace_substring_regex(text, THOUSANDS[thousands], "")
    return pc.replace_substring(text, ",", ".") if form.decimal == "," else text


_SEPARATOR_NAMES = {",": "commas", ".": "points", "'": "apostrophes", " ": "spaces"}
