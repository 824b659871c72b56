"""What a person does to the page, and what they do it with."""

import io
import time
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


def until(page, script: str, timeout_s: float = 10) -> None:  # type: ignore[no-untyped-def]
    """Wait for an expression to be true; the browser's own way to wait evaluates text, which the policy forbids."""
    deadline = time.monotonic() + timeout_s
    while not page.evaluate(script):
        assert time.monotonic() < deadline, script
        page.wait_for_timeout(30)


def ready(page) -> None:  # type: ignore[no-untyped-def]
    """Wait until a model is there to be asked."""
    until(page, "document.getElementById('alpha').max > 0")


def scored(page, n: int) -> dict[str, str]:  # type: ignore[no-untyped-def]
    """Wait until the page is done with its `n` items; those in view, what is said of each by its name."""
    until(page, f"document.getElementById('progress-text').textContent.startsWith('{n:,} items: ')", 40)
    until(page, "!document.querySelector('.is-waiting')")
    shown, before = _shown(page), None
    while shown != before:  # the list draws what is in view a frame after the progress
        page.wait_for_timeout(60)
        shown, before = _shown(page), shown
    return shown


def _shown(page) -> dict[str, str]:  # type: ignore[no-untyped-def]
    parts = "item => ['name', 'say'].map(part => item.querySelector(`.item-${part}`).innerText)"
    return dict(page.locator("#items .item").evaluate_all(f"items => items.map({parts})"))


def paste(page, text: str) -> None:  # type: ignore[no-untyped-def]
    page.click("#open-paste")
    page.fill("#paste", text)
    page.click("#paste-form button[type=submit]")
