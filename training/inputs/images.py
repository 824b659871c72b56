"""Images to train on: the files, the size and colours of the model, and their groups."""

import re
from collections.abc import Sequence

from elbound.data.groups import name_groups
from elbound.data.imagefiles import ImageFiles, decode_images, image_files, infer_image_schema
from elbound.data.schema import MAX_IMAGE_SIDE, ImageSchema, read_schema
from elbound.errors import ConfigError, DataError, SchemaError
from elbound.fit.image_defaults import largest_side
from training.config import DataConfig
from training.inputs.source import Source


def read_images(config: DataConfig, mode: str) -> Source:
    """The images at `config.path`, decoded. Raises DataError, SchemaError, ConfigError."""
    for name in ("exclude", "include", "id"):
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
