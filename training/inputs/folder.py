"""A look at the pictures of a folder before training: are they normal pictures, or masks and defects too?

What is in doubt ends the training, for masks and defects that train as normal spoil a model without a sign of it; what
is harmless is a warning.
"""

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from elbound.errors import DataError
from elbound.files.images import DecodedImages, ImageFiles, listed, shapes_differ
from elbound.schema import ImageSchema
from training.inputs.names import Meaning, meaning

LABELS = ("label", "labels")
MASK_OF = re.compile(
    r"^(?P<before>.+?)[ _.-]*(mask|masks|gt|ground[ _-]?truth|seg|segmentation|label|labels|annotation)\d*$"
    r"|^(mask|gt|ground[ _-]?truth|seg|label)[ _.-]+(?P<after>.+)$",
    re.IGNORECASE,
)
ANNOTATION = re.compile(rb'"shapes"|<annotation|\A\s*\d+(\s+[01]?\.\d+){4}', re.IGNORECASE)
"""Of labelme, of Pascal VOC, of YOLO."""
ANNOTATION_SUFFIXES = (".json", ".xml", ".txt")
READ_ANNOTATIONS = 10
SIDE_SPREAD = 2.0
SHAPES = {
    "fit": "; the black borders that fill the rest show a shape before anything else, so a normal picture of a rare "
    "shape may raise an alarm: --resize stretch makes no borders",
    "crop": "; what lies beyond the middle of a longer one is not seen",
    "stretch": "; a longer one is pressed more than a shorter one: --resize fit keeps shapes and fills up with black",
}
"""What becomes of pictures of different shapes."""
"""From which ratio of the largest to the smallest on it is worth a word."""


@dataclass
class Findings:
    """What was found: `doubts` end the training, `warnings` are told."""

    doubts: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def look_at_names(files: ImageFiles) -> Findings:
    """What the names of folders and files, and annotations beside the pictures, say of the pictures."""
    found = Findings()
    looks = (_own_name, _folders, _good_beside, _splits, _masks_by_name, _twins, _defects_by_name, _annotations)
    for look in looks:
        look(files, found)
    return found


def look_at_pictures(decoded: DecodedImages, schema: ImageSchema, *, split_by: str | None) -> Findings:
    """What the pictures themselves show: masks, copies, sizes that differ, and grey among colour."""
    found = Findings()
    masks = [name for name, look in zip(decoded.names, decoded.looks, strict=True) if look.two_valued]
    if masks:
        found.doubts.append(
            f"{_share(len(masks), len(decoded.names))} black and white only, with two values, as masks are "
            f"({listed(masks)}): train without them"
        )
    _copies(decoded, found, split_by=split_by)
    _sizes(decoded, schema, found)
    if schema.channels == 3:
        grey = sum(bool((one[0] == one[1]).all() and (one[1] == one[2]).all()) for one in decoded.x)
        if 0 < grey < len(decoded.x):
            found.warnings.append(
                f"{_share(grey, len(decoded.x))} grey, the others have colour; all are scored in colour, and a model "
                "of both notices neither well"
            )
    return found


def _own_name(files: ImageFiles, found: Findings) -> None:
    """Folders such as `ground_truth` and `test/crack`, given as they are."""
    path = files.path.resolve()
    own, parent = meaning(path.stem, wholly=True), meaning(path.parent.name, wholly=True)
    own = own or ("mask" if parent == "mask" else None)
    if own in ("mask", "defect"):
        found.doubts.append(f"the name of {files.path} says {_kind(own)}: train on a folder of normal pictures")
    elif parent == "test" and own != "good" and files.path.is_dir() and _has_good(path.parent):
        found.doubts.append(f"{files.path} lies beside a folder of good pictures: train on normal pictures alone")


def _folders(files: ImageFiles, found: Findings) -> None:
    """Masks and defects in folders of their own; a folder that holds everything must say nothing else."""
    inside: dict[Meaning, Counter[str]] = {"mask": Counter(), "defect": Counter()}
    for name in files.names:
        folders = PurePosixPath(name).parts[:-1]
        said = [_folder_meaning(folder) for folder in folders]
        for kind, counts in inside.items():
            if kind in said:
                counts["/".join(folders[: said.index(kind) + 1])] += 1
                break
    for kind, counts in inside.items():
        total = counts.total()
        whole = total == len(files.names)
        if not total or (whole and not all(meaning(PurePosixPath(one).name, wholly=True) for one in counts)):
            continue
        found.doubts.append(
            f"{_share(total, len(files.names))} in folders whose names say {_kind(kind)} ({listed(counts)}): "
            f"{_instead(files)}"
        )


def _good_beside(files: ImageFiles, found: Findings) -> None:
    """A folder of good pictures beside others, whatever these are called."""
    children: dict[str, Counter[str]] = {}
    for name in files.names:
        parts = PurePosixPath(name).parts
        for depth, folder in enumerate(parts[:-1]):
            children.setdefault("/".join(parts[:depth]), Counter())[folder] += 1
    for parent, counts in children.items():
        good = [folder for folder in counts if meaning(folder, wholly=True) == "good"]
        others = [folder for folder in counts if _folder_meaning(folder) is None]
        if good and others:
            beside = sum(counts[folder] for folder in others)
            found.doubts.append(
                f"beside the folder {_inside(parent, good[0])} lie {_pictures(beside)} in others ({listed(others)}), "
                f"which would train as normal: {_instead(files)}"
            )


def _splits(files: ImageFiles, found: Findings) -> None:
    """`train` beside `test` or `validation`."""
    parts: dict[Meaning, Counter[str]] = {"train": Counter(), "test": Counter(), "validation": Counter()}
    for name in files.names:
        folders = PurePosixPath(name).parts[:-1]
        said = [meaning(folder, wholly=True) for folder in folders]
        place = next((i for i, one in enumerate(said) if one in parts), None)
        if place is not None:
            parts[said[place]]["/".join(folders[: place + 1])] += 1  # type: ignore[index]
    if parts["train"] and parts["test"]:
        found.doubts.append(
            f"{_pictures(parts['test'].total())} of {listed(parts['test'])} would train too, beside those of "
            f"{listed(parts['train'])}; they often hold defects: {_instead(files)}"
        )
    elif parts["train"] and parts["validation"]:
        found.warnings.append(
            f"{_pictures(parts['validation'].total())} of {listed(parts['validation'])} train too; elbound makes its "
            "own split into train, validation and calibration"
        )


def _masks_by_name(files: ImageFiles, found: Findings) -> None:
    """`x_mask.png` beside `x.png` or in another folder."""
    stems = {PurePosixPath(name).stem.lower() for name in files.names}
    masks = []
    for name in files.names:
        match = MASK_OF.match(PurePosixPath(name).stem)
        if match is None:
            continue
        partner = (match["before"] or match["after"]).lower()
        has_partner = not stems.isdisjoint((partner, f"img_{partner}", f"image_{partner}"))
        if has_partner or (match["before"] and meaning(PurePosixPath(name).stem) == "mask"):
            masks.append(name)
    if masks:
        found.doubts.append(
            f"{_share(len(masks), len(files.names))} masks of others by their names ({listed(masks)}): move them to "
            "another folder"
        )


def _twins(files: ImageFiles, found: Findings) -> None:
    """`x.png` beside `x.jpg`: its mask, or the same picture again."""
    first: dict[str, str] = {}
    twins = [
        f"{first[stem]} and {name}"
        for name in files.names
        if first.setdefault(stem := str(PurePosixPath(name).with_suffix("")), name) != name
    ]
    if twins:
        found.doubts.append(
            f"{_pictures(len(twins))} of {len(files.names):,} stand beside another of the same name and another kind "
            f"({twins[0]}): such pairs are a picture and its mask, or the same picture twice; train on one kind of them"
        )


def _defects_by_name(files: ImageFiles, found: Findings) -> None:
    """`bad_01.png` among others; where all names say it, they must say nothing else."""
    stems = {name: PurePosixPath(name).stem for name in files.names}
    defects = [name for name, stem in stems.items() if meaning(stem) == "defect"]
    if len(defects) == len(stems):
        defects = [name for name, stem in stems.items() if meaning(stem, wholly=True) == "defect"]
    if defects:
        found.doubts.append(
            f"the names of {_pictures(len(defects))} of {len(stems):,} say defects ({listed(defects)}): move them to "
            "another folder, and give it with --anomalous"
        )


def _annotations(files: ImageFiles, found: Findings) -> None:
    """Outlines drawn by people in a file beside the picture."""
    stems = {str(PurePosixPath(name).with_suffix("")) for name in files.names}
    beside = [
        name
        for name in files.beside
        if name.lower().endswith(ANNOTATION_SUFFIXES) and str(PurePosixPath(name).with_suffix("")) in stems
    ]
    if not any(_annotates(files, name) for name in beside[:READ_ANNOTATIONS]):
        return
    text = f"{_share(len(beside), len(stems))} annotated in a file beside it ({listed(beside)})"
    if len(beside) < len(stems):
        found.doubts.append(f"{text}: annotated pictures are often those with defects; train without them")
    else:
        found.warnings.append(f"{text}; if what is marked there are defects, train without them")


def _annotates(files: ImageFiles, name: str) -> bool:
    try:
        return ANNOTATION.search(files.read(name)) is not None
    except (DataError, OSError):
        return False


def _copies(decoded: DecodedImages, found: Findings, *, split_by: str | None) -> None:
    first: dict[bytes, str] = {}
    pairs = []
    for name, look in zip(decoded.names, decoded.looks, strict=True):
        if first.setdefault(look.digest, name) != name:
            pairs.append(f"{name} = {first[look.digest]}")
    if pairs:
        advice = "" if split_by else ", or keep them together with --split-by"
        found.warnings.append(
            f"{_share(len(pairs), len(decoded.names))} copies of others (as {pairs[0]}): copies that both train and "
            f"calibrate break the promised rate; remove them{advice}"
        )


def _sizes(decoded: DecodedImages, schema: ImageSchema, found: Findings) -> None:
    looks = decoded.looks
    spreads = [
        max(values) / min(values)
        for values in ([look.height for look in looks], [look.width for look in looks])
    ]  # fmt: skip
    bent = shapes_differ([look.height for look in looks], [look.width for look in looks])
    if max(spreads) >= SIDE_SPREAD or bent:
        small = min(looks, key=lambda look: look.height * look.width)
        large = max(looks, key=lambda look: look.height * look.width)
        found.warnings.append(
            f"the sizes differ, from {small.height:,} x {small.width:,} to {large.height:,} x {large.width:,} pixels; "
            f"all become {schema.height} x {schema.width} (--resize {schema.resize})"
            + (SHAPES[schema.resize] if bent else "")
        )


def _folder_meaning(folder: str) -> Meaning | None:
    return "mask" if folder.lower() in LABELS else meaning(folder)


def _has_good(folder: Path) -> bool:
    return any(meaning(one.name, wholly=True) == "good" for one in folder.iterdir() if one.is_dir())


def _instead(files: ImageFiles) -> str:
    """The folder to train on instead, where the names tell."""
    for wanted in ("good", "train"):
        for name in files.names:
            folders = PurePosixPath(name).parts[:-1]
            said = [_folder_meaning(folder) for folder in folders]
            if wanted in said and not {"mask", "defect", "test"} & set(said):
                inside = "/".join(folders[: said.index(wanted) + 1])
                return f"train on {files.path / inside}" if files.path.is_dir() else f"unpack, and train on {inside}"
    return "train on a folder of normal pictures alone"


def _inside(parent: str, folder: str) -> str:
    return f"{parent}/{folder}" if parent else folder


def _kind(one: Meaning) -> str:
    return "masks" if one == "mask" else "defects"


def _pictures(count: int) -> str:
    return "1 picture" if count == 1 else f"{count:,} pictures"


def _share(count: int, total: int) -> str:
    """A subject with its verb, as in "3 of 20 pictures are"."""
    return f"{count:,} of {total:,} pictures {'is' if count == 1 else 'are'}"
