"""Images from a folder tree or a zip, and the size and colour that suit them."""

import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from threading import Lock

import numpy as np
import torch

from elbound.data.image import ImagePreprocessor, decode_image, image_facts
from elbound.data.schema import ImageSchema, ResizeMode
from elbound.errors import DataError, DecodeError, LimitExceeded

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
MAX_SIDE = 64
SAMPLE = 200
MAX_MEMBER_BYTES = 1 << 28
THREADS = 2


@dataclass(frozen=True)
class ImageFiles:
    """Encoded images by name, read one at a time from a folder tree or a zip."""

    path: Path
    names: tuple[str, ...]
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
    """`x` `(n, *event)` of the readable images, their `names`, and the unreadable ones with the reason."""

    x: torch.Tensor
    names: list[str]
    skipped: dict[str, str] = field(default_factory=dict)


def image_files(path: Path) -> ImageFiles:
    """The images at `path` (a folder tree, a zip or one file), sorted by name; DataError where none."""
    if not path.exists():
        raise DataError(f"{path} does not exist", where=str(path))
    if path.is_dir():
        found = [file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()]
        names = {name for name in found if is_image_name(name)}
    elif path.suffix.lower() == ".zip" or (not is_image_name(path.name) and zipfile.is_zipfile(path)):
        with _open_zip(path) as archive:
            names = {info.filename for info in zip_images(archive)}
    else:
        return ImageFiles(path.parent, (path.name,))
    if not names:
        raise DataError(f"{path} holds no images ({', '.join(IMAGE_SUFFIXES)})", where=str(path))
    return ImageFiles(path, tuple(sorted(names)))


def is_image_name(name: str) -> bool:
    """Whether a file is an image by its name; what macOS leaves beside the files of a zip is none."""
    parts = PurePosixPath(name).parts
    return name.lower().endswith(IMAGE_SUFFIXES) and "__MACOSX" not in parts and not parts[-1].startswith("._")


def infer_image_schema(
    files: ImageFiles,
    *,
    image_size: tuple[int, int] | None = None,
    resize: ResizeMode = "fit",
    max_side: int = MAX_SIDE,
) -> ImageSchema:
    """Colour, depth and size from at most `SAMPLE` images spread over the names.

    The size is the images' median height and width, scaled down to at most `max_side` on the longer side
    (a model of pixels sees no more than `MAX_SIDE`); `image_size` (height, width) overrides it. Colour where any
    has it.
    """
    picked = np.unique(np.linspace(0, len(files.names) - 1, min(SAMPLE, len(files.names))).astype(int))
    facts = []
    for i in picked:
        try:
            facts.append(image_facts(files.read(files.names[i])))
        except (DataError, OSError):
            continue
    if not facts:
        raise DataError(f"none of {len(picked)} images of {files.path} can be read", where=str(files.path))
    heights, widths, colour, deep = zip(*facts, strict=True)
    height, width = image_size or _fitting_size(float(np.median(heights)), float(np.median(widths)), max_side)
    grey_16 = any(deep) and not any(colour)
    return ImageSchema(
        height=height, width=width, channels=3 if any(colour) else 1, bits=16 if grey_16 else 8, resize=resize
    )


def decode_images(files: ImageFiles, schema: ImageSchema, *, max_bad_share: float = 0.1) -> DecodedImages:
    """All images as one tensor; unreadable ones are skipped and named, up to `max_bad_share` of them.

    One may be skipped where the share is less than one image, but none where it is 0. Raises DataError
    beyond that.
    """
    skipped: dict[str, str] = {}

    def one(name: str) -> np.ndarray | None:
        try:
            return decode_image(files.read(name), schema)
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
            f"the first is {first}: {skipped[first]}",
            where=first,
        )
    kept = [(name, pixels) for name, pixels in zip(files.names, decoded, strict=True) if pixels is not None]
    x = torch.from_numpy(np.stack([pixels for _, pixels in kept]))
    return DecodedImages(
        x.to(ImagePreprocessor(schema).dtype), [name for name, _ in kept], dict(sorted(skipped.items()))
    )


def zip_images(archive: zipfile.ZipFile) -> Iterator[zipfile.ZipInfo]:
    """The members of a zip that are images by name."""
    return (info for info in archive.infolist() if is_image_name(info.filename) and not info.is_dir())


def read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, *, max_bytes: int) -> bytes:
    """One member's bytes, read no further than `max_bytes` whatever its header says."""
    try:
        with archive.open(info) as member:
            data = member.read(max_bytes + 1)
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError, EOFError, ValueError) as error:
        raise DecodeError(f"{info.filename} cannot be read from the zip: {error}", where=info.filename) from error
    except Exception as error:  # zlib.error, lzma.LZMAError and others of the codecs
        raise DecodeError(f"{info.filename} is damaged: {error}", where=info.filename) from error
    if len(data) > max_bytes:
        raise LimitExceeded(f"{info.filename} opens to more than {max_bytes:,} bytes", where=info.filename)
    return data


def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise DecodeError(f"{path} is not a readable zip: {error}", where=str(path)) from error


def _fitting_size(height: float, width: float, max_side: int) -> tuple[int, int]:
    scale = min(1.0, max_side / max(height, width))
    return max(4, round(height * scale)), max(4, round(width * scale))
