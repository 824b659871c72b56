"""The layout of MVTec AD: `train/good` trains, `test` and `ground_truth` evaluate."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test", "ground_truth": "masks"}
GOOD = ("good", "ok", "normal")
DEEPEST = 2
"""The layout may lie this many folders down, as in `mvtec/bottle/train/good`."""
MASK_ENDINGS = re.compile(r"[ _.-](mask|gt|label|m)$", re.IGNORECASE)


@dataclass
class Layout:
    """Names of images by their part: `train` and `good` are normal, `defects` have a kind.

    `masks` are the masks of a defect by its name, `elsewhere` counts the images of no part by their folder; `roots`
    are the folders that hold `train` and `test`.
    """

    train: list[str] = field(default_factory=list)
    good: list[str] = field(default_factory=list)
    defects: dict[str, list[str]] = field(default_factory=dict)
    masks: dict[str, list[str]] = field(default_factory=dict)
    elsewhere: Counter[str] = field(default_factory=Counter)
    roots: list[str] = field(default_factory=list)

    def sentence(self) -> str:
        """What was recognised, as `elbound train` says it before it starts."""
        defects = sum(map(len, self.defects.values()))
        kinds = f"{len(self.defects)} kind{'s' * (len(self.defects) != 1)}"
        where = f"{self.roots[0]}/" if len(self.roots) == 1 and self.roots[0] else ""
        masks = f", {len(self.masks):,} masks" if self.masks else ""
        return (
            f"MVTec layout: {len(self.train):,} images of {where}{self.folder} train; {defects:,} defects in {kinds}"
            f"{masks} and {len(self.good):,} good ones of {where}test evaluate"
        )

    @property
    def folder(self) -> str:
        """The folder that trains, below its root."""
        return "/".join(PurePosixPath(self.train[0]).parts[-3:-1])


@dataclass(frozen=True)
class _Place:
    """Where an image lies: the root, the part of the split, the kind and the path below it without a suffix."""

    root: str
    part: str
    kind: str
    stem: str


def find_layout(names: Sequence[str]) -> Layout | None:
    """The layout of a folder or zip with images of these names, also one or two folders down; None if it has another.

    It takes images in `train/good` and in a folder of `test`.
    """
    places = {name: place for name in names if (place := _place(name)) is not None}
    trains = {place.root for place in places.values() if place.part == "train" and _is_good(place)}
    tests = {place.root for place in places.values() if place.part == "test"}
    layout = Layout(roots=sorted(trains & tests))
    if not layout.roots:
        return None
    masks: defaultdict[tuple[str, str, str], list[str]] = defaultdict(list)
    for name in names:
        place = places.get(name)
        if place is None or place.root not in layout.roots:
            layout.elsewhere[str(PurePosixPath(name).parent)] += 1
        elif place.part == "masks":
            for stem in {place.stem, MASK_ENDINGS.sub("", place.stem), str(PurePosixPath(place.stem).parent)}:
                masks[place.root, place.kind, stem].append(name)
        elif place.part == "test" and not _is_good(place):
            kind = place.kind if len(layout.roots) == 1 else f"{place.root}/{place.kind}"
            layout.defects.setdefault(kind, []).append(name)
        elif _is_good(place):
            (layout.train if place.part == "train" else layout.good).append(name)
        else:
            layout.elsewhere[str(PurePosixPath(name).parent)] += 1
    for name in (name for defects in layout.defects.values() for name in defects):
        place = places[name]
        if own := masks.get((place.root, place.kind, place.stem)):
            layout.masks[name] = own
    return layout


def _place(name: str) -> _Place | None:
    path = PurePosixPath(name)
    for depth, folder in enumerate(path.parts[:-2]):
        part = SPLITS.get(folder.lower())
        if part is not None:
            root, kind, *below = "/".join(path.parts[:depth]), *path.parts[depth + 1 :]
            return _Place(root, part, kind, str(PurePosixPath(*below).with_suffix("")))
        if depth == DEEPEST:
            break
    return None


def _is_good(place: _Place) -> bool:
    return place.kind.lower() in GOOD
