"""Scoring files with a bundle, piece by piece, into one CSV, Parquet or NDJSON file."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import torch

from elbound.bundle import replace_file
from elbound.calibration.calibration import POOLED, CalibrationGroups, Decisions, ScoredItems
from elbound.data.imagefiles import ImageFiles, image_files
from elbound.data.items import TensorItems
from elbound.data.readers import parse_file, table_files, table_suffix
from elbound.data.schema import ImageSchema
from elbound.errors import ConfigError, DataError, DecodeError, ItemError, SchemaError
from elbound.scorer import Scorer
from training.heatmaps import write_heatmaps

IMAGES_A_PIECE = 256
ROWS_A_PIECE = 65_536
OUT_SUFFIXES = (".csv", ".parquet", ".ndjson")


@dataclass
class BulkSummary:
    items: int = 0
    anomalies: int = 0
    errors: int = 0
    heatmaps: int = 0
    unseen: Counter[str] = field(default_factory=Counter)
    """Categories that training had not seen, by column."""


@dataclass(frozen=True)
class Piece:
    """Some items of one file; `start` is the place of the first in it, `names` are for people."""

    file: str
    start: int
    items: TensorItems


def score_files(
    scorer: Scorer,
    paths: list[Path],
    out: Path,
    *,
    alpha: float,
    guarantee: float | None = None,
    heatmaps: Path | None = None,
) -> Iterator[BulkSummary]:
    """Score every item of `paths` into `out`; yields the counts so far after each piece.

    With `heatmaps`, a folder, each anomalous image is drawn there under its heat map as soon as it is scored.
    An item that cannot be read becomes a row with its error, and so does a whole file. `out` appears when all
    is done. Raises the error of the first file where no item of any could be read, ConfigError for `out`.
    """
    check_out(out, paths)
    summary = BulkSummary()
    tables = []
    failures: list[DataError] = []
    for path in paths:
        for piece in pieces(scorer, path, failures):
            scored = scorer.score_items(piece.items)
            decisions = scorer.calibration.decide(scored, alpha, guarantee)
            is_anomaly = decisions.is_anomaly
            tables.append(_rows(piece, scored, decisions, scorer.calibration.item_groups))
            if heatmaps is not None:
                summary.heatmaps += _draw(scorer, piece, is_anomaly, summary.items, heatmaps)
            summary.items += piece.items.n
            summary.errors += len(piece.items.errors)
            summary.anomalies += int(is_anomaly.sum())
            summary.unseen += piece.items.unseen
            yield summary
    if failures and summary.items == summary.errors:
        raise failures[0]
    _write(pa.concat_tables(tables), out)


def check_out(out: Path, paths: Sequence[Path]) -> None:
    """Raise ConfigError before the work, not after it."""
    if out.suffix.lower() not in OUT_SUFFIXES:
        raise ConfigError(f"--out must end in one of {', '.join(OUT_SUFFIXES)}. Got {out.name!r} instead", where="out")
    if not out.absolute().parent.is_dir():
        raise ConfigError(f"--out: there is no folder {out.absolute().parent}", where="out")
    if out.resolve() in {path.resolve() for path in paths}:
        raise ConfigError(f"--out is one of the files to score: {out}", where="out")


def pieces(scorer: Scorer, path: Path, failures: list[DataError]) -> Iterator[Piece]:
    """The items at `path` (a file or a folder) as tensors, a bounded number at a time.

    A file that fails as a whole is one item with its error, which joins `failures`; the other files of a folder
    are unharmed.
    """
    try:
        images = image_files(path) if isinstance(scorer.schema, ImageSchema) else None
        files = [path] if images is not None else table_files(path)
    except DataError as error:
        failures.append(error)
        yield _failed(scorer, path, error)
        return
    for file in files:
        try:
            yield from _image_pieces(scorer, images) if images is not None else _table_pieces(scorer, file)
        except DataError as error:
            message = error.message if str(file) in error.message else f"{file}: {error.message}"
            failures.append(type(error)(message, code=error.code, where=error.where))
            yield _failed(scorer, file, failures[-1])


def _failed(scorer: Scorer, file: Path, error: DataError) -> Piece:
    item = ItemError(error.message, code=error.code, where=error.where)
    nothing = torch.empty((0, *scorer.schema.event), dtype=scorer.golden.dtype)
    return Piece(str(file), 0, TensorItems(nothing, np.empty(0, dtype=np.int64), 1, {0: item}))


def _table_pieces(scorer: Scorer, file: Path) -> Iterator[Piece]:
    if table_suffix(file) is None:
        raise SchemaError(f"{scorer.name} scores rows of a table. {file} is none of the table formats", where=str(file))
    raw = parse_file(file)
    if raw.bad or raw.table is None:  # places must be kept: one piece
        yield Piece(str(file), 0, scorer.to_tensor(raw))
        return
    for start in range(0, max(1, raw.table.num_rows), ROWS_A_PIECE):
        yield Piece(str(file), start, scorer.to_tensor(raw.table.slice(start, ROWS_A_PIECE)))


def _image_pieces(scorer: Scorer, files: ImageFiles) -> Iterator[Piece]:
    for start in range(0, len(files.names), IMAGES_A_PIECE):
        names = files.names[start : start + IMAGES_A_PIECE]
        data, broken = [], {}
        for i, name in enumerate(names):
            try:
                data.append(files.read(name))
            except (DecodeError, OSError) as error:
                data.append(b"")
                broken[i] = ItemError(str(error), code="image_unreadable", where=name)
        items = scorer.images_to_tensor(data, names=names)
        items.errors.update(broken)
        yield Piece(str(files.path), start, items)


def _draw(scorer: Scorer, piece: Piece, is_anomaly: np.ndarray, first_row: int, heatmaps: Path) -> int:
    """Draw the anomalies of a piece whose first item is the row `first_row` of the results; says how many."""
    index = piece.items.index[is_anomaly]
    names = ["" if piece.items.names is None else piece.items.names[i] for i in index]
    return write_heatmaps(scorer, piece.items.x[torch.from_numpy(is_anomaly)], names, first_row + index, heatmaps)


def _rows(piece: Piece, scored: ScoredItems, decisions: Decisions, item_groups: CalibrationGroups | None) -> pa.Table:
    n, index = piece.items.n, pa.array(piece.items.index, pa.int64())
    places = np.full(n, -1)
    places[piece.items.index] = np.arange(len(index))
    take = pa.array(places, mask=places < 0)
    columns = {
        "is_anomaly": pa.array(decisions.is_anomaly),
        "p_value": pa.array(scored.p_value),
        "severity": pa.array(decisions.severity, mask=np.isnan(decisions.severity)),
        "score": pa.array(scored.score),
    }
    if decisions.conditional_p_value is not None:
        columns["conditional_p_value"] = pa.array(decisions.conditional_p_value)
    if item_groups is not None:
        columns["group"] = pa.array([None if i == POOLED else item_groups.names[i] for i in scored.group.tolist()])
    for name, values in scored.scores.items():
        columns[name] = pa.array(values)
        columns[f"{name}_p_value"] = pa.array(scored.p_values[name])
    errors = piece.items.errors
    names = piece.items.names
    return pa.table(
        {
            "file": pa.array([piece.file] * n, pa.string()),
            "index": pa.array(np.arange(piece.start, piece.start + n)),
            "name": pa.array([None] * n if names is None else list(names), pa.string()),
            **{name: values.take(take) for name, values in columns.items()},
            "error_code": pa.array([errors[i].code if i in errors else None for i in range(n)], pa.string()),
            "error": pa.array([errors[i].message if i in errors else None for i in range(n)], pa.string()),
        }
    )


def _write(table: pa.Table, out: Path) -> None:
    sink = pa.BufferOutputStream()
    match out.suffix.lower():
        case ".csv":
            pyarrow.csv.write_csv(table, sink)
        case ".parquet":
            pyarrow.parquet.write_table(table, sink)
        case ".ndjson":
            for row in table.to_pylist():
                sink.write(json.dumps(row, allow_nan=False).encode() + b"\n")
    try:
        replace_file(out, sink.getvalue().to_pybytes())
    except OSError as error:
        raise DataError(f"{out} could not be written: {error.strerror or error}", where=str(out)) from error


def score_path(scorer: Scorer, path: Path) -> tuple[ScoredItems, int]:
    """All readable items at `path`, scored, and how many could not be read; DataError where none could."""
    failures: list[DataError] = []
    found = list(pieces(scorer, path, failures))
    scores = np.concatenate([scorer.raw_scores(piece.items.x) for piece in found])
    if len(scores) == 0:
        raise failures[0] if failures else DataError(f"{path} holds no readable items", where=str(path))
    judged = scorer.calibration.judge(dict(zip(scorer.detector.score_names, scores.T, strict=True)))
    return judged, sum(len(piece.items.errors) for piece in found)
