"""The report of a run, around the training: what is checked before, what is made after, what is said at the end."""

from pathlib import Path

import pyarrow as pa
from torch import Tensor

from elbound.data.table import TablePreprocessor
from elbound.errors import DataError, MissingExtra, SchemaError
from elbound.files.images import about, decode_images, image_files
from elbound.files.readers import read_table
from elbound.fit.detector import Fitted
from elbound.schema import ImageSchema
from training.bundles.evaluate import require_extra, show_defects
from training.config import ReportConfig
from training.console import console, report_progress, warn
from training.inputs.read import holds_images
from training.inputs.source import Source
from training.interrupt import stop_on_interrupt
from training.report.baselines import LEAST_COMPARED
from training.report.build import Report, budget_seconds, build_report
from training.report.verdict import DoNotShip

PACKAGES = ("matplotlib", "scipy.stats", "sklearn.metrics")


def check_before(config: ReportConfig, source: Source) -> pa.Table | Tensor | None:
    """The known anomalies, read, or the defects that came with the data; what would stop the report is raised here.

    Raises MissingExtra, DataError, SchemaError.
    """
    if not config.enabled:
        return None
    for package in PACKAGES:
        try:
            require_extra(package)
        except MissingExtra as error:
            raise MissingExtra(f"{error.message}, or train with --no-report", where=package) from error
    if config.anomalous is not None:
        if source.known is not None:
            console.print(
                "--anomalous is compared with the baselines; the defects that came with the data are judged by kind"
            )
        return read_anomalies(config.anomalous, source)
    if source.known is None or len(source.known.defects) < LEAST_COMPARED:
        return None
    return source.known.defects


def read_anomalies(path: Path, source: Source) -> pa.Table | Tensor:
    """The anomalies at `path` as items of the training data's kind. Raises DataError, SchemaError."""
    wanted = isinstance(source.schema, ImageSchema)
    if holds_images(path) != wanted:
        kinds = ("images", "a table") if wanted else ("a table", "images")
        raise SchemaError(f"--anomalous: {path} holds {kinds[1]}; the training data are {kinds[0]}", where=str(path))
    if isinstance(source.schema, ImageSchema):
        files = image_files(path)
        decoded = decode_images(files, source.schema)
        skipped = [f"skipped {about(name, reason)}" for name, reason in decoded.skipped.items()]
        for sentence in (*files.passed_over.sentences(), *skipped):
            warn(f"--anomalous: {sentence}")
        return decoded.x
    assert isinstance(source.items, pa.Table)
    read = read_table(path)
    table = read.table
    for warning in (*read.warnings, *read.doubts):
        warn(f"--anomalous: {warning}")
    try:
        items = TablePreprocessor.fit(source.schema, source.items).to_tensor(table)
    except SchemaError as error:
        raise SchemaError(f"--anomalous: {path}: {error.message}", where=str(path)) from error
    if len(items.x) == 0:
        reason = next(iter(items.errors.values())).message if items.errors else "it has no rows"
        raise DataError(f"--anomalous: no row of {path} can be read: {reason}", where=str(path))
    if items.errors:
        warn(f"--anomalous: {len(items.errors):,} rows of {path} cannot be read and are left out")
    return table


def report_on(
    fitted: Fitted, source: Source, anomalies: pa.Table | Tensor | None, config: ReportConfig
) -> Report | None:
    """The report, or None where it was broken off or failed: the trained model is worth more than its report."""
    events = fitted.scorer.to_tensor(anomalies).x if isinstance(anomalies, pa.Table) else anomalies
    seconds = budget_seconds(config.budget_seconds, fitted.scorer.manifest.training.seconds)
    try:
        with report_progress(seconds) as say, stop_on_interrupt() as stop:
            return build_report(
                fitted, groups=source.groups, anomalous=events, seconds=seconds, stop=stop, say=say, known=source.known
            )
    except KeyboardInterrupt:
        warn("interrupted: the bundle is written without a report")
    except Exception as error:  # whatever it is, hours of training must not go with it
        warn(f"the report failed ({type(error).__name__}: {error}); the bundle is written without it")
    return None


def conclude(report: Report | None, out: Path, *, strict: bool) -> None:
    """The verdict in words; raises DoNotShip where it is not *ship* and `strict` asks for it.

    *Undecided* is not *ship*: nobody knows yet whether the model should be served.
    """
    if report is None:
        words = "no verdict: the report was not made"
        console.print(words, style="yellow")
    else:
        show_defects(report.facts.defects)
        verdict = report.verdict
        words = f"verdict: {verdict.words}"
        if verdict.ship:
            console.print("[bold green]verdict: ship[/]")
        else:
            colour = "red" if verdict.reasons else "yellow"
            console.print(f"[bold {colour}]verdict: {verdict.state}[/], because")
        for reason in verdict.because:
            console.print(f"  - {reason}", markup=False, soft_wrap=True)
        for name, why in verdict.unchecked.items():
            console.print(f"  {name}: not checked, because {why}", markup=False, soft_wrap=True)
        console.print(f"report: {out / 'report' / 'index.html'}", markup=False, soft_wrap=True)
    if strict and (report is None or not report.verdict.ship or report.interrupted):
        raise DoNotShip(f"--strict: {words}")
