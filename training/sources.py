"""What a path holds, as the items that `fit_detector` takes: a table or decoded images."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
from torch import Tensor

from elbound.data.imagefiles import ImageFiles, decode_images, image_files, infer_image_schema, is_image_name
from elbound.data.infer import infer_schema
from elbound.data.readers import read_table, table_suffix
from elbound.data.schema import MAX_IMAGE_SIDE, IgnoredColumn, ImageSchema, TableSchema, list_names, read_schema
from elbound.errors import ConfigError, DataError, SchemaError
from elbound.fit.image_defaults import largest_side
from training.config import DataConfig


@dataclass(frozen=True)
class Source:
    """Items to train on, their schema, the group of each (or None) and what the user should be told."""

    items: pa.Table | Tensor
    schema: TableSchema | ImageSchema
    groups: Sequence[str] | None = None
    warnings: list[str] = field(default_factory=list)


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
    return _images(config, mode) if holds_images(config.path) else _table(config)


def _table(config: DataConfig) -> Source:
    if config.image_size is not None:
        raise ConfigError("--image-size is for images; the data are a table", where="data.image_size")
    table = read_table(config.path)
    groups = None
    exclude = config.exclude
    if config.split_by is not None:
        if config.split_by not in table.column_names:
            raise SchemaError(f"--split-by: there is no column {config.split_by!r}", where=config.split_by)
        groups = [str(value) for value in table.column(config.split_by).to_pylist()]
        exclude = (*exclude, *(() if config.split_by in exclude else (config.split_by,)))
    if config.schema_file is None:
        inferred = infer_schema(table, exclude=exclude, id_column=config.id)
        return Source(table, inferred.schema, groups, inferred.warnings)
    schema = read_schema(config.schema_file)
    if not isinstance(schema, TableSchema):
        raise SchemaError(f"{config.schema_file} describes images; the data are a table", where="data.schema_file")
    return Source(table, _completed(schema, table, exclude, config), groups)


def _completed(schema: TableSchema, table: pa.Table, exclude: tuple[str, ...], config: DataConfig) -> TableSchema:
    """The schema written by hand, with the data's other columns as ignored ones."""
    id_column = config.id or schema.id_column
    absent = [name for name in (*exclude, *((config.id,) if config.id else ())) if name not in table.column_names]
    if absent:
        raise SchemaError(
            f"no such columns: {list_names(absent)}; the data have {list_names(table.column_names)}",
            where=absent[0],
        )
    columns = tuple(column for column in schema.columns if column.name not in exclude and column.name != id_column)
    if not columns:
        raise SchemaError(f"{config.schema_file}: no column is left to score", where=str(config.schema_file))
    named = {column.name for column in columns} | {column.name for column in schema.ignored}
    others = [name for name in table.column_names if name not in named and name != id_column]
    reasons = {name: "excluded by hand" if name in exclude else "not in the schema file" for name in others}
    ignored = tuple(IgnoredColumn(name=name, reason=reason) for name, reason in reasons.items())
    completed = TableSchema(columns=columns, ignored=(*schema.ignored, *ignored), id_column=id_column)
    completed.check_names(table.column_names, where=str(config.schema_file))
    return completed


def _images(config: DataConfig, mode: str) -> Source:
    for name in ("exclude", "id"):
        if getattr(config, name):
            raise ConfigError(f"--{name} is for columns of a table; the data are images", where=f"data.{name}")
    files = image_files(config.path)
    groups = None
    if config.split_by is not None:  # before the images are decoded: a slip is told at once
        groups = dict(zip(files.names, _groups(config.split_by, files.names), strict=True))
    schema = _image_schema(files, config, mode)
    decoded = decode_images(files, schema, max_bad_share=config.max_bad_share)
    warnings = [f"skipped {name}: {reason}" for name, reason in decoded.skipped.items()]
    return Source(decoded.x, schema, None if groups is None else [groups[name] for name in decoded.names], warnings)


def _image_schema(files: ImageFiles, config: DataConfig, mode: str) -> ImageSchema:
    if config.schema_file is None:
        if config.image_size is not None and not all(1 <= side <= MAX_IMAGE_SIDE for side in config.image_size):
            raise ConfigError(
                f"--image-size must be from 1 to {MAX_IMAGE_SIDE:,} pixels a side. Got {config.image_size} instead",
                where="data.image_size",
            )
        return infer_image_schema(
            files, image_size=config.image_size, resize=config.resize, max_side=largest_side(mode)
        )
    if config.image_size is not None:
        raise ConfigError("--image-size and --schema both say the size; give one of them", where="data.image_size")
    schema = read_schema(config.schema_file)
    if not isinstance(schema, ImageSchema):
        raise SchemaError(f"{config.schema_file} describes a table; the data are images", where="data.schema_file")
    return schema


def _groups(pattern: str, names: Sequence[str]) -> list[str]:
    """The group of each file name: the pattern's first group, or its whole match. Raises ConfigError, DataError."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"--split-by is not a regular expression: {error}", where="data.split_by") from error
    groups = []
    for name in names:
        found = compiled.search(name)
        group = None if found is None else found.group(1 if compiled.groups else 0)
        if group is None:
            raise DataError(f"--split-by {pattern!r} does not match the file name {name!r}", where=name)
        groups.append(group)
    return groups
