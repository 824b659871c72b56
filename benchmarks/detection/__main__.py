"""python -m benchmarks.detection [PART ...]: measure, and render the report.

Parts: tables; images, which are shift, one-class, circuits, tiles and patches. Data from `ELBOUND_DATA`.
A stopped run goes on where it was: every result is a line of OUT/detection.jsonl and is not measured again.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmarks.detection import images, tables
from benchmarks.detection.measure import PARTS, run_job, start_worker
from benchmarks.detection.peers import IMAGE_PEERS
from benchmarks.detection.record import Line, Record, origin
from benchmarks.detection.report import render
from benchmarks.detection.task import Job
from benchmarks.tables import RESULTS

OPTIONAL_PEERS = {"autoencoder": "PyOD AutoEncoder", "vae": "PyOD VAE"}
ALWAYS = ("elbound", "elbound fast", "kNN", "LOF", "isolation forest", "PCA")
MODES = {"auto": "elbound", "pixels": "elbound pixels", "features": "elbound features"}
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def main(words: Sequence[str] | None = None) -> int:
    """Run what is not there yet; 1 where something failed."""
    asked = _parser().parse_args(words)
    record = Record(asked.out / "detection.jsonl")
    failed = 0
    if not asked.report:
        jobs = list(plan(asked, _data()))
        if not jobs:
            sys.exit("no part, set and method is of these names")
        if asked.fresh:
            record.forget(jobs)
        failed = run(_data(), jobs, record, workers=asked.workers)
    (asked.out / "detection.md").write_text(render(record.latest()))
    print(f"{asked.out / 'detection.md'} is written.")
    return 1 if failed else 0


def plan(asked: argparse.Namespace, data: Path) -> Iterator[Job]:
    """Every job that is asked for, set by set."""
    for part in _parts(asked.parts):
        found = tables.names(data) if part == "tables" else images.sets(part)
        seeds = asked.seeds or ((0, 1, 2) if part == "tables" else (0,))
        limit = asked.max_test if part == "tables" else asked.max_images
        for name in found:
            if asked.sets and name not in asked.sets:
                continue
            for seed in seeds:
                for method in methods_of(part, asked.peers, asked.modes):
                    if not asked.methods or method in asked.methods:
                        yield Job(part, name, seed, method, limit)


def methods_of(part: str, peers: Sequence[str], modes: Sequence[str]) -> list[str]:
    """The methods of one part, ours first."""
    if part == "tables":
        return [*ALWAYS, *(OPTIONAL_PEERS[name] for name in peers)]
    if part == "patches":
        return [MODES["pixels"]]
    return [*(MODES[mode] for mode in modes), *IMAGE_PEERS]


def run(data: Path, jobs: Sequence[Job], record: Record, *, workers: int = 1) -> int:
    """Measure what the record lacks, each worker on one core; the number of failures."""
    todo = [job for job in jobs if not record.is_done(job)]
    print(f"{len(jobs) - len(todo)} of {len(jobs)} results are there already.")
    os.environ.update(dict.fromkeys(THREADS, "1"))
    started, here, spent, failed = time.perf_counter(), origin(), dict[str, float](), 0
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=start_worker)
    with _progress() as progress, pool:
        task = progress.add_task("", total=len(todo))
        running = {pool.submit(run_job, data, job): job for job in todo}
        try:
            for future in as_completed(running):
                job = running[future]
                line = record.append(job, future.result(), here)
                spent[job.part] = spent.get(job.part, 0.0) + line["wall_s"]
                failed += "failed" in line
                progress.console.print(_said(job, line), highlight=False, soft_wrap=True)
                progress.advance(task)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    for part, seconds in spent.items():
        print(f"{part}: {seconds:,.0f} s of work")
    print(f"{len(todo)} results in {time.perf_counter() - started:,.0f} s with {workers} worker(s), {failed} failed.")
    return failed


def _said(job: Job, line: Line) -> str:
    where = f"{job.part} {job.set} seed {job.seed} {job.method}"
    if "failed" in line:
        return f"{where}: failed, {line['failed']}"
    shown = [next(iter(scores.values()))["auroc"] for scores in line["results"].values()]
    return f"{where}: AUROC {', '.join(f'{100 * one:.1f}' for one in shown)} in {line['wall_s']:.1f} s"


def _progress() -> Progress:
    return Progress(
        TextColumn("[progress.description]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )


def _parts(asked: Sequence[str]) -> list[str]:
    unknown = set(asked) - {*PARTS, "images"}
    if unknown:
        sys.exit(f"no part is called {', '.join(sorted(unknown))}; there are images, {', '.join(PARTS)}")
    wanted = {part for word in asked or PARTS for part in (PARTS[1:] if word == "images" else (word,))}
    return [part for part in PARTS if part in wanted]


def _data() -> Path:
    found = os.environ.get("ELBOUND_DATA")
    if not found:
        sys.exit("ELBOUND_DATA does not name the folder of real data sets")
    return Path(found)


def _listed(kind: Callable[[str], object], choices: Sequence[str] = ()) -> Callable[[str], list[object]]:
    """An argument with commas; an unknown name is refused."""

    def parse(text: str) -> list[object]:
        words = [word for word in text.split(",") if word]
        for word in words:
            if choices and word not in choices:
                raise argparse.ArgumentTypeError(f"{word!r} is none of {', '.join(choices)}")
        return [kind(word) for word in words]

    return parse


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.detection", description="Measure detection.")
    add = parser.add_argument
    add("parts", nargs="*", help="tables, images, " + ", ".join(PARTS[1:]) + "; all by default")
    add("--sets", type=_listed(str), default=[], help="only these, as glass,wine or fashion-3")
    add("--seeds", type=_listed(int), default=[], help="0,1,2 for tables and 0 for images by default")
    add("--methods", type=_listed(str), default=[], help="only these, by the names of the report")
    add("--peers", type=_listed(str, tuple(OPTIONAL_PEERS)), default=["autoencoder"], help="PyOD's: autoencoder,vae")
    add("--modes", type=_listed(str, tuple(MODES)), default=["auto"], help="ours on images: auto,pixels,features")
    add("--max-test", type=int, default=tables.MAX_TEST, help="the most test rows of a table")
    add("--max-images", type=int, default=0, help="the most training images, for a quick look; 0 is all")
    add("--workers", type=int, default=1, help="processes of one core each")
    add("--out", type=Path, default=RESULTS, help="the folder of detection.jsonl and detection.md")
    add("--fresh", action="store_true", help="measure again what is asked for")
    add("--report", action="store_true", help="only render the report")
    return parser


if __name__ == "__main__":
    sys.exit(main())
