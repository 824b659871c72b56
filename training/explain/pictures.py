"""An explained image as one picture: the image, its heat map with the strongest regions, what the model made
of it, and what would be normal."""

import base64
import io
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from elbound.explain.pictures import overlay, shown_factor

LABEL_HEIGHT, GAP = 16, 8
PAPER, INK, BOX = "white", "black", "cyan"


class Panel(NamedTuple):
    """One part of the picture and the words above it."""

    label: str
    image: Image.Image


def image_picture(
    pixels: np.ndarray,
    heat: np.ndarray,
    explanation: Mapping[str, object],
    fired: Mapping[str, object] | None,
    counterfactual: Mapping[str, object] | None,
) -> bytes:
    """A PNG of one explained image `(height, width[, 3])` uint8; the documents are those of `elbound.explain`."""
    factor = shown_factor(heat.shape)
    size = (heat.shape[1] * factor, heat.shape[0] * factor)
    regions = explanation["regions"]
    assert isinstance(regions, list)
    panels = [
        Panel("image", _enlarged(Image.fromarray(pixels), size)),
        Panel("where it is odd, nats", _boxed(overlay(pixels, heat), regions, factor)),
    ]
    if isinstance(explanation["reconstruction"], str):
        panels.append(Panel("the model's image", _enlarged(_decoded(explanation["reconstruction"]), size)))
    nearest = [] if fired is None else fired.get("nearest") or []
    assert isinstance(nearest, list)
    panels += [Panel("nearest training image", _enlarged(_decoded(one["image"]), size)) for one in nearest[:1]]
    if counterfactual is not None:
        assert isinstance(counterfactual["image"], str)
        label = "what would be normal" if counterfactual["found"] else "the least odd that was found"
        panels.append(Panel(label, _enlarged(_decoded(counterfactual["image"]), size)))
    return _beside_each_other(panels)


def _boxed(png: bytes, regions: list[dict[str, object]], factor: int) -> Image.Image:
    page = Image.open(io.BytesIO(png)).convert("RGB")
    draw = ImageDraw.Draw(page)
    for region in regions:
        assert isinstance(region["box"], list)
        left, top, width, height = (factor * side for side in region["box"])
        draw.rectangle((left, top, left + width - 1, top + height - 1), outline=BOX)
        draw.text((left + 3, top + 2), f"{region['share']:.0f}", fill=BOX, stroke_fill=INK, stroke_width=1)
    return page


def _beside_each_other(panels: list[Panel]) -> bytes:
    width = sum(panel.image.width for panel in panels) + GAP * (len(panels) - 1)
    page = Image.new("RGB", (width, LABEL_HEIGHT + panels[0].image.height), PAPER)
    draw = ImageDraw.Draw(page)
    left = 0
    for panel in panels:
        draw.text((left, 2), panel.label, fill=INK)
        page.paste(panel.image, (left, LABEL_HEIGHT))
        left += panel.image.width + GAP
    buffer = io.BytesIO()
    page.save(buffer, "PNG")
    return buffer.getvalue()


def _enlarged(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image.convert("RGB").resize(size, Image.Resampling.NEAREST)


def _decoded(png: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(png)))
