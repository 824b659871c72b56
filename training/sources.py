"""What a path holds, as the items that `fit_detector` takes: a table or decoded images."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
from torch import Tensor

from elbound.data.groups import cell_groups, name_groups
from elbound.data.imagefiles import ImageFiles, decode_images, image_files, infer_image_schema, is_image_name
from elbound.data.infer import infer_schema
from elbound.data.readers import read_table, table_suffix
from elbound.data.schema import MAX_IMAGE_SIDE, IgnoredColumn, ImageSchema, TableSchema, list_names, read_schema
from elbound.errors import ConfigError, DataError, SchemaError
from elbound.fit.image_defaults import largest_side
from training.config import DataConfig


@dataclass(frozen=True)
class Source:
    """Items to train on, their schema and what the user should be told.

    `groups` are kept in one part of the split, `item_groups` get thresholds of their own.
    """

    items: pa.Table | Tensor
    schema: TableSchema | ImageSchema
    groups: Sequence[str] | None = None
    item_groups: Sequence[str | None] | None = None
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
        groups = [str(value) for value in _column(table, config.split_by, "--split-by").to_pylist()]
        exclude = (*exclude, *(() if config.split_by in exclude else (config.split_by,)))
    if config.schema_file is None:
        inferred = infer_schema(table, exclude=exclude, id_column=config.id)
        grouped = inferred.schema.model_copy(update={"group_by": config.group_by})
        return Source(table, grouped, groups, _labels(table, grouped), inferred.warnings)
    schema = read_schema(config.schema_file)
    if not isinstance(schema, TableSchema):
        raise SchemaError(f"{config.schema_file} describes images; the data are a table", where="data.schema_file")
    completed = _completed(schema, table, exclude, config)
    return Source(table, completed, groups, _labels(table, completed))


def _labels(table: pa.Table, schema: TableSchema) -> list[str | None] | None:
    """The calibration group of each row."""
    return None if schema.group_by is None else cell_groups(_column(table, schema.group_by, "--group-by"))


def _column(table: pa.Table, name: str, flag: str) -> pa.ChunkedArray:
    if name not in table.column_names:
        raise SchemaError(
            f"{flag}: there is no column {name!r}; the data have {list_names(table.column_names)}", where=name
        )
    return table.column(name)


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
    completed = TableSchema(
        columns=columns,
        ignored=(*schema.ignored, *ignored),
        id_column=id_column,
        group_by=config.group_by or schema.group_by,
    )
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
    schema = _grouped(_image_schema(files, config, mode), config.group_by, files.names)
    decoded = decode_images(files, schema, max_bad_share=config.max_bad_share)
    warnings = [f"skipped {name}: {reason}" for name, reason in decoded.skipped.items()]
    kept = None if groups is None else [groups[name] for name in decoded.names]
    labels = None if schema.group_by is None else name_groups(schema.group_by, decoded.names)
    return Source(decoded.x, schema, kept, labels, warnings)


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


def _grouped(schema: ImageSchema, pattern: str | None, names: Sequence[str]) -> ImageSchema:
    """The schema with `--group-by`; raises ConfigError, and DataError where not one file name matches."""
    pattern = pattern or schema.group_by
    if pattern is None:
        return schema
    try:
        labels = name_groups(pattern, names)
    except re.error as error:
        raise ConfigError(f"--group-by is not a regular expression: {error}", where="data.group_by") from error
    if all(label is None for label in labels):
        raise DataError(f"--group-by {pattern!r} matches no file name, as in {names[0]!r}", where=names[0])
    return schema.model_copy(update={"group_by": pattern})


def _groups(pattern: str, names: Sequence[str]) -> list[str]:
    """The group of each file name: the pattern's first group, or its whole match. Raises ConfigError, DataError."""
    try:
        labels = name_groups(pattern, names)
    except re.error as error:
        raise ConfigError(f"--split-by is not a regular expression: {error}", where="data.split_by") from error
    groups = [label for label in labels if label is not None]
    if len(groups) < len(labels):
        name = names[labels.index(None)]
        raise DataError(f"--split-by {pattern!r} does not match the file name {name!r}", where=name)
    return groups
