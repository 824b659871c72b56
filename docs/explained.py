"""The explained row and the explained image of `docs/explain.md`: `ELBOUND_DATA=DIR make explained`.

Trains a detector of the wines and one of fashion pictures, and runs `elbound explain` on an anomaly of each.
"""

import io
import os
import re
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
from PIL import Image
from rich.console import Console

from benchmarks.detection.images import pasted
from elbound import VAEDetector
from elbound.scorer import Scorer
from training import console
from training.explain import command
from training.explain.choice import Which

PAGE = Path(__file__).parent / "explain.md"
PICTURE = Path(__file__).parent / "explained" / "image.png"
WINE = (
    "alcohol", "malic_acid", "ash", "alcalinity_of_ash", "magnesium", "total_phenols", "flavanoids",
    "nonflavanoid_phenols", "proanthocyanins", "colour_intensity", "hue", "od280_od315", "proline",
)  # fmt: skip
WIDTH = 118
PICTURES, PATCHED = 1500, 40


def main() -> None:
    data = Path(os.environ["ELBOUND_DATA"])
    with tempfile.TemporaryDirectory() as folder:
        row = explained_row(data, Path(folder))
        shutil.copyfile(explained_image(data, Path(folder)), PICTURE)
    page = re.sub(r"(?s)(<!-- row -->\n```text\n).*?(```\n)", lambda m: m[1] + row + m[2], PAGE.read_text())
    PAGE.write_text(page)


def explained_row(data: Path, folder: Path) -> str:
    """What is printed of the wine of another vineyard that scores highest."""
    with np.load(data / "tables" / "wine.npz") as arrays:
        X, y = arrays["X"].astype(float), arrays["y"]
    scorer = VAEDetector(alpha=0.05, random_state=0).fit(wines(X[y == 0])).scorer_
    scorer.save(folder / "wine")
    pyarrow.csv.write_csv(wines(X[y == 1]), folder / "wines.csv")
    shown = Console(file=io.StringIO(), width=WIDTH, highlight=False)
    console.console.file, console.console.width = shown.file, WIDTH
    run(folder / "wine", folder / "wines.csv", Which(every=False, places=(), most=1), folder)
    assert isinstance(shown.file, io.StringIO)
    return "\n".join(line.rstrip() for line in shown.file.getvalue().rstrip().splitlines()) + "\n"


def explained_image(data: Path, folder: Path) -> Path:
    """The picture of a garment with a patch of another one on it: the highest score of some."""
    with np.load(data / "images" / "fashion.npz") as arrays:
        train, test = arrays["train"][:PICTURES], arrays["test"][:PATCHED]
    scorer: Scorer = VAEDetector(alpha=0.05, random_state=0).fit(train).scorer_
    scorer.save(folder / "fashion")
    (folder / "garments").mkdir()
    for i, image in enumerate(pasted(test, 0)[0]):
        Image.fromarray(image).save(folder / "garments" / f"{i}.png")
    run(folder / "fashion", folder / "garments", Which(every=False, places=(), most=1), folder / "drawn")
    (picture,) = (folder / "drawn").iterdir()
    return picture


def wines(X: np.ndarray) -> pa.Table:
    return pa.table(dict(zip(WINE, X.T, strict=True)))


def run(bundle: Path, file: Path, which: Which, out: Path) -> None:
    command.explain_file(bundle, file, which, top=6, out=out, as_json=False, device="cpu")


if __name__ == "__main__":
    main()
