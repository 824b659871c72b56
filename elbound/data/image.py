"""One image to one event tensor, by the decoder that training and service share.

The rules: EXIF rotation is applied; transparent pixels lie on white; grey images become RGB where the schema
has colour, and the other way round; 16-bit grey keeps its 16 bits where the schema has them and is divided by
257 otherwise; a file of several frames is refused (the preview frames of a phone's JPEG are not).
"""

import io
import warnings
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from elbound.data.items import TensorItems, keep_readable
from elbound.data.schema import ImageSchema
from elbound.errors import DataError, DecodeError, ItemError, LimitExceeded, SchemaError

FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "BMP", "TIFF")
DEFAULT_MAX_PIXELS = 64_000_000
GREY_16_MODES = ("I;16", "I;16B", "I;16L", "I")


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
    ) -> TensorItems:
        """Items of encoded images; one that cannot be read is the error of that item."""
        x = torch.zeros((len(files), *self.schema.event), dtype=self.dtype)
        errors: dict[int, ItemError] = {}
        for i, data in enumerate(files):
            try:
                x[i] = torch.from_numpy(decode_image(data, self.schema, max_pixels=max_pixels))
            except DataError as error:
                errors[i] = ItemError(error.message, code=error.code, where=names[i] if names else None)
        return keep_readable(x, errors, names=names)

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
        return keep_readable(torch.from_numpy(np.ascontiguousarray(pixels, dtype=kind)), {})

    def from_tensor(self, x: torch.Tensor) -> np.ndarray:
        """Pixels `(n, height, width[, 3])` for people: uint8, 16 bits divided by 257."""
        pixels = x.permute(0, 2, 3, 1).cpu().numpy()
        pixels = np.round(pixels / 257).astype(np.uint8) if self.schema.bits == 16 else pixels.astype(np.uint8)
        return pixels[..., 0] if self.schema.channels == 1 else pixels


def decode_image(data: bytes, schema: ImageSchema, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> np.ndarray:
    """Pixels `(channels, height, width)` of one encoded image: uint8, or int32 for 16 bits.

    The header is checked before a pixel is decoded. Raises DecodeError, LimitExceeded.
    """
    with _open(data, max_pixels) as image:
        try:
            grey_16 = image.mode in GREY_16_MODES
            image = _grey_16(image) if grey_16 else _eight_bit(image, schema.channels)
        except (OSError, ValueError, SyntaxError, EOFError, MemoryError) as error:
            raise DecodeError(f"the image is truncated or broken: {error}", code="image_truncated") from error
    image = _resize(image, schema)
    pixels = np.asarray(image)
    if grey_16:
        pixels = np.clip(np.rint(pixels), 0, 65_535)
        pixels = pixels if schema.bits == 16 else np.rint(pixels / 257)
        pixels = np.repeat(pixels[..., None], schema.channels, axis=2)
    elif schema.bits == 16:
        pixels = pixels.astype(np.int32) * 257
    pixels = pixels.reshape(schema.height, schema.width, schema.channels)
    kind = np.uint8 if schema.bits == 8 else np.int32
    return np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=kind)


def image_facts(data: bytes, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> tuple[int, int, bool, bool]:
    """(height, width, has colour, is 16-bit grey) of one encoded image, as decoding would see it."""
    with _open(data, max_pixels) as image:
        if image.mode in GREY_16_MODES:
            return image.height, image.width, False, True
        try:
            pixels = np.asarray(_eight_bit(image, 3))
        except (OSError, ValueError, SyntaxError, EOFError, MemoryError) as error:
            raise DecodeError(f"the image is truncated or broken: {error}", code="image_truncated") from error
        colour = bool((pixels[..., 0] != pixels[..., 1]).any() or (pixels[..., 1] != pixels[..., 2]).any())
        return pixels.shape[0], pixels.shape[1], colour, False


def _open(data: bytes, max_pixels: int) -> Image.Image:
    if not data:
        raise DecodeError("the image is empty", code="image_empty")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit stands below
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        except Image.DecompressionBombError as error:
            raise LimitExceeded(f"{error}", code="image_too_large") from error
        except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
            raise DecodeError("not an image in PNG, JPEG, WebP, BMP or TIFF format", code="image_unreadable") from error
    pixels = image.width * image.height
    if pixels > max_pixels:
        raise LimitExceeded(
            f"{image.width:,} x {image.height:,} pixels; at most {max_pixels:,} are read",
            code="image_too_large",
        )
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":
        raise DecodeError(f"holds {frames} frames; write one file a frame", code="image_frames")
    return image


def _eight_bit(image: Image.Image, channels: int) -> Image.Image:
    if image.mode == "F":
        raise DecodeError("floating-point pixels are not read; write 8 or 16 bits", code="image_unreadable")
    image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        page = Image.new("RGBA", image.size, "white")
        page.alpha_composite(image)
        image = page
    return image.convert("L" if channels == 1 else "RGB")


def _grey_16(image: Image.Image) -> Image.Image:
    image = ImageOps.exif_transpose(image)
    return Image.fromarray(np.asarray(image).astype(np.float32))


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
            return ImageOps.pad(image, size, filter_)
