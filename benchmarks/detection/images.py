"""The image tasks: foreign pictures, one class as normal, defects, and pasted patches."""

import io
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.detection.task import Task

SHIFTS = ("fashion", "mnist", "cifar")
CLASSES = {"fashion": 10, "mnist": 10, "cifar": 6}
FILES = {"fashion": "fashion.npz", "mnist": "mnist.npz", "cifar": "cifar10.npz"}
NOISE_IMAGES = 500
CONSTANT_IMAGES = 256

PATCH = 8
LEAST_CHANGE = 20
"""A pasted patch differs by so many grey levels in the mean; one that shows nothing can be found by nobody."""

TILE_SIDE = 128
"""The tiles have many sizes; all are stretched to one."""
TILE_BLOCK_GAP = 200
"""Pictures of one tile are numbered in a row; a larger gap in the numbers starts another block."""
TILE_TEST_SHARE = 0.25


def load(data: Path, part: str, name: str, *, seed: int, max_train: int = 0) -> Task:
    """The task of one part and set; at most `max_train` training images, drawn at random (0: all)."""
    folder = data / "images"
    match part:
        case "shift":
            task = _shift(folder, name, seed)
        case "one-class":
            task = _one_class(folder, name)
        case "circuits":
            task = _circuits(folder)
        case "tiles":
            task = _tiles(folder, seed)
        case _:
            task = _patches(folder, name, seed)
    return _cut(task, max_train, seed) if max_train else task


def sets(part: str) -> list[str]:
    """The sets of one part."""
    if part == "one-class":
        return [f"{source}-{label}" for source, count in CLASSES.items() for label in range(count)]
    return list(SHIFTS) if part in ("shift", "patches") else [part]


def resized(images: np.ndarray, side: int, *, colour: bool) -> np.ndarray:
    """Images as `side` x `side` pixels, grey or RGB, by Pillow's bilinear filter."""
    mode = "RGB" if colour else "L"
    return np.stack(
        [np.asarray(Image.fromarray(image).convert(mode).resize((side, side), _FILTER)) for image in images]
    )


def pasted(images: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images with a patch of another one pasted at a random place, and masks `(n, height, width)` of where.

    Images for which 50 draws found no patch that differs are left out.
    """
    draw = np.random.default_rng(seed)
    height, width = images.shape[1:3]
    altered, masks = [], []
    for i, image in enumerate(images):
        for _ in range(50):
            other = images[(i + draw.integers(1, len(images))) % len(images)]
            top, left = draw.integers(0, height - PATCH + 1, 2), draw.integers(0, width - PATCH + 1, 2)
            here, there = _square(top[0], left[0]), _square(top[1], left[1])
            if np.abs(image[here].astype(float) - other[there]).mean() >= LEAST_CHANGE:
                altered.append(image.copy())
                altered[-1][here] = other[there]
                masks.append(np.zeros((height, width), dtype=bool))
                masks[-1][here] = True
                break
    return np.stack(altered), np.stack(masks)


def blocks_of(numbers: Sequence[int]) -> np.ndarray:
    """A label for each number: neighbours in order that lie at most `TILE_BLOCK_GAP` apart share it."""
    order = np.argsort(numbers, kind="stable")
    labels = np.zeros(len(order), dtype=np.int64)
    labels[order] = np.r_[0, np.cumsum(np.diff(np.asarray(numbers)[order]) > TILE_BLOCK_GAP)]
    return labels


def tile_split(blocks: np.ndarray, good: np.ndarray, seed: int) -> np.ndarray:
    """True for the good tiles that train.

    No block is on both sides: those that also show a defect are tested, and as many more at random as make
    a quarter of the good ones.
    """
    tested = set(blocks[~good].tolist())
    for block in np.random.default_rng(seed).permutation(np.unique(blocks[good])):
        if np.isin(blocks[good], list(tested)).mean() >= TILE_TEST_SHARE:
            break
        tested.add(int(block))
    trains: np.ndarray = good & ~np.isin(blocks, list(tested))
    return trains


_FILTER = Image.Resampling.BILINEAR


def _square(top: int, left: int) -> tuple[slice, slice]:
    return slice(top, top + PATCH), slice(left, left + PATCH)


def _arrays(folder: Path, name: str) -> dict[str, np.ndarray]:
    with np.load(folder / FILES.get(name, name)) as arrays:
        return dict(arrays)


def _shift(folder: Path, source: str, seed: int) -> Task:
    own = _arrays(folder, source)
    foreign = {name: _arrays(folder, name)["test"] for name in SHIFTS if name != source}
    if source == "cifar":
        foreign["circuits"] = _arrays(folder, "deeppcb64.npz")["normal_test"]
    side, colour = own["train"].shape[1], own["train"].ndim == 4
    odd = {name: resized(images, side, colour=colour) for name, images in foreign.items()}
    if source == "fashion":
        odd["upside down"] = own["test"][:, ::-1]
    event, draw = own["train"].shape[1:], np.random.default_rng(seed)
    odd["noise"] = draw.integers(0, 256, (NOISE_IMAGES, *event), dtype=np.uint8)
    levels = draw.integers(0, 256, (CONSTANT_IMAGES, 1, 1, *event[2:]), dtype=np.uint8)
    odd["constants"] = np.broadcast_to(levels, (CONSTANT_IMAGES, *event)).copy()
    return Task(own["train"], own["test"], odd)


def _one_class(folder: Path, name: str) -> Task:
    source, _, label = name.partition("-")
    arrays = _arrays(folder, source)
    own = arrays["test_y"] == int(label)
    return Task(
        arrays["train"][arrays["train_y"] == int(label)],
        arrays["test"][own],
        {"other classes": arrays["test"][~own]},
    )


def _circuits(folder: Path) -> Task:
    arrays = _arrays(folder, "deeppcb64.npz")
    return Task(arrays["normal_train"], arrays["normal_test"], {"defects": arrays["defect_test"]})


def _patches(folder: Path, name: str, seed: int) -> Task:
    arrays = _arrays(folder, name)
    images, masks = pasted(arrays["test"], seed)
    return Task(arrays["train"], arrays["test"], {"pasted patch": images}, masks={"pasted patch": masks})


def _tiles(folder: Path, seed: int) -> Task:
    with zipfile.ZipFile(folder / "magnetic_tile.zip") as archive:
        names = sorted(name for name in archive.namelist() if name.startswith(("train/", "test/")))
        images = np.stack([_tile(archive, name, _FILTER) for name in names])
        good = np.array(["/good/" in name for name in names])
        drawn = [name for name in names if "/good/" not in name]
        masks = np.stack([_tile(archive, _mask_of(name), Image.Resampling.NEAREST) for name in drawn]) > 127
    blocks = blocks_of([int(re.findall(r"\d+", name)[-1]) for name in names])
    trains = tile_split(blocks, good, seed)
    return Task(
        images[trains],
        images[good & ~trains],
        {"defects": images[~good]},
        groups=blocks[trains].tolist(),
        masks={"defects": masks},
    )


def _mask_of(name: str) -> str:
    return str(Path("ground_truth", *Path(name).parts[1:]).with_suffix(".png").as_posix())


def _tile(archive: zipfile.ZipFile, name: str, filter_: Image.Resampling) -> np.ndarray:
    with Image.open(io.BytesIO(archive.read(name))) as image:
        return np.asarray(image.convert("L").resize((TILE_SIDE, TILE_SIDE), filter_))


def _cut(task: Task, most: int, seed: int) -> Task:
    """A sliver for a quick look: fewer training images, and as few of each test part."""
    draw = np.random.default_rng(seed)
    train, normal = (np.sort(draw.permutation(len(part))[:most]) for part in (task.train, task.normal))
    odd = {name: np.sort(draw.permutation(len(items))[:most]) for name, items in task.odd.items()}
    return Task(
        task.train[train],
        task.normal[normal],
        {name: task.odd[name][places] for name, places in odd.items()},
        groups=[task.groups[i] for i in train] if task.groups is not None else None,
        masks={name: masks[odd[name]] for name, masks in task.masks.items()},
    )
