"""What a path holds, as the items that `fit_detector` takes: a table or decoded images."""

from pathlib import Path

from elbound.data.imagefiles import is_image_name
from elbound.data.readers import table_suffix
from elbound.errors import DataError
from training.config import DataConfig
from training.inputs.images import read_images
from training.inputs.source import Source
from training.inputs.tables import read_rows


def holds_images(path: Path) -> bool:
    """Whether `path` is a zip, an image or a folder with more images than tables. Raises DataError."""
    if not path.exists():
        raise DataError(f"{path} does not exist", where=str(path))
    if path.is_file():
        return path.suffix.lower() == ".zip" or is_image_name(path.name)
    files = [file for file in path.rglob("*") if file.is_file()]
    images = sum(is_image_name(file.name) for file in files)
    tables = sum(table_suffix(file) is not None for file in files)
    if not images and not tables:
        raise DataError(
            f"{path} holds neither tables (CSV, Parquet, Arrow, NDJSON) nor images (PNG, JPEG, WebP, BMP, TIFF)",
            where=str(path),
        )
    return images > tables


def read_source(config: DataConfig, *, mode: str = "auto") -> Source:
    """Read and decode everything at `config.path`; `mode` says how large images need be.

    Raises DataError, SchemaError, ConfigError.
    """
    return read_images(config, mode) if holds_images(config.path) else read_rows(config)
