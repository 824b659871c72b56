"""One image to one event tensor, by the decoder that training and service share.

The rules: EXIF rotation is applied; transparent pixels lie on white; grey images become RGB where the schema
has colour, and the other way round; 16-bit grey keeps its 16 bits where the schema has them and is divided by
257 otherwise; a file of several frames is refused (the preview frames of a phone's JPEG are not), and so are pixels
whose scale no format states (`REFUSED_MODES`).
"""

import hashlib
import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageOps

from elbound.data.items import TensorItems, keep_readable
from elbound.data.magic import kind_of
from elbound.data.memory import announce
from elbound.errors import DataError, DecodeError, ItemError, LimitExceeded, SchemaError
from elbound.schema import ImageSchema
from elbound.schema.patterns import match_names

FORMATS = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
}
"""What is read, by Pillow's name, and the suffixes of its files. A phone's JPEG with previews (MPO) opens as JPEG."""
DEFAULT_MAX_PIXELS = 64_000_000
MAX_SIDE_PIXELS = 65_535
"""The longest side that a JPEG can have; each row costs memory of its own, however short it is."""
STRIP_PIXELS = 1 << 20
GREY_16_MODES = ("I;16", "I;16B", "I;16L")
REFUSED_MODES = {
    "F": "floating-point pixels are not read; write 8 or 16 bits",
    "I": "32-bit or signed integers are not read, since nothing says which number is white; write 8 or 16 bits",
    "LAB": "LAB is not read; convert to RGB",
}
"""Pillow's modes whose pixels have no certain place between black and white, and what to do about them."""
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
LEAST_TELLING_PIXELS = 256
"""A smaller picture may have two values by chance."""


@dataclass(frozen=True)
class Look:
    """What an image shows before it is resized: its size in pixels, whether it has exactly two values, as a mask has
    (a tiny one does not count), and the `digest` of its file, the same for copies alone."""

    height: int
    width: int
    two_valued: bool
    digest: bytes


class ImagePreprocessor:
    """Turns image files or arrays into the event tensor of `schema`: `(n, channels, height, width)`.

    The tensor is uint8, or int32 with values to 65,535 where the schema has 16 bits.
    """

    def __init__(self, schema: ImageSchema) -> None:
        self.schema = schema

    @property
    def dtype(self) -> torch.dtype:
        return torch.uint8 if self.schema.bits == 8 else torch.int32

    def to_tensor(
        self,
        files: Sequence[bytes],
        *,
        names: Sequence[str] | None = None,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        max_total_pixels: int | None = None,
    ) -> TensorItems:
        """Items of encoded images; one that cannot be read is the error of that item.

        So are images beyond `max_total_pixels`, counted from the headers before anything is decoded.
        """
        left = max_total_pixels
        announce(2 * len(files) * math.prod(self.schema.event) * self.dtype.itemsize)
        x = torch.zeros((len(files), *self.schema.event), dtype=self.dtype)
        errors: dict[int, ItemError] = {}
        for i, data in enumerate(files):
            try:
                if left is not None:
                    with _open(data, min(max_pixels, left)) as image:
                        left -= image.width * image.height
                x[i] = torch.from_numpy(decode_image(data, self.schema, max_pixels=max_pixels))
            except DataError as error:
                errors[i] = ItemError(error.message, code=error.code, where=names[i] if names else None)
        groups = None if self.schema.group_by is None or names is None else match_names(self.schema.group_by, names)
        return keep_readable(x, errors, names=names, groups=groups)

    def array_to_tensor(self, array: np.ndarray) -> TensorItems:
        """Items of an integer array `(n, height, width[, channels])` of the schema's size."""
        channels, height, width = self.schema.event
        wanted = (height, width) if channels == 1 else (height, width, channels)
        shape = array.shape[1:-1] if channels == 1 and array.ndim == 4 and array.shape[-1] == 1 else array.shape[1:]
        if shape != wanted:
            raise SchemaError(f"expected an array of shape {('n', *wanted)}, but got {array.shape}")
        top = 2**self.schema.bits - 1
        if array.dtype.kind not in "ui" or (array.size and not 0 <= array.min() <= array.max() <= top):
            raise SchemaError(f"expected whole numbers from 0 to {top}, but got dtype {array.dtype}")
        pixels = array.reshape(len(array), height, width, channels).transpose(0, 3, 1, 2)
        kind = np.uint8 if self.schema.bits == 8 else np.int32
        return keep_readable(torch.from_numpy(np.array(pixels, dtype=kind, order="C")), {})

    def from_tensor(self, x: torch.Tensor) -> np.ndarray:
        """Pixels `(n, height, width[, 3])` for people: uint8, 16 bits divided by 257."""
        pixels = x.permute(0, 2, 3, 1).cpu().numpy()
        pixels = np.round(pixels / 257).astype(np.uint8) if self.schema.bits == 16 else pixels.astype(np.uint8)
        return pixels[..., 0] if self.schema.channels == 1 else pixels


def decode_image(data: bytes, schema: ImageSchema, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> np.ndarray:
    """Pixels `(channels, height, width)` of one encoded image: uint8, or int32 for 16 bits.

    The header is checked before a pixel is decoded. Raises DecodeError, LimitExceeded.
    """
    with _decoding(), _open(data, max_pixels) as image:
        announce(image.width * image.height * _bytes_a_pixel(image))
        return _event(_decoded(image, schema.channels), schema)


def decode_and_look(data: bytes, schema: ImageSchema) -> tuple[np.ndarray, Look]:
    """The pixels as `decode_image` gives them, and what the image shows, decoded once."""
    with _decoding(), _open(data, DEFAULT_MAX_PIXELS) as image:
        decoded = _decoded(image, schema.channels)
        digest = hashlib.blake2b(data, digest_size=16).digest()
        return _event(decoded, schema), Look(decoded.height, decoded.width, _two_valued(decoded), digest)


def image_facts(data: bytes, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> tuple[int, int, bool, bool]:
    """(height, width, has colour, is 16-bit grey) of one encoded image, as decoding would see it."""
    with _decoding(), _open(data, max_pixels) as image:
        decoded = _decoded(image, 3)
        if decoded.mode == "F":
            return decoded.height, decoded.width, False, True
        pixels = np.asarray(decoded)
        colour = bool((pixels[..., 0] != pixels[..., 1]).any() or (pixels[..., 1] != pixels[..., 2]).any())
        return pixels.shape[0], pixels.shape[1], colour, False


@contextmanager
def _decoding() -> Iterator[None]:
    """Everything that Pillow raises on bad pixels becomes DecodeError; its codecs let many classes out."""
    try:
        yield
    except DataError:
        raise
    except MemoryError:
        raise LimitExceeded("the image takes more memory than its header announces", code="image_too_large") from None
    except Exception as error:
        raise DecodeError(f"the image is truncated or broken: {error}", code="image_truncated") from error


def _open(data: bytes, max_pixels: int) -> Image.Image:
    """The image with its header read, within the limits, and its memory announced."""
    if not data:
        raise DecodeError("the image is empty", code="image_empty")
    try:
        image = Image.open(io.BytesIO(data), formats=tuple(FORMATS))
        frames = getattr(image, "is_animated", False) and image.format != "MPO"
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise LimitExceeded(f"{error}", code="image_too_large") from error
    except Exception as error:
        raise DecodeError(_why_not(data), code="image_unreadable") from error
    pixels = image.width * image.height
    if pixels > max_pixels:
        raise LimitExceeded(
            f"{image.width:,} x {image.height:,} pixels; at most {max_pixels:,} are read",
            code="image_too_large",
        )
    if max(image.size) > MAX_SIDE_PIXELS:
        raise LimitExceeded(
            f"{image.width:,} x {image.height:,} pixels; at most {MAX_SIDE_PIXELS:,} on a side are read",
            code="image_too_large",
        )
    if frames:
        raise DecodeError("holds several frames; write one file a frame", code="image_frames")
    return image


def _bytes_a_pixel(image: Image.Image) -> int:
    """What decoding an image takes of memory for each of its pixels, at most: Pillow's own pixels and their copies."""
    decoder = 8 if image.format == "WEBP" else 6 if image.info.get("progressive") else 0
    if image.mode in GREY_16_MODES:
        return 16 + decoder
    return (4 if image.mode == "RGB" else 8) + decoder


def _why_not(data: bytes) -> str:
    """What is wrong with a file that Pillow cannot open."""
    if data.startswith(TIFF_STARTS):
        return "the TIFF is broken, or its pixels are of a kind that is not read; write grey or RGB of 8 or 16 bits"
    found = kind_of(data)
    return "not an image in PNG, JPEG, WebP, BMP or TIFF format" + (f"; inside it is {found}" if found else "")


def _decoded(image: Image.Image, channels: int) -> Image.Image:
    """The whole picture at its own size: 8 bits of grey or RGB, or 16-bit grey as floating point (mode F)."""
    if image.mode in REFUSED_MODES:
        raise DecodeError(REFUSED_MODES[image.mode], code="image_unreadable")
    grey_16 = image.mode in GREY_16_MODES
    ImageOps.exif_transpose(image, in_place=True)
    if grey_16:
        return Image.fromarray(np.asarray(image).astype(np.float32))
    mode = "L" if channels == 1 else "RGB"
    if image.has_transparency_data:
        return _on_white(image, mode)
    return image if image.mode == mode else image.convert(mode)


def _on_white(image: Image.Image, mode: str) -> Image.Image:
    """A transparent image on white, some rows at a time: whole copies of a large one would take much memory."""
    page = Image.new(mode, image.size)
    rows = max(1, STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(image.height, top + rows))).convert("RGBA")
        white = Image.new("RGBA", strip.size, "white")
        white.alpha_composite(strip)
        page.paste(white.convert(mode), (0, top))
    return page


def _event(decoded: Image.Image, schema: ImageSchema) -> np.ndarray:
    """A decoded picture at the size, colours and depth of the schema, `(channels, height, width)`."""
    pixels = np.asarray(_resize(decoded, schema))
    if decoded.mode == "F":
        pixels = np.rint(pixels)
        pixels = pixels if schema.bits == 16 else np.rint(pixels / 257)
        pixels = np.repeat(pixels[..., None], schema.channels, axis=2)
    elif schema.bits == 16:
        pixels = pixels.astype(np.int32) * 257
    pixels = pixels.reshape(schema.height, schema.width, schema.channels)
    kind = np.uint8 if schema.bits == 8 else np.int32
    return np.array(pixels.transpose(2, 0, 1), dtype=kind, order="C")


def _two_valued(decoded: Image.Image) -> bool:
    if decoded.width * decoded.height < LEAST_TELLING_PIXELS:
        return False
    if decoded.mode == "F":
        pixels = np.asarray(decoded)
        low, high = pixels.min(), pixels.max()
        return bool(low < high and ((pixels == low) | (pixels == high)).all())
    colours = decoded.getcolors(2)
    return colours is not None and len(colours) == 2


def _resize(image: Image.Image, schema: ImageSchema) -> Image.Image:
    size = (schema.width, schema.height)
    if image.size == size:
        return image
    filter_ = Image.Resampling.BILINEAR
    match schema.resize:
        case "stretch":
            return image.resize(size, filter_)
        case "crop":
            return ImageOps.fit(image, size, filter_)
        case "fit":
            scale = min(schema.width / image.width, schema.height / image.height)
            inner = max(1, round(image.width * scale)), max(1, round(image.height * scale))
            page = Image.new(image.mode, size)
            page.paste(image.resize(inner, filter_), ((size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2))
            return page
