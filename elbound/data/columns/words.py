"""What the words of a text column say: missing or a value, true or false, a verdict on the row."""

import re
from collections.abc import Mapping

MISSING_OR_VALUE = ("NA", "None", "none", "NONE")
"""Missing words that may be a value as well: Namibia, North America, no damage."""
MIN_VALUE_SHARE = 0.01
"""Share of the cells that such a word needs at least to be a value."""
CODE = re.compile(r"^[A-Z]{2,5}$")
CASES = {"none": re.compile(r"^[a-z]"), "None": re.compile(r"^[A-Z][a-z]"), "NONE": re.compile(r"^[A-Z][A-Z]")}

OPPOSITES = {"true": "false", "t": "f", "yes": "no", "y": "n"}
OPPOSITES |= {no: yes for yes, no in OPPOSITES.items()}

NORMAL_WORDS = frozenset((
    "normal", "inlier", "benign", "ok", "io", "nominal", "healthy",
))  # fmt: skip
ANOMALY_WORDS = frozenset((
    "anomaly", "anomalous", "abnormal", "outlier", "malignant", "malicious", "attack", "nok", "nio", "ng",
    "defect", "defective", "faulty", "fraud",
))  # fmt: skip


def words_that_are_values(counts: Mapping[str, int]) -> tuple[str, ...]:
    """The missing words that are values of a column, from the `counts` of its cells by text.

    NA is one among codes of two to five capital letters. None is one among words in the same case, unless the others
    are true and false. Either needs 1 % of the cells and two of them.
    """
    others = [text for text in counts if text not in MISSING_OR_VALUE]
    total = sum(counts.values())
    found = [word for word in MISSING_OR_VALUE if counts.get(word, 0) >= max(2, MIN_VALUE_SHARE * total)]
    if not others or len(others) > 1000 or are_boolean(set(others)):
        return ()
    return tuple(word for word in found if _is_value(word, others))


def _is_value(word: str, others: list[str]) -> bool:
    if word == "NA":
        return all(CODE.match(text) for text in others)
    return any(CASES[word].match(text) for text in others)


def are_boolean(texts: set[str]) -> bool:
    """Whether `texts` are true and false, or both words of pairs such as yes and no."""
    words = {text.lower() for text in texts}
    if not words or not words <= OPPOSITES.keys():
        return False
    return all(OPPOSITES[word] in words for word in words - {"true", "false"})


def look_boolean(texts: set[str]) -> bool:
    """Whether all of `texts` are words for true or false, be they a pair or not."""
    words = {text.lower() for text in texts}
    return bool(words) and words <= OPPOSITES.keys()


def are_verdicts(texts: set[str]) -> bool:
    """Whether `texts` are two: one word for normal and one for not."""
    words = {re.sub(r"[^a-z]", "", text.lower()) for text in texts}
    return len(texts) == 2 and len(words & NORMAL_WORDS) == 1 and bool(words & ANOMALY_WORDS)
