"""`elbound score`: where the results go, what is shown meanwhile, and what is said at the end."""

import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from elbound.bundle.signature import Trust
from elbound.calibration.conformal import check_alpha, check_guarantee
from elbound.errors import ConfigError, DataError, MissingExtra
from elbound.scorer import Scorer
from training.console import console, scoring_progress, warn
from training.score.heatmaps import make_folder
from training.score.inputs import expand, find_inputs, total_items
from training.score.parts import SUCCESS, Partition, Parts
from training.score.results import FORMATS, BulkSummary
from training.score.run import BulkRun, Progress, check_folder, check_out, score_to_file, score_to_parts

if TYPE_CHECKING:
    from training.score.cluster import Cluster

ENGINES = ("local", "ray")


@dataclass(frozen=True)
class Output:
    """One file, or with `kind` a folder of parts of that format."""

    path: Path
    kind: str | None = None
    resume: bool = False
    partition: Partition = field(default_factory=Partition)

    @classmethod
    def choose(cls, out: str, *, kind: str | None, resume: bool, partition: str | None) -> "Output":
        """A folder where `out` ends in a slash or is one. Raises ConfigError for options that do not belong."""
        path = Path(out)
        if out.endswith("/") or path.is_dir():
            if kind is not None and kind not in FORMATS:
                raise ConfigError(f"--format must be one of {', '.join(FORMATS)}. Got {kind!r} instead", where="format")
            share = Partition() if partition is None else Partition.parse(partition)
            return cls(path, kind or "parquet", resume, share)
        for flag, given in (("--format", kind), ("--resume", resume or None), ("--partition", partition)):
            if given is not None:
                raise ConfigError(
                    f"{flag} is for results in a folder; --out {out} is one file (a folder ends in /)", where="out"
                )
        return cls(path)

    def check(self, paths: Sequence[Path]) -> None:
        """Raise ConfigError before the work, not after it."""
        if self.kind is None:
            check_out(self.path, paths)
        else:
            check_folder(self.path, paths)


def choose_cluster(engine: str, ray_address: str | None) -> "Cluster | None":
    """Where the work is done; None is this process. Raises ConfigError, MissingExtra."""
    if engine not in ENGINES:
        raise ConfigError(f"--engine must be one of {', '.join(ENGINES)}. Got {engine!r} instead", where="engine")
    if engine == "local":
        if ray_address is not None:
            raise ConfigError("--ray-address is for --engine ray", where="ray_address")
        return None
    try:
        from training.score.cluster import Cluster
    except ImportError as error:
        raise MissingExtra("--engine ray needs Ray: pip install 'elbound[ray]'", where="engine") from error
    return Cluster.find(ray_address)


def score_files(
    bundle: Path,
    files: Sequence[Path],
    output: Output,
    *,
    heatmaps: Path | None = None,
    alpha: float | None = None,
    guarantee: float | None = None,
    device: str = "auto",
    piece_items: int | None = None,
    cluster: "Cluster | None" = None,
    trust: Trust | None = None,
) -> None:
    """Score `files` under a progress bar, then say what was found and where the results are. Raises ElboundError."""
    if cluster is not None and output.kind is None:
        raise ConfigError(
            f"--engine ray leaves results in a folder; --out {output.path} is one file (a folder ends in /)",
            where="out",
        )
    paths = expand(files)
    output.check(paths)
    scorer = Scorer.from_bundle(bundle, device=device if cluster is None else "cpu", trust=trust)
    alpha = check_alpha(alpha) if alpha is not None else scorer.alpha
    guarantee = check_guarantee(guarantee) if guarantee is not None else scorer.guarantee
    if heatmaps is not None:
        make_folder(scorer, heatmaps, paths)
    if (silent := scorer.unresolved(alpha, guarantee)) is not None:
        warn(silent)
    inputs = find_inputs(scorer, paths)
    for sentence in (sentence for one in inputs for sentence in one.passed_over()):
        warn(sentence)
    run = BulkRun(scorer, alpha, guarantee, heatmaps, piece_items)
    if output.kind is None:
        found, seconds = _watch(score_to_file(run, inputs, output.path), total_items(inputs))
        _conclude(run, found, seconds, f"wrote {output.path}")
        return
    parts = Parts(output.path, output.kind, output.partition)
    if cluster is None:
        steps = score_to_parts(run, inputs, parts, resume=output.resume)
    else:
        steps = cluster.score(run, inputs, parts, resume=output.resume, bundle=bundle, device=device)
    found, seconds = _watch(steps, total_items(inputs))
    whole = parts.finish(len(inputs))
    if whole is None:
        _conclude(run, found, seconds, f"wrote to {output.path}, where other partitions have parts to add")
        return
    if whole.nothing_read:
        raise DataError(f"no item of any input could be read; the errors are in {output.path}", where=str(output.path))
    _conclude(run, found, seconds, f"all {whole.items:,} items are in {output.path} ({SUCCESS} says what was found)")


def _watch(steps: Generator[Progress], total: int | None) -> tuple[BulkSummary, float]:
    """Run to the end; what was found, and seconds."""
    started = time.monotonic()
    found = BulkSummary()
    with scoring_progress(total) as say, closing(steps):
        for progress in steps:
            found = progress.found
            say(found.items, progress.passed)
    return found, time.monotonic() - started


def _conclude(run: BulkRun, found: BulkSummary, seconds: float, where: str) -> None:
    drawn = "" if run.heatmaps is None else f" and {found.heatmaps:,} heat maps to {run.heatmaps}"
    console.print(
        f"{found.items:,} items: {found.anomalies:,} anomalies at alpha = {run.alpha:g}, {found.errors:,} errors, "
        f"{found.items / max(seconds, 1e-9):,.0f} items a second; {where}{drawn}",
        markup=False,
        soft_wrap=True,
    )
    for column, count in found.unseen.items():
        warn(f"column {column!r}: {count:,} values that training never saw")
