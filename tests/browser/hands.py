"""What a person does to the page, and what they do it with."""

import io
from pathlib import Path

import numpy as np
import pyarrow.csv
from PIL import Image

from tests.conftest import mixed_table, squares

HOSTILE = "<img src=x onerror=alert(1)>"


def png(pixels: np.ndarray) -> bytes:
    held = io.BytesIO()
    Image.fromarray(pixels).save(held, "PNG")
    return held.getvalue()


def parts(n: int, *, odd: int = 8) -> list[bytes]:
    """Normal images as PNG, each `odd`-th with a patch that no normal has."""
    drawn = squares(n, seed=7)
    for image in drawn[odd - 1 :: odd]:
        image[1:7, 6:11] = 255
        image[9:11, 1:4] = 0
    return [png(image) for image in drawn]


def csv_rows(n: int = 60) -> str:
    """Normal rows, then two that are not; the last has markup for a value."""
    held = io.BytesIO()
    pyarrow.csv.write_csv(mixed_table(n, seed=5), held)
    return f'{held.getvalue().decode()}0.5,1.0,60.0,true,north\n0.1,0.2,40.0,false,"{HOSTILE}"\n'


def drop(page, *paths: Path) -> None:  # type: ignore[no-untyped-def]
    """Drop files or folders from the disk onto the page, as a hand does."""
    hand = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        hand.send("Input.dispatchDragEvent", {"type": kind, "x": 600, "y": 200, "data": data})


def paste(page, text: str) -> None:  # type: ignore[no-untyped-def]
    page.click("#open-paste")
    page.fill("#paste", text)
    page.click("#paste-form button[type=submit]")
