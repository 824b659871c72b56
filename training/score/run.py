"""A bulk run: every wanted piece of every input is scored, and its results are written before the next is read."""

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from elbound.calibration.results import result_table
from elbound.errors import ConfigError, DataError
from elbound.scorer import Scorer
from training.score.heatmaps import write_heatmaps
from training.score.inputs import Input
from training.score.parts import Parts
from training.score.pieces import Piece, input_pieces, items_a_piece
from training.score.results import FORMATS, BulkSummary, OneFile

OUT_SUFFIXES = tuple(f".{kind}" for kind in FORMATS)


@dataclass(frozen=True)
class BulkRun:
    """What is done with every item."""

    scorer: Scorer
    alpha: float
    guarantee: float | None = None
    heatmaps: Path | None = None
    piece_items: int | None = None
    """Rows or images of a piece; None takes as many as memory bears."""

    @property
    def size(self) -> int:
        return self.piece_items or items_a_piece(self.scorer)

    def score(self, piece: Piece, first_row: int) -> tuple[pa.Table, BulkSummary]:
        """The results of a piece whose first item is the row `first_row` of all; maps of its anomalies are drawn."""
        scorer, items = self.scorer, piece.items
        assert items is not None
        scored = scorer.score_items(items)
        decisions = scorer.calibration.decide(scored, self.alpha, self.guarantee)
        found = BulkSummary(
            items=items.n,
            anomalies=int(decisions.is_anomaly.sum()),
            errors=len(items.errors),
            failures=int(piece.failure is not None),
            unseen=items.unseen,
        )
        if self.heatmaps is not None:
            found.heatmaps = _draw(scorer, piece, decisions.is_anomaly, first_row, self.heatmaps)
        rows = result_table(items, scored, decisions, scorer.calibration.item_groups, start=piece.start)
        return rows.add_column(0, "file", pa.array([piece.file] * items.n, pa.string())), found

    def plan(self, inputs: Sequence[Input]) -> dict[str, object]:
        """What must be the same when a run is continued."""
        manifest = self.scorer.manifest
        return {
            "bundle": {"name": manifest.name, "version": manifest.version, "digest": manifest.digest},
            "alpha": self.alpha,
            "guarantee": self.guarantee,
            "piece_items": self.size,
            "heatmaps": None if self.heatmaps is None else str(self.heatmaps),
            "inputs": [one.facts() for one in inputs],
        }


@dataclass
class Progress:
    """Items `found` in this run so far, and the number of those `passed` over: done before, or others' share."""

    found: BulkSummary
    passed: int = 0

    def add(self, items: int, found: BulkSummary | None) -> None:
        """Count a piece of so many `items`, which was passed over where nothing was `found`."""
        if found is None:
            self.passed += items
        else:
            self.found += found


def score_to_file(run: BulkRun, inputs: Sequence[Input], out: Path) -> Generator[Progress]:
    """Score every item of `inputs` into the file `out`; yields the counts so far after each piece.

    An item that cannot be read becomes a row with its error, and so does a whole file. `out` appears when all
    is done. Raises the error of the first input where no item of any could be read, DataError where `out` cannot
    be written.
    """
    progress = Progress(BulkSummary())
    results = OneFile(out)
    first: DataError | None = None
    try:
        for one in inputs:
            for piece in _read_ahead(input_pieces(run.scorer, one, piece_items=run.size)):
                table, found = run.score(piece, progress.found.items)
                results.write(table)
                progress.found += found
                first = first or piece.failure
                yield progress
        if first is not None and progress.found.nothing_read:
            raise first
        results.finish()
    finally:
        results.discard()


def score_to_parts(run: BulkRun, inputs: Sequence[Input], parts: Parts, *, resume: bool) -> Generator[Progress]:
    """Score this partition's share of `inputs` that is not done yet; yields the counts so far after each piece.

    Raises ConfigError where the folder is that of another run, DataError where it cannot be written.
    """
    parts.open(run.plan(inputs), resume=resume)
    progress = Progress(BulkSummary())
    before = 0
    for place, one in enumerate(inputs):
        items = parts.finished_items(place)
        if items is None:
            items = 0
            for piece, found in score_input(run, parts, place, one, before, partial(parts.wanted, place)):
                progress.add(piece.n, found)
                items += piece.n
                yield progress
        else:
            progress.passed += items
            yield progress
        before += items


def score_input(
    run: BulkRun, parts: Parts, place: int, one: Input, before: int, wanted: Callable[[int], bool]
) -> Iterator[tuple[Piece, BulkSummary | None]]:
    """Score the `wanted` pieces of one input. `place` is its number among the inputs, and `before` the number of items
    in all inputs before it.

    Yields each piece with its summary once its results are written; with None where the piece was not wanted.
    """
    items = count = 0
    for piece in _read_ahead(input_pieces(run.scorer, one, piece_items=run.size, wanted=wanted)):
        found = None
        if piece.items is not None:
            table, found = run.score(piece, before + piece.start)
            parts.write(place, piece.number, table, found)
        items, count = items + piece.n, piece.number + 1
        yield piece, found
    parts.end_input(place, count, items)


def check_out(out: Path, paths: Sequence[Path]) -> None:
    """Raise ConfigError before the work, not after it."""
    if out.suffix.lower() not in OUT_SUFFIXES:
        raise ConfigError(
            f"--out must end in one of {', '.join(OUT_SUFFIXES)}, or in / for a folder of parts. "
            f"Got {out.name!r} instead",
            where="out",
        )
    if not out.absolute().parent.is_dir():
        raise ConfigError(f"--out: there is no folder {out.absolute().parent}", where="out")
    if out.resolve() in {path.resolve() for path in paths}:
        raise ConfigError(f"--out is one of the files to score: {out}", where="out")


def check_folder(out: Path, paths: Sequence[Path]) -> None:
    """Raise ConfigError where the results would be scored by the next run."""
    for path in paths:
        if path.is_dir() and out.resolve().is_relative_to(path.resolve()):
            raise ConfigError(f"--out: {out} lies in {path}, which is scored; the next run would score it", where="out")


def _read_ahead(pieces: Iterator[Piece]) -> Iterator[Piece]:
    """The same pieces; while one is scored, the next is read."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, pieces, None)
        while (piece := coming.result()) is not None:
            coming = pool.submit(next, pieces, None)
            yield piece


def _draw(scorer: Scorer, piece: Piece, is_anomaly: np.ndarray, first_row: int, heatmaps: Path) -> int:
    """Draw the anomalies of a piece whose first item is the row `first_row` of the results; says how many."""
    items = piece.items
    assert items is not None
    index = items.index[is_anomaly]
    names = ["" if items.names is None else items.names[i] for i in index]
    return write_heatmaps(scorer, items.x[torch.from_numpy(is_anomaly)], names, first_row + index, heatmaps)
