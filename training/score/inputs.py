"""What is to be scored: files, folders and patterns as a list of inputs that is read in the same order each time."""

import glob
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from elbound.errors import ConfigError, DataError
from elbound.files.images import ImageFiles, image_files
from elbound.files.parquet import parquet_rows
from elbound.files.partitions import Partitions, partitions_of
from elbound.files.readers import packed_suffix, passed_over_tables, table_files, table_suffix
from elbound.schema import ImageSchema
from elbound.scorer import Scorer
from training.console import warn

PATTERN_CHARACTERS = "*?["


@dataclass(frozen=True)
class Input:
    """A table file, or the images of a file, a folder or a zip; `failure` says why it cannot be opened.

    `partitions` are the columns in the names of the folders above a table.
    """

    file: Path
    images: ImageFiles | None = None
    failure: DataError | None = None
    partitions: Partitions = field(default_factory=dict)

    def facts(self) -> dict[str, object]:
        """Path, size in bytes and time of the last change in ns: of a folder of images, of all of them."""
        if self.failure is not None:
            return {"file": str(self.file), "error": self.failure.code}
        images = self.images
        members = [images.path / name for name in images.names] if images is not None and images.path.is_dir() else []
        try:
            stats = [member.stat() for member in members or [self.file]]
        except OSError as error:
            raise DataError(f"{self.file} cannot be read: {error.strerror}", where=str(self.file)) from error
        facts: dict[str, object] = {
            "file": str(self.file),
            "bytes": sum(stat.st_size for stat in stats),
            "mtime_ns": max(stat.st_mtime_ns for stat in stats),
        }
        if images is not None:
            names = "\0".join(images.names).encode()
            facts |= {"images": len(images.names), "names_sha256": hashlib.sha256(names).hexdigest()}
        return facts

    def passed_over(self) -> list[str]:
        """What of a folder or zip of images is not scored, in sentences that name the input."""
        return [] if self.images is None else [f"{self.file}: {one}" for one in self.images.passed_over.sentences()]

    def items(self) -> int | None:
        """How many items it holds, where that is known before it is read."""
        if self.failure is not None:
            return 1
        if self.images is not None:
            return len(self.images.names)
        if table_suffix(self.file) != ".parquet" or packed_suffix(self.file):
            return None
        try:
            return parquet_rows(self.file)
        except DataError:
            return 1  # its error


def find_inputs(scorer: Scorer, paths: Sequence[Path]) -> list[Input]:
    """The inputs at `paths`; one that is not there or holds nothing fails by itself."""
    return [found for path in paths for found in _inputs_at(scorer, path)]


def _inputs_at(scorer: Scorer, path: Path) -> list[Input]:
    try:
        if isinstance(scorer.schema, ImageSchema):
            return [Input(path, image_files(path))]
        schema = scorer.schema
        known = {*schema.names, *(column.name for column in schema.ignored), schema.id_column, schema.group_by}
        files = table_files(path)
        for note in passed_over_tables(path, files):
            warn(note)
        return [Input(file, partitions=partitions_of(file, known)) for file in files]
    except DataError as error:
        return [Input(path, failure=error)]


def total_items(inputs: Sequence[Input]) -> int | None:
    """How many items there are, where that is known before they are read."""
    counts = [one.items() for one in inputs]
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def expand(paths: Sequence[Path]) -> list[Path]:
    """`paths` with patterns replaced by the files that match, sorted. Raises ConfigError where none does."""
    found: list[Path] = []
    for path in paths:
        if path.exists() or not any(character in str(path) for character in PATTERN_CHARACTERS):
            found.append(path)
            continue
        matches = sorted(glob.glob(str(path), recursive=True))
        if not matches:
            raise ConfigError(f"no file matches {path}", where=str(path))
        found += map(Path, matches)
    return found
