"""What the names of folders and files say about pictures: good, defect, mask, or a part of a split."""

import re
from functools import lru_cache
from typing import Literal

Meaning = Literal["good", "defect", "mask", "train", "validation", "test"]

GOOD = """good ok normal normals pass passed healthy nominal flawless intact gut io bon bons bueno buenos buono buoni
bom 良品 正常 合格"""
DEFECT = """bad def ng nok ko nio fail failed failure failures fault faults faulty reject rejects rejected scrap broken
damage damages damaged crack cracks cracked scratch scratches scratched flaw flaws flawed outlier outliers unhealthy
fehler fehlerhaft schlecht ausschuss kratzer riss risse mauvais rebut malo malos scarto scarti difetto difetti difettoso
défaut défauts defaut defauts 不良 缺陷 异常 異常 欠陥 不合格"""
MASK = "mask masks gt groundtruth segmentation segmentations annotation annotations masken"
NEGATION = "no non not without ohne nicht sans sin senza sem"

WORDS: dict[Meaning, frozenset[str]] = {
    "good": frozenset(GOOD.split()),
    "defect": frozenset(DEFECT.split()),
    "mask": frozenset(MASK.split()),
    "train": frozenset(("train", "training")),
    "validation": frozenset(("val", "valid", "validation", "dev")),
    "test": frozenset(("test", "testing")),
}
DEFECT_STARTS = ("anomal", "abnorm", "defect", "defekt", "defeit")
NEGATIONS = frozenset(NEGATION.split())
OPPOSITE: dict[Meaning, Meaning] = {"good": "defect", "defect": "good"}
ORDER: tuple[Meaning, ...] = ("mask", "defect", "good", "train", "validation", "test")
"""Of several meanings the first: `defect_mask` holds masks."""


@lru_cache(maxsize=1 << 16)
def meaning(name: str, *, wholly: bool = False) -> Meaning | None:
    """What a name says, or None; with `wholly` only if it says nothing else, as `bad_01` and not `crack_wall_01`.

    A word counts where it stands by itself (digits may follow): `NG-3`, `defect12`, `groundTruth`. A negation turns it
    round: `no_defects`, `defect-free` and `not_ok`.
    """
    tokens = _tokens(name)
    found: set[Meaning] = set()
    known = 0
    for place, token in enumerate(tokens):
        word = _word(token)
        if word is None:
            continue
        before, after = tokens[place - 1] if place else "", tokens[place + 1] if place + 1 < len(tokens) else ""
        negated = before in NEGATIONS or after in ("free", "frei")
        known += 1 + negated
        found.add(OPPOSITE.get(word, word) if negated else word)
    if wholly and known < len(tokens):
        return None
    return next((one for one in ORDER if one in found), None)


def _tokens(name: str) -> list[str]:
    """The words of a name in lower case, without the digits at their end."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    words = [word.rstrip("0123456789").lower() for word in re.split(r"[\W_]+", apart)]
    text = " ".join(word for word in words if word)
    text = re.sub(r"\bground truth\b", "groundtruth", text)
    return re.sub(r"\b(n )?i o\b", lambda found: found[0].replace(" ", ""), text).split()  # i.O. and n.i.O.


def _word(token: str) -> Meaning | None:
    if token.startswith(DEFECT_STARTS):
        return "defect"
    for one in ORDER:
        if token in WORDS[one]:
            return one
        if not token.isascii() and any(word in token for word in WORDS[one] if not word.isascii()):
            return one  # Chinese and Japanese put no spaces between words
    return None
