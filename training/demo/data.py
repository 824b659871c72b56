"""Real data that install with scikit-learn, written as a user would have them: PNG files and CSV tables."""

import csv
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

SEED = 0
HELD_OUT = 0.3
NORMAL_DIGITS = (0, 1, 2, 3, 4)
MISSING_SHARE = 0.02


def write_digits(folder: Path) -> Path:
    """scikit-learn's 1,797 digits (8 x 8, UCI): `train/` and `test/normal/` of 0 to 4, `test/anomalous/` of 5 to 9."""
    from sklearn.datasets import load_digits

    shutil.rmtree(folder, ignore_errors=True)
    images, labels = load_digits(return_X_y=True)
    pixels = np.rint(images.reshape(-1, 8, 8) * 255 / 16).astype(np.uint8)
    normal = np.isin(labels, NORMAL_DIGITS)
    held_out = np.random.default_rng(SEED).random(len(labels)) < HELD_OUT
    for i, picture in enumerate(pixels):
        part = "test/anomalous" if not normal[i] else "test/normal" if held_out[i] else "train"
        (folder / part).mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / part / f"{labels[i]}_{i:04d}.png")
    return folder


def write_cancer(folder: Path) -> Path:
    """scikit-learn's breast-cancer table (Wisconsin, UCI): benign rows in `train.csv` and `test_normal.csv`.

    A categorical column `size` is cut from the tumour's mean area, and a few cells are left empty at random:
    real tables have both.
    """
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    draw = np.random.default_rng(SEED)
    names = [name.replace(" ", "_") for name in data.feature_names]
    area = data.data[:, names.index("mean_area")]
    size = np.array(["small", "medium", "large"])[np.digitize(area, np.quantile(area, [1 / 3, 2 / 3]))]
    empty = draw.random(data.data.shape) < MISSING_SHARE
    held_out = draw.random(len(size)) < HELD_OUT
    benign = data.target == 1
    parts = {"train": benign & ~held_out, "test_normal": benign & held_out, "test_anomalous": ~benign}
    folder.mkdir(parents=True, exist_ok=True)
    for part, rows in parts.items():
        with (folder / f"{part}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow([*names, "size"])
            for i in np.flatnonzero(rows):
                cells = ("" if gap else f"{value:g}" for value, gap in zip(data.data[i], empty[i], strict=True))
                writer.writerow([*cells, size[i]])
    return folder
