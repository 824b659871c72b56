"""The work of a bulk run cut into shares, which processes score that have only the folders in common."""

import json
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from elbound.errors import ConfigError, DataError
from elbound.scorer import Scorer
from training.score.inputs import Input
from training.score.parts import Parts
from training.score.results import BulkSummary
from training.score.run import BulkRun, score_input

PIECES_A_SHARE = 16
"""As many rows as pyarrow puts in a row group; what a share leaves out of one is decoded again by the next."""


@dataclass(frozen=True)
class Share:
    """Pieces `start`, `start + step`, ... below `stop` of the input number `place`.

    `before` is the number of items in all inputs before it.
    """

    place: int
    before: int
    start: int
    step: int = 1
    stop: int = sys.maxsize

    @property
    def numbers(self) -> range:
        return range(self.start, self.stop, self.step)


def cut(count: int | None, inputs: int, *, place: int, before: int, size: int, workers: int) -> list[Share]:
    """The shares of an input of `count` items, one of so many `inputs`, for so many `workers`.

    Neighbouring pieces make a share where the count is known: nothing else has to be read then. Else each share
    reads the whole input, and there are more than one only where workers would have none. The last share
    has no end: it finds out how many pieces there are.
    """
    if count is None:
        step = max(1, workers // inputs)
        return [Share(place, before, start, step) for start in range(step)]
    pieces = -(-count // size)
    length = max(1, min(PIECES_A_SHARE, pieces // workers))
    starts = range(0, max(1, pieces), length)
    ends = [*starts[1:], sys.maxsize]
    return [Share(place, before, start, stop=stop) for start, stop in zip(starts, ends, strict=True)]


@dataclass(frozen=True)
class Job:
    """What a worker is told once: a bulk run, which is scored with the bundle at `bundle` as `folder` sees it."""

    bundle: Path
    alpha: float
    guarantee: float | None
    heatmaps: Path | None
    piece_items: int
    inputs: Sequence[Input]
    parts: Parts
    folder: Path

    def shares(self, workers: int) -> tuple[list[Share], int]:
        """What is left to do, for so many `workers`, and how many items are not because they are done."""
        left: list[Share] = []
        passed = before = 0
        for place, one in enumerate(self.inputs):
            count = self.parts.finished_items(place)
            if count is not None:
                passed += count
            else:
                count = one.items()
                for share in cut(
                    count, len(self.inputs), place=place, before=before, size=self.piece_items, workers=workers
                ):
                    if share.stop == sys.maxsize or any(self.parts.wanted(place, number) for number in share.numbers):
                        left.append(share)
                    else:
                        passed += len(share.numbers) * self.piece_items
            before += count or 0  # is for heat maps, and the images of an input are always counted
        return left, passed


class ShareScorer:
    """Scores shares of a job in a worker's process; a share that was scored in part or whole is not scored again."""

    def __init__(self, job: Job, device: str) -> None:
        self.job = job
        self.device = device
        self._seen: set[int] = set()
        with suppress(OSError):  # paths that are not relative need no folder, and those that are will be missed
            os.chdir(job.folder)

    @cached_property
    def _run(self) -> BulkRun:
        """With the bundle loaded. Raises ConfigError where this worker does not see what the plan names."""
        job = self.job
        if not job.bundle.exists():
            raise _unseen(job.bundle)
        scorer = Scorer.from_bundle(job.bundle, device=self.device)
        run = BulkRun(scorer, job.alpha, job.guarantee, job.heatmaps, job.piece_items)
        if self._plan["bundle"] != run.plan([])["bundle"]:
            raise _unseen(job.bundle)
        return run

    @cached_property
    def _plan(self) -> dict[str, object]:
        try:
            return self.job.parts.plan()
        except ConfigError as error:
            raise _unseen(self.job.parts.out) from error

    def _input(self, place: int) -> Input:
        """Raises ConfigError where this worker does not see it as the plan says."""
        one = self.job.inputs[place]
        if place not in self._seen:
            planned = self._plan["inputs"]
            assert isinstance(planned, list)
            try:
                facts = one.facts()
            except DataError as error:
                raise _unseen(one.file) from error
            if facts != planned[place]:
                raise _unseen(one.file)
            self._seen.add(place)
        return one

    def __call__(self, row: dict[str, int]) -> Iterator[dict[str, int | str]]:
        """Score the share that is `row`; yields the number of items of each of its pieces, and what was found."""
        share, parts = Share(**row), self.job.parts
        run, one = self._run, self._input(share.place)

        def wanted(number: int) -> bool:
            return self._is_ours(share, number) and parts.counts(share.place, number) is None

        for piece, scored in score_input(run, parts, share.place, one, share.before, wanted):
            if piece.number in share.numbers:
                found = scored
                if found is None and self._is_ours(share, piece.number):
                    found = parts.counts(share.place, piece.number)
                yield {"items": piece.n, "found": json.dumps(None if found is None else found.to_dict())}
            if piece.number + 1 >= share.stop:
                return

    def _is_ours(self, share: Share, number: int) -> bool:
        return number in share.numbers and self.job.parts.wanted(share.place, number)


def found_of(row: dict[str, int | str]) -> tuple[int, BulkSummary | None]:
    """The number of items and what was found, of a row that a `ShareScorer` yielded."""
    found = json.loads(str(row["found"]))
    return int(row["items"]), None if found is None else BulkSummary.from_dict(found)


def rows_of(shares: Sequence[Share]) -> list[dict[str, int]]:
    """As a `ShareScorer` takes them."""
    return [asdict(share) for share in shares]


def _unseen(path: Path) -> ConfigError:
    return ConfigError(
        f"a worker on {platform.node()} does not see {path} as this command does: bundle, inputs and --out must be "
        "on paths that every worker sees",
        where=str(path),
    )
