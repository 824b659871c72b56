"""Results in parts: a folder with one file for each piece, a plan of the whole, and a summary when all is there.

`_plan.json` pins what is scored with what. A piece is done when its part is there; the counts of a part are
written before it. Every file is written beside its place and renamed, so a run may be killed at any moment and
several runs may fill one folder side by side.
"""

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from elbound.bundle import replace_file
from elbound.errors import ConfigError, DataError
from training.score.results import BulkSummary, encode, writing

PLAN, COUNTS, SUCCESS = "_plan.json", "_counts", "_SUCCESS"
PLAN_VERSION = 1
ADVICE = "; what is finished stays: continue with the same command and --resume"


@dataclass(frozen=True)
class Partition:
    """The share `index` of `count` of all pieces."""

    index: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> "Partition":
        """From `i/n`. Raises ConfigError."""
        index, _, count = text.partition("/")
        if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
            raise ConfigError(
                f"--partition must be i/n with 0 <= i < n, as in 0/4. Got {text!r} instead", where="partition"
            )
        return cls(int(index), int(count))

    def has(self, place: int, number: int) -> bool:
        """Whether the piece `number` of the input at `place` is in this share."""
        return (place + number) % self.count == self.index


class Parts:
    """The folder `out` of a run's results in parts of the format `kind`."""

    def __init__(self, out: Path, kind: str, partition: Partition) -> None:
        self.out = out
        self.kind = kind
        self.partition = partition
        self._advice = ADVICE
        self._done: set[str] = set()

    def open(self, plan: dict[str, object], *, resume: bool) -> None:
        """Make the folder with its plan, or join the one that is there. Raises ConfigError, DataError.

        Without `resume` the folder must be empty, or hold the same plan and no part of this partition, which is
        one of several.
        """
        plan = {"plan_version": PLAN_VERSION, **plan, "format": self.kind}
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            held = {path.name for path in self.out.iterdir()}
        except OSError as error:
            raise ConfigError(f"--out: {self.out} cannot be made: {error.strerror}", where="out") from error
        if held and PLAN not in held and not all(_is_left_over(name) for name in held):
            raise ConfigError(f"--out: {self.out} holds files that are no results of this command", where="out")
        if PLAN in held and not resume and self.partition.count == 1:
            raise ConfigError(f"--out: {self.out} holds results; --resume continues them", where="out")
        with writing(self.out / PLAN):
            (self.out / COUNTS).mkdir(exist_ok=True)
            _create(self.out / PLAN, json.dumps(plan, indent=1).encode())
        self._check_plan(plan)
        self._done = {path.name for path in self.out.iterdir() if path.name.startswith("part-")}
        if not resume and any(self.partition.has(*_place(name)) for name in self._done):
            raise ConfigError(
                f"--out: {self.out} holds results of partition {self.partition.index}/{self.partition.count}; "
                "--resume continues them",
                where="out",
            )

    def plan(self) -> dict[str, object]:
        """The plan that the folder holds. Raises ConfigError."""
        try:
            found = json.loads((self.out / PLAN).read_bytes())
        except (OSError, ValueError) as error:
            raise ConfigError(f"--out: {self.out / PLAN} cannot be read: {error}", where="out") from error
        return found if isinstance(found, dict) else {}

    def _check_plan(self, plan: dict[str, object]) -> None:
        found = self.plan()
        expected = json.loads(json.dumps(plan))
        for name, value in expected.items():
            before = found.get(name)
            if before != value:
                raise ConfigError(
                    f"--out: {self.out} was begun with another {name.replace('_', ' ')}: {_difference(before, value)}; "
                    "take another folder, or the settings it was begun with",
                    where="out",
                )

    def wanted(self, place: int, number: int) -> bool:
        """Whether a piece is in this run's share and was not done before it."""
        return self.partition.has(place, number) and self._part(place, number) not in self._done

    def counts(self, place: int, number: int) -> BulkSummary | None:
        """What was found in a piece, where its part is there by now."""
        if not (self.out / self._part(place, number)).exists():
            return None
        return self._counts(place, number)

    def finished_items(self, place: int) -> int | None:
        """The items of an input of which nothing is left to do here; None where something is."""
        end = self._read(f"{place:05d}.json")
        if end is None or any(self.wanted(place, number) for number in range(int(str(end["pieces"])))):
            return None
        return int(str(end["items"]))

    def write(self, place: int, number: int, table: pa.Table, found: BulkSummary) -> None:
        """Leave the results of a piece. Raises DataError where the disk does not take them."""
        part = self._part(place, number)
        data = encode(self.kind, table)
        with writing(self.out / part, self._advice):
            replace_file(self.out / COUNTS / f"{place:05d}-{number:06d}.json", json.dumps(found.to_dict()).encode())
            replace_file(self.out / part, data)

    def end_input(self, place: int, pieces: int, items: int) -> None:
        """Note how many pieces and items an input has."""
        name = f"{place:05d}.json"
        if self._read(name) is None:
            with writing(self.out / COUNTS / name, self._advice):
                replace_file(self.out / COUNTS / name, json.dumps({"pieces": pieces, "items": items}).encode())

    def finish(self, inputs: int) -> BulkSummary | None:
        """Where every part of all partitions is there, the summary of all, which is left in the folder."""
        present = {path.name for path in self.out.iterdir()}
        total = BulkSummary()
        parts = 0
        for place in range(inputs):
            end = self._read(f"{place:05d}.json")
            if end is None:
                return None
            for number in range(int(str(end["pieces"]))):
                counts = self._counts(place, number)
                if counts is None or self._part(place, number) not in present:
                    return None
                total += counts
                parts += 1
        self._sweep()
        if not total.nothing_read:
            with writing(self.out / SUCCESS, self._advice):
                replace_file(self.out / SUCCESS, json.dumps({**total.to_dict(), "parts": parts}, indent=1).encode())
        return total

    def _sweep(self) -> None:
        """Remove what killed runs left half written."""
        for folder in (self.out, self.out / COUNTS):
            for path in folder.glob(".*.partial"):
                if SUCCESS not in path.name:  # another run may be at its end, too
                    path.unlink(missing_ok=True)

    def _part(self, place: int, number: int) -> str:
        return f"part-{place:05d}-{number:06d}.{self.kind}"

    def _counts(self, place: int, number: int) -> BulkSummary | None:
        values = self._read(f"{place:05d}-{number:06d}.json")
        return None if values is None else BulkSummary.from_dict(values)

    def _read(self, name: str) -> dict[str, object] | None:
        path = self.out / COUNTS / name
        try:
            values = json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise DataError(f"{path} cannot be read: {error}", where=str(path)) from error
        if not isinstance(values, dict):
            raise DataError(f"{path} is not what this command writes", where=str(path))
        return values


def _place(part: str) -> tuple[int, int]:
    place, _, number = part.partition(".")[0].removeprefix("part-").partition("-")
    return int(place), int(number)


def _is_left_over(name: str) -> bool:
    """Whether a run that was killed before it had a plan left it."""
    return name == COUNTS or (name.startswith(".") and name.endswith(".partial"))


def _create(path: Path, data: bytes) -> None:
    """Write a whole file where there is none; of several processes one does."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        replace_file(beside, data)
        os.link(beside, path)
    except FileExistsError:
        pass
    finally:
        beside.unlink(missing_ok=True)


def _difference(before: object, now: object) -> str:
    """Where two values of a plan differ: the values, or the first entry of a list or an object that does."""
    if isinstance(before, list) and isinstance(now, list):
        if len(before) != len(now):
            return f"{len(before):,} then, {len(now):,} now"
        return next(_difference(a, b) for a, b in zip(before, now, strict=True) if a != b)
    return f"{_short(before)} then, {_short(now)} now"


def _short(value: object) -> str:
    return json.dumps(value)[:200]
