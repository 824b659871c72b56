"""Heat maps and images as PNG: at their own size for programs, enlarged and laid over each other for people."""

import io

import numpy as np
from PIL import Image

SHOWN_SIDE = 224
"""Smaller images are enlarged by a whole factor to about this, or nobody sees the colours."""

EVIDENT_TIMES = 2.0
OPACITY = 0.75


def png(pixels: np.ndarray) -> bytes:
    """Pixels `(height, width[, 3 or 4])` uint8 at their own size, hardly compressed: images are small and many."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def heat_layer(heat: np.ndarray) -> np.ndarray:
    """A map `(height, width)` in colour, `(height, width, 4)` uint8, to be laid over the image.

    What is common among normal pixels is transparent; from 1 on yellow comes up and turns to red at `EVIDENT_TIMES`.
    """
    return _coloured(_level(heat))


def overlay(pixels: np.ndarray, heat: np.ndarray) -> bytes:
    """A PNG for people of one image `(height, width[, 3])` uint8 under its map `(height, width)`, both enlarged."""
    factor = shown_factor(heat.shape)
    size = (heat.shape[1] * factor, heat.shape[0] * factor)
    level = np.asarray(Image.fromarray(_level(heat)).resize(size, Image.Resampling.BILINEAR))
    page = Image.fromarray(pixels).convert("RGBA").resize(size, Image.Resampling.NEAREST)
    page.alpha_composite(Image.fromarray(_coloured(level)))
    buffer = io.BytesIO()
    page.convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


def shown_factor(size: tuple[int, ...]) -> int:
    """By which whole number an image of `size` is enlarged for people."""
    return max(1, SHOWN_SIDE // max(size))


def _level(heat: np.ndarray) -> np.ndarray:
    """0 where a pixel is common, 1 where it is evidently odd."""
    return np.clip((heat - 1) / (EVIDENT_TIMES - 1), 0, 1).astype(np.float32)


def _coloured(level: np.ndarray) -> np.ndarray:
    layer = np.empty((*level.shape, 4), dtype=np.uint8)
    layer[..., 0] = 255
    layer[..., 1] = np.rint(220 * (1 - level))
    layer[..., 2] = 0
    layer[..., 3] = np.rint(255 * OPACITY * np.minimum(1, 2 * level))
    return layer
