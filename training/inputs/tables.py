"""A table to train on: its rows, the schema that they have or are given, and their groups."""

import pyarrow as pa

from elbound.data.groups import cell_groups
from elbound.data.infer import infer_schema
from elbound.errors import ConfigError, SchemaError
from elbound.files.readers import read_table
from elbound.schema import IgnoredColumn, TableSchema, list_names, read_schema
from training.config import DataConfig
from training.inputs.source import Source


def read_rows(config: DataConfig) -> Source:
    """The table at `config.path`. Raises DataError, SchemaError, ConfigError."""
    if config.image_size is not None:
        raise ConfigError("--image-size is for images; the data are a table", where="data.image_size")
    read = read_table(config.path)
    table = read.table
    groups = None
    exclude = config.exclude
    if config.split_by is not None:
        groups = [str(value) for value in _column(table, config.split_by, "--split-by").to_pylist()]
        exclude = (*exclude, *(() if config.split_by in exclude else (config.split_by,)))
    if config.schema_file is None:
        inferred = infer_schema(
            table, exclude=exclude, include=config.include, id_column=config.id, delimiter=read.delimiter
        )
        grouped = inferred.schema.model_copy(update={"group_by": config.group_by})
        return Source(
            inferred.table,
            grouped,
            groups,
            _labels(table, grouped),
            warnings=[*read.warnings, *inferred.warnings],
            doubts=[*read.doubts, *inferred.doubts],
        )
    if config.include:
        raise ConfigError(
            "--include and --schema both say what is scored; name the columns in the schema file", where="data.include"
        )
    schema = read_schema(config.schema_file)
    if not isinstance(schema, TableSchema):
        raise SchemaError(f"{config.schema_file} describes images; the data are a table", where="data.schema_file")
    completed = _completed(schema, table, exclude, config)
    named = {column.name for column in schema.columns} | {column.name for column in schema.ignored}
    left = [column.name for column in completed.ignored if column.name not in named and column.name not in exclude]
    said = [f"columns that {config.schema_file} does not name are left out: {list_names(left)}"] if left else []
    return Source(table, completed, groups, _labels(table, completed), [*read.warnings, *said], read.doubts)


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
