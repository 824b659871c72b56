"""What a path holds, as the items that `fit_detector` takes: a table or decoded images."""

import zipfile
from pathlib import Path

from elbound.data.folders import is_hidden, visible_files
from elbound.data.imagefiles import is_image_name
from elbound.data.readers import table_suffix
from elbound.data.schema import list_names
from elbound.errors import DataError, UnsupportedMedia
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
    files = visible_files(path)
    images = sum(is_image_name(file.name) for file in files)
    tables = sum(table_suffix(file) is not None for file in files)
    if not images and not tables:
        raise DataError(
            f"{path} holds neither tables (CSV, Parquet, Arrow, NDJSON) nor images (PNG, JPEG, WebP, BMP, TIFF)",
            where=str(path),
        )
    return images > tables


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
    return read_images(config, mode) if holds_images(config.path) else read_rows(config)
