"""What people see while they wait: a progress bar on a terminal, plain lines elsewhere; tables and warnings."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column, Table

from elbound.calibration.resolution import rounded_up
from elbound.fit.loop import Progress as FitProgress
from elbound.schema import ImageSchema, TableSchema
from elbound.scorer import Scorer

PLAIN_LINES = 20
PLAIN_SECONDS = 10.0
MAX_SHOWN_COLUMNS = 40

PLAIN_WIDTH = 140
STDERR = 2

console = Console(highlight=False)
if not console.is_terminal:
    console.width = PLAIN_WIDTH  # a log file or a pipe wraps nothing
complaints = Console(stderr=True, highlight=False)


def warn(message: str) -> None:
    complaints.print("[yellow]warning:[/] ", end="")
    complaints.print(message, markup=False, soft_wrap=True)


@contextmanager
def alone_on_terminal(logs: Path) -> Iterator[None]:
    """Only `console` is shown: whatever else this process prints goes to a file of its own in `logs`."""
    console.file = console.file  # the terminal itself, not what stdout happens to be
    kept = os.dup(STDERR)
    with (logs / f"elbound-{os.getpid()}.log").open("a") as log, redirect_stdout(log):
        os.dup2(log.fileno(), STDERR)
        try:
            yield
        finally:
            os.dup2(kept, STDERR)
            os.close(kept)


@contextmanager
def fit_progress() -> Iterator["FitDisplay"]:
    """Shows each step of a fit: loss, its two halves in nats, the validation ELBO and the time left."""
    bar = Progress(
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[numbers]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    with bar:
        yield FitDisplay(bar)


@contextmanager
def report_progress(seconds: float) -> Iterator[Callable[[str], None]]:
    """Shows which part of the report is at work, and how much of its `seconds` is spent; a line each elsewhere."""
    bar = Progress(
        TextColumn("report: {task.description}"),
        BarColumn(),
        TextColumn(f"at most {seconds:.0f} s"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task("", total=None)

        def say(part: str) -> None:
            bar.update(task, description=part)
            if bar.disable:
                console.print(f"report: {part}", markup=False)

        yield say


class FitDisplay:
    """Draws `Progress` of the fit on a bar, or prints about `PLAIN_LINES` lines where there is no terminal."""

    def __init__(self, bar: Progress) -> None:
        self.bar = bar
        self.task = bar.add_task("training", numbers="", total=None)
        self.started = time.monotonic()
        self.first_step: int | None = None

    def __call__(self, now: FitProgress) -> None:
        numbers = (
            f"loss {now.loss:.3f}  reconstruction {now.reconstruction:.2f}  kl {now.kl:.2f}  "
            f"validation elbo {now.validation_elbo:.2f}"
        )
        if self.first_step is None:
            self.first_step = now.step - 1
        if not self.bar.disable:
            self.bar.update(self.task, completed=now.step, total=now.steps, numbers=numbers)
        elif now.step % max(1, now.steps // PLAIN_LINES) == 0 or now.step == now.steps:
            done = now.step - self.first_step
            left = (time.monotonic() - self.started) / done * (now.steps - now.step)
            console.print(f"step {now.step}/{now.steps}  {numbers}  {left:.0f} s left", soft_wrap=True)


def show_schema(schema: TableSchema | ImageSchema, items: int) -> None:
    """What was found in the data."""
    if isinstance(schema, ImageSchema):
        colour = "RGB" if schema.channels == 3 else "grey"
        console.print(
            f"{items:,} images, scored as {schema.height} x {schema.width} pixels, {colour}, {schema.bits} bits, "
            f"resize {schema.resize}"
        )
        return
    table = Table(
        "column",
        "kind",
        "details",
        title=f"{items:,} rows, {len(schema.columns)} columns",
        title_justify="left",
    )
    for column in schema.columns[:MAX_SHOWN_COLUMNS]:
        levels = f"{len(column.levels)} levels: {', '.join(column.levels[:6])}" if column.levels else ""
        table.add_row(
            column.name, column.kind, "; ".join(filter(None, [levels, "has gaps" if column.nullable else ""]))
        )
    if len(schema.columns) > MAX_SHOWN_COLUMNS:
        table.add_row("...", "", f"{len(schema.columns) - MAX_SHOWN_COLUMNS} more")
    for ignored in schema.ignored:
        table.add_row(ignored.name, "left out", ignored.reason)
    if schema.id_column:
        table.add_row(schema.id_column, "identifier", "names the items in answers")
    console.print(table)


def show_calibration(scorer: Scorer) -> None:
    """Thresholds of every score at the usual rates, how sure the bundle's own rate is, and what does not resolve."""
    calibration, units, alpha = scorer.calibration, scorer.detector.units, scorer.alpha
    alphas = sorted({0.1, 0.05, 0.01, 0.001, alpha}, reverse=True)
    first = Column("score", no_wrap=True)
    table = Table(first, "unit", "median of normals", *(f"threshold at {a:g}" for a in alphas), title_justify="left")
    for name, calibrator in calibration.by_score.items():
        thresholds = (calibrator.threshold(a) for a in alphas)
        cells = ("-" if t is None else f"{t:.4g}" for t in thresholds)
        mark = " (verdict)" if name == calibration.rule.name else ""
        table.add_row(name + mark, units[name], f"{calibrator.median:.4g}", *cells)
    if calibration.rule.name not in calibration.by_score:
        verdict = calibration.verdict
        cells = ("-" if (t := verdict.threshold(a)) is None else f"{t:.4g}" for a in alphas)
        table.add_row(f"{calibration.rule.name} (verdict)", "nats", f"{verdict.median:.4g}", *cells)
    console.print(table)
    smallest = rounded_up(calibration.verdict.smallest_alpha)
    console.print(f"{calibration.n:,} calibration items: the smallest alpha that resolves is {smallest}; - is below it")
    show_promise(scorer)


def show_promise(scorer: Scorer) -> None:
    """What the bundle's alpha and guarantee promise, group by group where there are groups."""
    verdict, alpha, guarantee = scorer.calibration.verdict, scorer.alpha, scorer.guarantee
    kept = "on average" if guarantee is None else f"with {100 * guarantee:g} % confidence"
    rate = verdict.realised_rate(alpha, guarantee)
    if (silent := scorer.unresolved(alpha, guarantee)) is not None:
        warn(silent)
    elif rate is not None and scorer.calibration.held_out:
        console.print(
            f"at alpha = {alpha:g}, {kept}: with these items the realised false-alarm rate lies between "
            f"{100 * rate.low:.2g} % and {100 * rate.high:.2g} % in {100 * rate.confidence:g} % of cases",
            soft_wrap=True,
        )
    groups, spec = scorer.calibration.item_groups, scorer.manifest.item_groups
    if groups is not None and spec is not None:
        own = ", ".join(
            f"{name} ({ranking.verdict.n:,})"
            for name, ranking in zip(groups.names, scorer.calibration.by_group, strict=True)
        )
        feature = "which is a feature too" if scorer.group_is_feature else "which is no feature"
        console.print(
            f"groups by '{scorer.schema.group_by}', {feature}: thresholds of their own for "
            f"{own or 'none'}; groups with fewer than {spec.min_items} calibration items share the pooled ones",
            markup=False,
            soft_wrap=True,
        )


def show_bundle(scorer: Scorer, path: Path, *, signed: bool) -> None:
    """Everything that a person asks of a bundle."""
    manifest = scorer.manifest
    record = manifest.training
    console.print(f"[bold]{manifest.name}[/] {manifest.version}  at {path}")
    console.print("hashes and golden rows: as written" + ("; signed by a trusted key" if signed else ""))
    show_schema(manifest.item, record.items)
    console.print(
        f"trained on {record.train:,}, validated on {record.validation:,}, calibrated on {record.calibration:,} items "
        f"in {record.steps:,} steps, {record.seconds:.0f} s on {record.device}, seed {record.seed}"
    )
    for model in manifest.detector.models:
        console.print(
            f"model {model.name}: view {model.view}, {model.nets} net{'s' * (model.nets > 1)}, "
            f"latent {model.latent}, K = {model.samples}, prior {model.prior}, {len(model.typed)} typed columns, "
            f"a bank of {model.bank:,} training items"
        )
    console.print(f"validation ELBO of the first view {manifest.metrics['validation_elbo']:.2f} nats")
    show_calibration(scorer)
    console.print(f"engine on a CPU, here: {scorer.engine.name} ({scorer.engine.reason})", markup=False)
    console.print("with " + ", ".join(f"{name} {version}" for name, version in manifest.software.items()))


@contextmanager
def scoring_progress(total: int | None) -> Iterator[Callable[[int, int], None]]:
    """Shows items scored and passed over, items a second and, where the `total` is known, the time left."""
    bar = Progress(
        TextColumn("scoring"),
        BarColumn(),
        TextColumn("{task.fields[numbers]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    started = said = time.monotonic()
    with bar:
        task = bar.add_task("scoring", numbers="", total=total)

        def say(scored: int, passed: int) -> None:
            nonlocal said
            now = time.monotonic()
            rate = scored / max(now - started, 1e-9)
            of = "" if total is None else f" of {total:,}"
            numbers = f"{scored + passed:,}{of} items, {rate:,.0f} a second"
            bar.update(task, completed=scored + passed, numbers=numbers)
            if bar.disable and now - said >= PLAIN_SECONDS:
                said = now
                left = "" if total is None or not rate else f", {(total - scored - passed) / rate:,.0f} s left"
                console.print(f"scored {numbers}{left}", soft_wrap=True)

        yield say
