"""The items of the inputs as tensors, a bounded number at a time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from elbound.calibration.calibration import ScoredItems
from elbound.data.items import TensorItems
from elbound.data.raw import RawTable
from elbound.errors import DataError, DecodeError, ItemError, SchemaError, UnsupportedMedia
from elbound.files.images import ImageFiles
from elbound.files.readers import check_suffix
from elbound.files.streams import table_pieces
from elbound.scorer import Scorer
from training.console import warn
from training.score.inputs import Input, find_inputs

IMAGES_A_PIECE = 256
ROWS_A_PIECE = 65_536
CELLS_A_PIECE = 1 << 22


@dataclass(frozen=True)
class Piece:
    """Some items of one input, the piece `number` of it, counted from 0; `start` is the place of the first item.

    `items` is None where the piece was not wanted. `failure` is why it could not be read: it is then one item with
    that error.
    """

    file: str
    number: int
    start: int
    n: int
    items: TensorItems | None = None
    failure: DataError | None = None


def items_a_piece(scorer: Scorer) -> int:
    """Rows or images that are held in memory at once."""
    if scorer.table is None:
        return IMAGES_A_PIECE
    return max(1, min(ROWS_A_PIECE, CELLS_A_PIECE // len(scorer.table.schema.names)))


def input_pieces(
    scorer: Scorer, one: Input, *, piece_items: int, wanted: Callable[[int], bool] = lambda _: True
) -> Iterator[Piece]:
    """The items of an input. What a piece holds does not depend on which others are `wanted`.

    An input that fails as a whole, or breaks off, ends with a piece of one item that carries the error.
    """
    number = start = 0
    try:
        if one.failure is not None:
            raise one.failure
        found = (
            _image_pieces(scorer, one.images, piece_items, wanted)
            if one.images is not None
            else _table_pieces(scorer, one, piece_items, wanted)
        )
        for piece in found:
            yield piece
            number, start = piece.number + 1, piece.start + piece.n
    except DataError as error:
        yield (
            _failed(scorer, one.file, error, number, start)
            if wanted(number)
            else Piece(str(one.file), number, start, 1)
        )


def all_items(scorer: Scorer, path: Path, failures: list[DataError]) -> Iterator[TensorItems]:
    """All items at `path`, a file or a folder, piece by piece; what fails as a whole joins `failures`.

    Warns of the files that are passed over.
    """
    for one in find_inputs(scorer, [path]):
        for sentence in one.passed_over():
            warn(sentence)
        for piece in input_pieces(scorer, one, piece_items=items_a_piece(scorer)):
            if piece.failure is not None:
                failures.append(piece.failure)
            assert piece.items is not None
            yield piece.items


def score_path(scorer: Scorer, path: Path) -> tuple[ScoredItems, int]:
    """All readable items at `path`, scored, and how many could not be read; DataError where none could."""
    failures: list[DataError] = []
    parts, unreadable = [], 0
    for items in all_items(scorer, path, failures):
        parts.append(scorer.raw_scores(items.x))
        unreadable += len(items.errors)
    scores = np.concatenate(parts)
    if len(scores) == 0:
        raise failures[0] if failures else DataError(f"{path} holds no readable items", where=str(path))
    return scorer.calibration.judge(dict(zip(scorer.detector.score_names, scores.T, strict=True))), unreadable


def _failed(scorer: Scorer, file: Path, error: DataError, number: int, start: int) -> Piece:
    message = error.message if str(file) in error.message else f"{file}: {error.message}"
    failure = type(error)(message, code=error.code, where=error.where)
    item = ItemError(message, code=error.code, where=error.where)
    nothing = torch.empty((0, *scorer.schema.event), dtype=scorer.golden.dtype)
    items = TensorItems(nothing, np.empty(0, dtype=np.int64), 1, {0: item})
    return Piece(str(file), number, start, 1, items, failure)


def _table_pieces(scorer: Scorer, one: Input, rows: int, wanted: Callable[[int], bool]) -> Iterator[Piece]:
    file = one.file
    try:
        check_suffix(file)
    except UnsupportedMedia as unread:
        raise SchemaError(f"{scorer.name} scores rows of a table. {unread.message}", where=str(file)) from unread

    def check(head: pa.Table) -> None:
        scorer.to_tensor(RawTable(table=head))

    pieces = table_pieces(file, rows=rows, wanted=wanted, check=check, partitions=one.partitions)
    for number, found in enumerate(pieces):
        error = found.error
        if error is None:
            try:
                items = None if found.raw is None else scorer.to_tensor(found.raw)
            except DataError as raised:
                error = raised
        if error is not None:
            yield _failed(scorer, file, error, number, found.start)
        else:
            yield Piece(str(file), number, found.start, found.n, items)


def _image_pieces(scorer: Scorer, files: ImageFiles, images: int, wanted: Callable[[int], bool]) -> Iterator[Piece]:
    for number, start in enumerate(range(0, len(files.names), images)):
        names = files.names[start : start + images]
        items = _read_images(scorer, files, names) if wanted(number) else None
        yield Piece(str(files.path), number, start, len(names), items)


def _read_images(scorer: Scorer, files: ImageFiles, names: tuple[str, ...]) -> TensorItems:
    data, broken = [], {}
    for i, name in enumerate(names):
        try:
            data.append(files.read(name))
        except (DecodeError, OSError) as error:
            data.append(b"")
            broken[i] = ItemError(str(error), code="image_unreadable", where=name)
    items = scorer.images_to_tensor(data, names=names)
    items.errors.update(broken)
    return items
