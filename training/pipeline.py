"""Training from files to a bundle, top to bottom."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from elbound.bundle import check_target
from elbound.errors import ConfigError
from elbound.fit.detector import DetectorConfig, fit_detector
from elbound.fit.image_defaults import settle_mode
from elbound.fit.loop import FitControls, Interrupted
from elbound.scorer import Scorer
from training.config import TrainConfig
from training.console import console, fit_progress, show_calibration, show_schema, warn
from training.sources import Source, read_source


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
    for warning in source.warnings:
        warn(warning)
    show_schema(source.schema, len(source.items))
    mode, advice = settle_mode(source.schema, config.model.mode)
    if advice:
        warn(advice)
    with fit_progress() as display, stop_on_interrupt() as stop:
        controls = FitControls(display, stop, config.bundle.checkpoint, config.bundle.resume)
        try:
            scorer = fit_detector(source.items, source.schema, _detector_config(config, mode, source), controls)
        except Interrupted as error:
            error.message += f"; continue with the same command and --resume ({config.bundle.checkpoint} is kept)"
            raise
    show_calibration(scorer)
    scorer.save(out, force=config.bundle.force)
    config.bundle.checkpoint.unlink(missing_ok=True)
    console.print(f"[green]wrote[/] {out}  ({scorer.name} {scorer.version}, {scorer.manifest.training.seconds:.0f} s)")
    console.print(f"next: elbound serve {out}", markup=False)
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
        checkpoint_steps=config.fit.checkpoint_steps,
        groups=source.groups,
        item_groups=source.item_groups,
    )


@contextmanager
def stop_on_interrupt() -> Iterator[Callable[[], bool]]:
    """Turns the first Ctrl-C into a request to stop after the step, so that no update is left half done."""
    stopping = threading.Event()

    def ask(_: int, __: FrameType | None) -> None:
        if stopping.is_set():
            raise KeyboardInterrupt
        stopping.set()

    if threading.current_thread() is not threading.main_thread():
        yield stopping.is_set
        return
    before = signal.signal(signal.SIGINT, ask)
    try:
        yield stopping.is_set
    finally:
        signal.signal(signal.SIGINT, before)
