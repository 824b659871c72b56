"""Images to train on: the files, the size and colours of the model, and their groups."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from elbound.data.image import decode_image
from elbound.errors import ConfigError, DataError, SchemaError
from elbound.files.images import (
    ImageFiles,
    about,
    decode_images,
    image_files,
    infer_image_schema,
    listed,
)
from elbound.fit.image_defaults import largest_side
from elbound.schema import MAX_IMAGE_SIDE, ImageSchema, read_schema
from elbound.schema.patterns import match_names
from training.config import DataConfig
from training.inputs.folder import Findings, look_at_names, look_at_pictures
from training.inputs.layout import Layout, find_layout
from training.inputs.source import KnownItems, Source

MOST_KNOWN = 4_000
"""Pictures that evaluate; of more, as many spread evenly."""


def read_images(config: DataConfig, mode: str) -> Source:
    """The images at `config.path`, decoded and looked at; of MVTec's layout `train/good`, and the rest evaluates.

    Raises DataError, SchemaError, ConfigError.
    """
    for name in ("exclude", "include", "id"):
        if getattr(config, name):
            raise ConfigError(f"--{name} is for columns of a table; the data are images", where=f"data.{name}")
    everything = image_files(config.path)
    layout = find_layout(everything.names)
    files = everything if layout is None else replace(everything, names=tuple(layout.train))
    groups = None
    if config.split_by is not None:  # before the images are decoded: a slip is told at once
        groups = dict(zip(files.names, _groups(config.split_by, files.names), strict=True))
    schema = _grouped(_image_schema(files, config, mode), config.group_by, files.names)
    decoded = decode_images(files, schema, max_bad_share=config.max_bad_share)
    readable = replace(files, names=tuple(decoded.names))
    names = look_at_names(readable) if layout is None else _look_at_layout(layout, config)
    pictures = look_at_pictures(decoded, schema, split_by=config.split_by)
    skipped = [f"skipped {about(name, reason)}" for name, reason in decoded.skipped.items()]
    source = Source(
        decoded.x,
        schema,
        groups=None if groups is None else [groups[name] for name in decoded.names],
        item_groups=None if schema.group_by is None else match_names(schema.group_by, decoded.names),
        warnings=[*files.passed_over.sentences(), *skipped, *names.warnings, *pictures.warnings],
        doubts=[*names.doubts, *pictures.doubts],
        notes=[] if layout is None else [layout.sentence()],
    )
    return source if layout is None else _with_known(source, everything, layout, schema)


def _look_at_layout(layout: Layout, config: DataConfig) -> Findings:
    found = Findings()
    if len(layout.roots) > 1:
        found.doubts.append(
            f"{config.path} holds {len(layout.roots)} data sets in MVTec's layout ({listed(layout.roots)}): train on "
            f"one of them, as in {config.path / layout.roots[0]}"
        )
    if layout.elsewhere:
        found.warnings.append(
            f"{layout.elsewhere.total():,} images neither train nor evaluate, since MVTec's layout has no such "
            f"folders: {listed(layout.elsewhere)}"
        )
    return found


def _with_known(source: Source, files: ImageFiles, layout: Layout, schema: ImageSchema) -> Source:
    """With the images of `test` and their masks; what cannot be read is a warning."""
    kinds: dict[str, str | None] = dict.fromkeys(layout.good)
    kinds |= {name: kind for kind, names in layout.defects.items() for name in names}
    names, warnings = list(kinds), list(source.warnings)
    if len(names) > MOST_KNOWN:
        warnings.append(f"of {len(names):,} images of test {MOST_KNOWN:,} evaluate, spread evenly")
        names = [names[i] for i in np.linspace(0, len(names) - 1, MOST_KNOWN).astype(int)]
    try:
        decoded = decode_images(replace(files, names=tuple(names)), schema, max_bad_share=1)
    except DataError as error:
        return replace(source, warnings=[*warnings, f"test does not evaluate the model: {error.message}"])
    warnings += [f"skipped {about(name, reason)}" for name, reason in decoded.skipped.items()]
    masks: dict[int, np.ndarray] = {}
    for place, name in enumerate(decoded.names):
        try:
            if name in layout.masks:
                masks[place] = np.any([_mask(files.read(one), schema) for one in layout.masks[name]], axis=0)
        except (DataError, OSError) as error:
            warnings.append(f"skipped the mask of {about(name, error)}")
    groups = None if schema.group_by is None else match_names(schema.group_by, decoded.names)
    known = KnownItems(decoded.x, [kinds[name] for name in decoded.names], masks, groups)
    return replace(source, warnings=warnings, known=known)


def _mask(data: bytes, schema: ImageSchema) -> np.ndarray:
    """Where the defect is, `(height, width)` at the size of the events; white, or whatever value the mask has."""
    levels = decode_image(data, schema.model_copy(update={"channels": 1, "bits": 8}))[0]
    defect: np.ndarray = levels > levels.max() / 2
    return defect


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
        labels = match_names(pattern, names)
    except ValueError as error:
        raise ConfigError(f"--group-by: {error}", where="data.group_by") from error
    if all(label is None for label in labels):
        raise DataError(f"--group-by {pattern!r} matches no file name, as in {names[0]!r}", where=names[0])
    return schema.model_copy(update={"group_by": pattern})


def _groups(pattern: str, names: Sequence[str]) -> list[str]:
    """The group of each file name: the pattern's first group, or its whole match. Raises ConfigError, DataError."""
    try:
        labels = match_names(pattern, names)
    except ValueError as error:
        raise ConfigError(f"--split-by: {error}", where="data.split_by") from error
    groups = [label for label in labels if label is not None]
    if len(groups) < len(labels):
        name = names[labels.index(None)]
        raise DataError(f"--split-by {pattern!r} does not match the file name {name!r}", where=name)
    return groups
