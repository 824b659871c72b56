"""What of a folder is looked at: hidden and temporary files and folders are not, at any depth."""

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

HIDDEN_STARTS = (".", "_")
"""Beginnings of names such as .ipynb_checkpoints, .Trash, _temporary, _SUCCESS, __MACOSX."""
HIDDEN_NAMES = frozenset(("thumbs.db", "desktop.ini", "lost+found", "$recycle.bin"))
MAX_KINDS = 6


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is left by a program and is nobody's data."""
    return name.startswith(HIDDEN_STARTS) or name.lower() in HIDDEN_NAMES


def visible_files(folder: Path) -> list[Path]:
    """The files below `folder`, sorted, without hidden ones and those in hidden folders. Links to folders are not
    followed."""
    found = []
    for base, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not is_hidden(name)]
        found += [Path(base, name) for name in names if not is_hidden(name)]
    return sorted(file for file in found if file.is_file())


def passed_over(files: Iterable[Path]) -> str | None:
    """A sentence that counts `files` by their suffix, the most frequent first; None where there are none."""
    kinds = Counter(file.suffix.lower() or "without a suffix" for file in files)
    if not kinds:
        return None
    shown = [f"{count:,} {kind}" for kind, count in sorted(kinds.items(), key=lambda one: (-one[1], one[0]))]
    if len(shown) > MAX_KINDS:
        shown = [*shown[:MAX_KINDS], f"{len(shown) - MAX_KINDS:,} other kinds"]
    n = kinds.total()
    return f"{n:,} {'file was' if n == 1 else 'files were'} passed over: {', '.join(shown)}"
