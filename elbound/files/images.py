"""Images from a folder tree or a zip, and the size and colour that suit them."""

import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from threading import Lock

import numpy as np
import torch

from elbound.data.image import FORMATS, ImagePreprocessor, Look, decode_and_look, image_facts
from elbound.data.magic import kind_of
from elbound.errors import DataError, DecodeError, LimitExceeded
from elbound.schema import ImageSchema, ResizeMode

IMAGE_SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
OTHER_PICTURES = (
    ".gif", ".heic", ".heif", ".avif", ".jp2", ".j2k", ".jxl", ".svg", ".ico", ".psd", ".pgm", ".ppm", ".pbm", ".pnm",
    ".tga", ".exr", ".hdr", ".dcm", ".dng", ".raw", ".nef", ".cr2", ".cr3", ".arw", ".orf", ".rw2", ".pdf",
)  # fmt: skip
"""Suffixes of pictures that are not read; whoever has them is told what to do."""
HIDDEN_FOLDERS = ("@eadir", "#recycle", "$recycle.bin")
"""Thumbnails of Synology, and what was thrown away. In lower case, as the next."""
LEFT_BY_SYSTEMS = ("thumbs.db", "desktop.ini", "ehthumbs.db")
MAX_SIDE = 64
SAMPLE = 200
MAX_MEMBER_BYTES = 1 << 28
THREADS = 2
ASPECT_SPREAD = 1.25
SHOWN_NAMES = 5
HEAD_BYTES = 256
ENCRYPTED = 1
"""The bit of a member's flags."""


@dataclass(frozen=True)
class PassedOver:
    """Files that are not read: how many of each suffix, images in hidden or temporary folders by that folder, and
    names that a zip holds more than once, of which the last is read."""

    by_suffix: dict[str, int] = field(default_factory=dict)
    hidden: dict[str, int] = field(default_factory=dict)
    doubled: tuple[str, ...] = ()

    def sentences(self) -> list[str]:
        """What the user should know, one sentence a kind; none where nothing was passed over."""
        found = []
        if self.by_suffix:
            total = sum(self.by_suffix.values())
            counts = ", ".join(f"{count:,} {suffix or 'without a suffix'}" for suffix, count in self.by_suffix.items())
            advice = "; convert pictures to PNG or JPEG" if any(s in OTHER_PICTURES for s in self.by_suffix) else ""
            found.append(f"{_files(total)} passed over, since {_their(total)} kind is not read: {counts}{advice}")
        if self.hidden:
            total = sum(self.hidden.values())
            found.append(f"{_files(total)} passed over as hidden or temporary: {listed(list(self.hidden))}")
        if self.doubled:
            count = len(self.doubled)
            found.append(
                f"in the zip {count:,} {'name stands' if count == 1 else 'names stand'} more than once "
                f"({listed(self.doubled)}): the last file of a name is read, as unpacking would leave it"
            )
        return found


@dataclass(frozen=True)
class ImageFiles:
    """Encoded images by name, read one at a time from a folder tree or a zip, and what lies beside them.

    `beside` are the names of the other files that are not hidden.
    """

    path: Path
    names: tuple[str, ...]
    passed_over: PassedOver = field(default_factory=PassedOver, compare=False)
    beside: tuple[str, ...] = field(default=(), compare=False)
    _lock: Lock = field(default_factory=Lock, init=False, repr=False, compare=False)

    def __reduce__(self) -> tuple[type["ImageFiles"], tuple[Path, tuple[str, ...]]]:
        """Another process opens the zip itself."""
        return ImageFiles, (self.path, self.names)

    def read(self, name: str) -> bytes:
        if self.path.is_dir():
            return (self.path / name).read_bytes()
        with self._lock:
            return read_member(self._archive, self._archive.getinfo(name), max_bytes=MAX_MEMBER_BYTES)

    @cached_property
    def _archive(self) -> zipfile.ZipFile:
        """Opened once: its list of members is as long as the zip."""
        return _open_zip(self.path)


@dataclass
class DecodedImages:
    """`x` `(n, *event)` of the readable images, their `names` and looks, and the unreadable ones with the reason."""

    x: torch.Tensor
    names: list[str]
    looks: list[Look]
    skipped: dict[str, str] = field(default_factory=dict)


def image_files(path: Path) -> ImageFiles:
    """The images at `path` (a folder tree, a zip or one file), sorted by name; DataError where none."""
    if not path.exists():
        raise DataError(f"{path} does not exist", where=str(path))
    if path.is_dir():
        every = [file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()]
    elif path.suffix.lower() == ".zip" or (not is_image_name(path.name) and zipfile.is_zipfile(path)):
        with _open_zip(path) as archive:
            every = [info.filename for info in archive.infolist() if info.filename and not info.is_dir()]
    else:
        return ImageFiles(path.parent, (path.name,))
    found = _sorted_out(path, every)
    if not found.names:
        others = "".join(f"; {sentence}" for sentence in found.passed_over.sentences())
        raise DataError(f"{path} holds no images ({', '.join(IMAGE_SUFFIXES)}){others}", where=str(path))
    return found


def is_image_name(name: str) -> bool:
    """Whether a file is an image by its name and is not hidden."""
    return name.lower().endswith(IMAGE_SUFFIXES) and hidden_part(name) is None


def hidden_part(name: str) -> str | None:
    """The part of a relative path that hides it: a folder whose name begins with `.` or `_`, or a file with `.`.

    Programs keep copies and unfinished files there (`.ipynb_checkpoints`, `__MACOSX`, `_temporary`). A file may begin
    with `_`, as cameras write `_DSC0001.JPG`. None where nothing hides it.
    """
    *folders, file = PurePosixPath(name.replace("\\", "/")).parts or ("",)  # some zips of Windows
    hidden = (
        folder
        for folder in folders
        if (folder.startswith((".", "_")) and folder != "..") or folder.lower() in HIDDEN_FOLDERS
    )
    return next(hidden, file if file.startswith(".") else None)


def _sorted_out(path: Path, every: list[str]) -> ImageFiles:
    """The images of a folder or zip among the names of all its files, and what is passed over."""
    by_suffix: Counter[str] = Counter()
    hidden: Counter[str] = Counter()
    names: Counter[str] = Counter()
    beside = []
    for name in every:
        hiding = hidden_part(name)
        file = PurePosixPath(name)
        if hiding is not None:
            hidden[hiding] += name.lower().endswith(IMAGE_SUFFIXES) and not file.name.startswith("._")
        elif is_image_name(name):
            names[name] += 1
        elif file.name.lower() not in LEFT_BY_SYSTEMS:
            by_suffix[file.suffix.lower()] += 1
            beside.append(name)
    passed_over = PassedOver(
        dict(by_suffix.most_common()),
        {folder: count for folder, count in hidden.items() if count},
        tuple(sorted(name for name, count in names.items() if count > 1)),
    )
    return ImageFiles(path, tuple(sorted(names)), passed_over, tuple(sorted(beside)))


def _files(count: int) -> str:
    return "1 file is" if count == 1 else f"{count:,} files are"


def _their(count: int) -> str:
    return "its" if count == 1 else "their"


def listed(names: Iterable[str]) -> str:
    """The first few names in words."""
    names = list(names)
    return ", ".join(names[:SHOWN_NAMES]) + (f" and {len(names) - SHOWN_NAMES:,} more" * (len(names) > SHOWN_NAMES))


def infer_image_schema(
    files: ImageFiles,
    *,
    image_size: tuple[int, int] | None = None,
    resize: ResizeMode | None = None,
    max_side: int = MAX_SIDE,
) -> ImageSchema:
    """Colour, depth and size from at most `SAMPLE` images spread over the names.

    The size is the images' median height and width, scaled down to at most `max_side` on the longer side
    (a model of pixels sees no more than `MAX_SIDE`); `image_size` (height, width) overrides it. Colour where any
    has it. `resize` is `stretch` by default where the shapes differ (`shapes_differ`), since borders would show an
    image's shape before anything else, and `fit` where they agree.
    """
    picked = np.unique(np.linspace(0, len(files.names) - 1, min(SAMPLE, len(files.names))).astype(int))
    facts, reasons = [], []
    for i in picked:
        try:
            facts.append(image_facts(files.read(files.names[i])))
        except (DataError, OSError) as error:
            reasons.append(about(files.names[i], error))
    if not facts:
        raise DataError(
            f"none of {len(picked)} images of {files.path} can be read; the first is {reasons[0]}",
            where=str(files.path),
        )
    heights, widths, colour, deep = zip(*facts, strict=True)
    height, width = image_size or _fitting_size(float(np.median(heights)), float(np.median(widths)), max_side)
    grey_16 = any(deep) and not any(colour)
    return ImageSchema(
        height=height,
        width=width,
        channels=3 if any(colour) else 1,
        bits=16 if grey_16 else 8,
        resize=resize or ("stretch" if shapes_differ(heights, widths) else "fit"),
    )


def shapes_differ(heights: Sequence[int], widths: Sequence[int]) -> bool:
    """Whether the ratio of width to height of images differs by `ASPECT_SPREAD` or more, one in twenty apart."""
    low, high = np.percentile(np.divide(widths, heights), [5, 95])
    return bool(high / low >= ASPECT_SPREAD)


def decode_images(files: ImageFiles, schema: ImageSchema, *, max_bad_share: float = 0.1) -> DecodedImages:
    """All images as one tensor; unreadable ones are skipped and named, up to `max_bad_share` of them.

    One may be skipped where the share is less than one image, but none where it is 0. Raises DataError
    beyond that.
    """
    skipped: dict[str, str] = {}

    def one(name: str) -> tuple[np.ndarray, Look] | None:
        try:
            return decode_and_look(files.read(name), schema)
        except (DataError, OSError) as error:
            skipped[name] = str(error)
            return None

    with ThreadPoolExecutor(THREADS) as pool:
        decoded = list(pool.map(one, files.names))
    limit = max(1, int(max_bad_share * len(files.names))) if max_bad_share > 0 else 0
    if len(skipped) > limit or len(skipped) == len(files.names):
        first = min(skipped)
        raise DataError(
            f"{len(skipped):,} of {len(files.names):,} images cannot be read, at most {limit:,} may be skipped; "
            f"the first is {about(first, skipped[first])}",
            where=first,
        )
    kept = [(name, *found) for name, found in zip(files.names, decoded, strict=True) if found is not None]
    names, pixels, looks = map(list, zip(*kept, strict=True))
    x = torch.from_numpy(np.stack(pixels)).to(ImagePreprocessor(schema).dtype)
    return DecodedImages(x, names, looks, dict(sorted(skipped.items())))


def about(name: str, error: Exception | str) -> str:
    """The error of a file with the file's name before it, unless the error names it itself."""
    return str(error) if str(error).startswith(name) else f"{name}: {error}"


def zip_images(archive: zipfile.ZipFile) -> Iterator[zipfile.ZipInfo]:
    """The members of a zip that are images by name."""
    return (info for info in archive.infolist() if is_image_name(info.filename) and not info.is_dir())


def read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, *, max_bytes: int) -> bytes:
    """One member's bytes, read no further than `max_bytes` whatever its header says."""
    name = info.filename
    if info.flag_bits & ENCRYPTED:
        raise DecodeError(f"{name} is encrypted; unpack it first", where=name)
    try:
        with archive.open(info) as member:
            data = member.read(max_bytes + 1)
    except NotImplementedError as error:
        raise DecodeError(
            f"{name} is packed in a way that is not read (method {info.compress_type}); pack it with Deflate",
            where=name,
        ) from error
    except Exception as error:  # of the zip and of its codecs, as zlib.error and lzma.LZMAError
        raise DecodeError(f"{name} is damaged in the zip; pack it again", where=name) from error
    if len(data) > max_bytes:
        raise LimitExceeded(f"{info.filename} opens to more than {max_bytes:,} bytes", where=info.filename)
    return data


def _open_zip(path: Path) -> zipfile.ZipFile:
    found = None
    try:
        with path.open("rb") as file:
            found = kind_of(file.read(HEAD_BYTES))
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        why = error if found is None or found.startswith("a zip") else f"it is {found}"
        raise DecodeError(f"{path} is not a readable zip: {why}", where=str(path)) from error


def _fitting_size(height: float, width: float, max_side: int) -> tuple[int, int]:
    scale = min(1.0, max_side / max(height, width))
    return max(4, round(height * scale)), max(4, round(width * scale))
