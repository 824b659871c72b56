"""What a path holds, as the items that `fit_detector` takes: a table or decoded images."""

import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

from elbound.errors import DataError, UnsupportedMedia
from elbound.files.folders import is_hidden
from elbound.files.images import PassedOver, hidden_part, is_image_name, listed
from elbound.files.readers import table_suffix
from elbound.schema import list_names
from training.config import DataConfig
from training.inputs.images import read_images
from training.inputs.source import Source
from training.inputs.tables import read_rows


def holds_images(path: Path) -> bool:
    """Whether `path` is a zip, an image or a folder with more images than tables. Raises DataError."""
    if not path.exists():
        raise DataError(f"{path} does not exist", where=str(path))
    if path.is_file():
        if path.suffix.lower() == ".zip":
            _refuse_zipped_tables(path)
            return True
        return is_image_name(path.name)
    images, tables, others = _contents(path)
    if not images and not tables:
        passed_over = PassedOver(dict(Counter(Path(name).suffix.lower() for name in others).most_common()))
        raise DataError(
            f"{path} holds neither tables (CSV, Parquet, Arrow, NDJSON) nor images (PNG, JPEG, WebP, BMP, TIFF)"
            + "".join(f"; {sentence}" for sentence in passed_over.sentences()),
            where=str(path),
        )
    return len(images) > len(tables)


def _refuse_zipped_tables(path: Path) -> None:
    """Raise UnsupportedMedia where a zip holds tables and no images; a broken one fails where it is read."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if not any(map(is_hidden, Path(name).parts))]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return
    tables = [name for name in names if table_suffix(Path(name)) is not None]
    if tables and not any(map(is_image_name, names)):
        raise UnsupportedMedia(
            f"{path} is a zip of tables ({list_names(tables)}), which is not read: unpack it and name the file, or "
            "the folder of files",
            where=str(path),
        )


def read_source(config: DataConfig, *, mode: str = "auto") -> Source:
    """Read and decode everything at `config.path`; `mode` says how large images need be.

    Raises DataError, SchemaError, ConfigError.
    """
    if holds_images(config.path):
        source, taken, left = read_images(config, mode), "images", "tables"
    else:
        source, taken, left = read_rows(config), "tables", "images"
    images, tables, _ = _contents(config.path)
    if not images or not tables:
        return source
    names = tables if left == "tables" else images
    mixed = (
        f"{config.path} holds images ({len(images):,}) and tables ({len(tables):,}): its {taken} train, "
        f"and its {left} are passed over ({listed(names)}); name a file or a folder of one kind to train on that"
    )
    return replace(source, warnings=[mixed, *source.warnings])


def _contents(path: Path) -> tuple[list[str], list[str], list[str]]:
    """The names of a folder's images, of its tables and of its other files; none that is hidden, and none of a file."""
    found = sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
    names = [name for name in found if hidden_part(name) is None]
    images = [name for name in names if is_image_name(name)]
    tables = [name for name in names if table_suffix(Path(name)) is not None]
    return images, tables, sorted({*names} - {*images} - {*tables})
