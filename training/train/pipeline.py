"""Training from files to a bundle, top to bottom."""

from pathlib import Path

from elbound.bundle import check_target
from elbound.engines.onnx_export import check_export
from elbound.errors import BundleError, ConfigError, DoubtfulData
from elbound.fit.detector import DetectorConfig, fit_all
from elbound.fit.image_defaults import settle_mode
from elbound.fit.loop import FitControls, Interrupted
from elbound.scorer import Scorer
from training.config import TrainConfig
from training.console import console, fit_progress, show_calibration, show_schema, warn
from training.inputs.read import read_source
from training.inputs.source import Source
from training.interrupt import stop_on_interrupt
from training.train.judgement import check_before, conclude, report_on


def train(config: TrainConfig) -> Scorer:
    """Read, fit, calibrate, write the bundle, load it back. Raises ElboundError.

    Ctrl-C finishes the step, leaves a checkpoint and raises Interrupted; a second one ends at once.
    """
    out = config.bundle.out
    check_target(out, force=config.bundle.force)
    _make_parent(out)
    if config.bundle.checkpoint.exists() and not config.bundle.resume:
        warn(f"{config.bundle.checkpoint} is left of an earlier run and is started over; --resume would continue it")
    source = read_source(config.data, mode=config.model.mode)
    for note in source.notes:
        console.print(note, markup=False, soft_wrap=True)
    for warning in source.warnings:
        warn(warning)
    _settle_doubts(source, anyway=config.data.anyway)
    if config.bundle.export:
        check_export(source.schema)
    anomalies = check_before(config.report, source)
    show_schema(source.schema, len(source.items))
    mode, advice = settle_mode(source.schema, config.model.mode)
    if advice:
        warn(advice)
    with fit_progress() as display, stop_on_interrupt() as stop:
        controls = FitControls(display, stop, config.bundle.checkpoint, config.bundle.resume)
        try:
            fitted = fit_all(source.items, source.schema, _detector_config(config, mode, source), controls)
        except Interrupted as error:
            error.message += f"; continue with the same command and --resume ({config.bundle.checkpoint} is kept)"
            raise
    scorer = fitted.scorer
    show_calibration(scorer)
    if config.calibration.alpha is None and scorer.unresolved(scorer.alpha, scorer.guarantee) is None:
        console.print(scorer.alpha_chosen, markup=False, soft_wrap=True)
    exported = _exported(scorer) if config.bundle.export else scorer
    report = report_on(fitted, source, anomalies, config.report) if config.report.enabled else None
    exported.save(out, force=config.bundle.force, report=report.files if report else None)
    config.bundle.checkpoint.unlink(missing_ok=True)
    console.print(f"[green]wrote[/] {out}  ({scorer.name} {scorer.version}, {scorer.manifest.training.seconds:.0f} s)")
    if config.report.enabled:
        conclude(report, out, strict=config.report.strict)
    console.print(f"next: elbound serve {out}", markup=False)
    return scorer


def _settle_doubts(source: Source, *, anyway: bool) -> None:
    """Raise DoubtfulData that names every doubt; with `anyway` each is a warning."""
    if source.doubts and not anyway:
        found = "\n".join(f"  - {doubt}" for doubt in source.doubts)
        raise DoubtfulData(f"these data look doubtful:\n{found}\n--anyway trains on them all the same")
    for doubt in source.doubts:
        warn(doubt)


def _exported(scorer: Scorer) -> Scorer:
    """With its export; without one, and a warning, where that is not what torch computes: the training is not lost."""
    try:
        return scorer.with_export()
    except BundleError as error:
        warn(f"{error.message}; the bundle is written without an export")
        return scorer


def _make_parent(out: Path) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"--out: {out.parent} cannot be made: {error.strerror or error}", where="bundle.out"
        ) from error


def _detector_config(config: TrainConfig, mode: str, source: Source) -> DetectorConfig:
    return DetectorConfig(
        name=config.bundle.name or config.bundle.out.resolve().name,
        alpha=config.calibration.alpha,
        guarantee=config.calibration.guarantee,
        seed=config.fit.seed,
        device=config.fit.device,
        profile=config.model.profile,
        mode=mode,
        steps=config.fit.steps,
        batch_items=config.fit.batch_items,
        learning_rate=config.fit.learning_rate,
        latent=config.model.latent,
        width=config.model.width,
        prior=config.model.prior,
        likelihood=config.model.likelihood,
        categories=config.model.categories,
        checkpoint_steps=config.fit.checkpoint_steps,
        groups=source.groups,
        item_groups=source.item_groups,
    )
