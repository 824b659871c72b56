"""The training loop, top to bottom."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from elbound.detector import Detector, Member
from elbound.errors import FitError
from elbound.fit.checkpoint import load_checkpoint, restore, save_checkpoint
from elbound.fit.schedules import kl_weight, learning_rate
from elbound.model.bounds import bound_terms, elbo
from elbound.model.models import Model

MAX_SKIPS_IN_A_ROW = 20
MAX_VALIDATION_ITEMS = 1000
VALIDATIONS = 20
SEED_STRIDE = 2**32
MAX_KEPT_BYTES = 256 << 20
MAX_LOOKED_ITEMS = 4_000
SCALE_PACE = 10.0
NOTHING_STOPS: Callable[[], bool] = lambda: False  # noqa: E731


@dataclass(frozen=True)
class FitSettings:
    """`learning_rate` is the peak; `kl_warmup_share` the share of the steps over which the KL comes in."""

    steps: int
    batch_items: int = 128
    learning_rate: float = 2e-3
    warmup_steps: int = 50
    kl_warmup_share: float = 0.2
    weight_decay: float = 0.01
    clip_norm: float = 5.0
    checkpoint_steps: int = 200


@dataclass(frozen=True)
class Progress:
    """Where the fit stands; nats an item. `validation_elbo` is the last that was measured."""

    step: int
    steps: int
    loss: float
    reconstruction: float
    kl: float
    validation_elbo: float


@dataclass
class FitControls:
    """What the caller wants to see and to steer; `stop` is asked after each step."""

    on_progress: Callable[[Progress], None] | None = None
    stop: Callable[[], bool] = NOTHING_STOPS
    checkpoint: Path | None = None
    resume: bool = False
    fingerprint: str = ""


@dataclass
class FitHistory:
    """`rows`: step, loss (of all members), reconstruction, kl and validation_elbo (of the first), one row each
    validation; `skipped` updates."""

    rows: list[dict[str, float]] = field(default_factory=list)
    skipped: int = 0


class Interrupted(FitError):
    """The caller stopped the fit; a checkpoint was left where one was asked for."""

    default_code = "interrupted"


def fit_members(
    detector: Detector, x: Tensor, validation: Tensor, settings: FitSettings, *, seed: int, controls: FitControls
) -> FitHistory:
    """Fit the models of all members side by side to events `x` `(n, *event)`; views and noise are ready.

    Each net of each member sees its own batches. Raises FitError when updates keep failing, Interrupted when
    stopped.
    """
    history = FitHistory()
    for member in detector.each():
        member.model.train()
        if member.model.closed_form:
            member.model.fit_closed_form(member.view(x.to(member.noise.device)))
    learners = [Learner(m, x, settings, seed + i * SEED_STRIDE) for i, m in enumerate(detector.each()) if m.learns]
    if not learners:
        reached = validation_elbo(next(detector.each()).eval(), validation)
        history.rows.append({"step": 0.0, "loss": -reached, "validation_elbo": reached})
        return history
    models = [learner.member.model for learner in learners]
    optimizer = torch.optim.AdamW(
        parameter_groups(models),
        lr=settings.learning_rate,
        betas=(0.9, 0.99),
        weight_decay=settings.weight_decay,
        fused=True,  # one pass over all parameters: a sixth of a small net's step
    )
    first = 0
    if controls.resume and controls.checkpoint is not None:
        first = _resume(controls, detector, optimizer, history)
    skips_in_a_row = 0
    for step in range(first, settings.steps):
        rate = learning_rate(
            step, steps=settings.steps, peak=settings.learning_rate, warmup_steps=settings.warmup_steps
        )
        weight = kl_weight(step, steps=settings.steps, warmup_share=settings.kl_warmup_share)
        batches = [learner.batch(step) for learner in learners]
        now = training_step(models, optimizer, batches, rate=rate, kl_weight=weight, clip_norm=settings.clip_norm)
        history.skipped += now.skipped
        skips_in_a_row = skips_in_a_row + 1 if now.skipped else 0
        if skips_in_a_row == MAX_SKIPS_IN_A_ROW:
            raise FitError(
                f"the loss was not finite for {MAX_SKIPS_IN_A_ROW} steps in a row (step {step}); "
                "look for extreme values in the data or lower the learning rate"
            )
        done = step + 1
        if done % max(1, settings.steps // VALIDATIONS) == 0 or done == settings.steps:
            row = {"step": float(done), "loss": now.loss, "reconstruction": now.reconstruction, "kl": now.kl}
            history.rows.append({**row, "validation_elbo": validation_elbo(learners[0].member, validation)})
        if controls.on_progress is not None:
            last = history.rows[-1]["validation_elbo"] if history.rows else math.nan
            controls.on_progress(Progress(done, settings.steps, now.loss, now.reconstruction, now.kl, last))
        stopping = controls.stop()
        if controls.checkpoint is not None and (stopping or done % settings.checkpoint_steps == 0):
            save_checkpoint(
                controls.checkpoint, detector, optimizer,
                step=done, skipped=history.skipped, fingerprint=controls.fingerprint, history=history.rows,
            )  # fmt: skip
        if stopping:
            raise Interrupted(f"stopped after step {done} of {settings.steps}", where=str(controls.checkpoint))
    return history


def parameter_groups(models: Sequence[Model]) -> list[dict[str, object]]:
    """All parameters; a likelihood's own, its learned scales, move `SCALE_PACE` times as fast as the weights.

    A step of AdamW moves a parameter by at most about the rate. At the common pace a log-variance that starts at 0
    came to -0.75 in 1,000 steps, where the images wanted -2.6 to -3.8 (ELBO -567 instead of -237).
    """
    scales = [parameter for model in models for parameter in model.likelihood.parameters()]
    known = {id(parameter) for parameter in scales}
    weights = [parameter for model in models for parameter in model.parameters() if id(parameter) not in known]
    groups: list[dict[str, object]] = [{"params": weights, "pace": 1.0}]
    return [*groups, {"params": scales, "pace": SCALE_PACE}] if scales else groups


class Learner:
    """A member and the batches it learns from; what its view makes of the data is kept where it is costly or small.

    Of a costly view (0.2 MB an image) at most `MAX_LOOKED_ITEMS` items are kept, spread over all, and learned from.
    """

    def __init__(self, member: Member, x: Tensor, settings: FitSettings, seed: int) -> None:
        self.member = member
        if member.view.costly and len(x) > MAX_LOOKED_ITEMS:
            x = x[torch.linspace(0, len(x) - 1, MAX_LOOKED_ITEMS).long()]
        self.x = x
        self.batches = Batches(len(x), settings.batch_items, member.spec.nets, seed)
        self.seen = member.look(x) if member.view.costly or 4 * x.numel() <= MAX_KEPT_BYTES else None

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Events `(nets, batch, *event)` as the view sees them, and noise `(nets, 1, batch, latent)`."""
        spec, device = self.member.spec, self.member.noise.device
        index, generator = self.batches.at(step)
        if self.seen is None:
            seen = self.member.view(self.x[index.flatten()].to(device))
        else:
            seen = self.seen[index.flatten()].to(device)
        noise = torch.randn((spec.nets, 1, index.shape[1], spec.latent), generator=generator)
        return seen.unflatten(0, index.shape), noise.to(device)


class StepResult(NamedTuple):
    """The loss of all members, its halves in nats an item of the first; `skipped` where no update was made."""

    loss: float
    reconstruction: float
    kl: float
    skipped: bool


def training_step(
    models: Sequence[Model],
    optimizer: torch.optim.Optimizer,
    batches: Sequence[tuple[Tensor, Tensor]],
    *,
    rate: float,
    kl_weight: float,
    clip_norm: float,
) -> StepResult:
    """Forward, backward, clip each model, update; a loss or gradient that is not finite is not followed."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["pace"]
    terms = [
        model.loss(events, noise, kl_weight=kl_weight) for model, (events, noise) in zip(models, batches, strict=True)
    ]
    total = torch.stack([term.loss for term in terms]).sum()
    optimizer.zero_grad(set_to_none=True)
    total.backward()
    norms = [torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm) for model in models]
    numbers = torch.stack([total, terms[0].reconstruction, terms[0].kl, torch.stack(norms).sum()])
    loss, reconstruction, kl, size = numbers.detach().tolist()  # one sync with a GPU
    skipped = not (math.isfinite(loss) and math.isfinite(size))
    if not skipped:
        optimizer.step()
    return StepResult(loss, reconstruction, kl, skipped)


@torch.no_grad()
def validation_elbo(member: Member, validation: Tensor) -> float:
    """Mean ELBO in nats of at most `MAX_VALIDATION_ITEMS` validation items, with the stored noise."""
    seen = member.view(validation[:MAX_VALIDATION_ITEMS].to(member.noise.device))
    total = 0.0
    for chunk in seen.split(128):
        terms = bound_terms(member.model, chunk.expand(member.spec.nets, *chunk.shape), member.noise)
        total += float(elbo(terms).mean(0).sum())
    return total / max(1, len(seen))


class Batches:
    """Which items each net sees at a step, as a pure function of the seed and the step.

    Every net goes through its own permutation of the `n` items in each epoch; what does not fill a batch
    is left for the next.
    """

    def __init__(self, n: int, batch_items: int, nets: int, seed: int) -> None:
        self.n = n
        self.size = min(n, batch_items)
        self.nets = nets
        self.seed = seed
        self.epoch = -1
        self.orders = torch.empty(nets, 0, dtype=torch.long)

    def at(self, step: int) -> tuple[Tensor, torch.Generator]:
        """Items `(nets, batch)` and the generator of the step's noise."""
        epoch, place = divmod(step, self.n // self.size)
        if epoch != self.epoch:
            self.epoch = epoch
            self.orders = torch.stack(
                [
                    torch.randperm(self.n, generator=_generator(self.seed, 1, epoch * self.nets + net))
                    for net in range(self.nets)
                ]
            )
        index = self.orders[:, place * self.size : (place + 1) * self.size]
        return index, _generator(self.seed, 2, step)


def _generator(seed: int, stream: int, number: int) -> torch.Generator:
    """An independent generator for each (seed, stream, number)."""
    state = np.random.SeedSequence([seed, stream, number]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))


def _resume(controls: FitControls, detector: Detector, optimizer: torch.optim.Optimizer, history: FitHistory) -> int:
    assert controls.checkpoint is not None
    checkpoint = load_checkpoint(controls.checkpoint)
    if checkpoint.fingerprint != controls.fingerprint:
        raise FitError(
            f"{controls.checkpoint} belongs to other data or settings; resume with the same ones, "
            "or train without --resume",
            where=str(controls.checkpoint),
        )
    restore(checkpoint, detector, optimizer)
    history.rows.extend(checkpoint.history)
    history.skipped = checkpoint.skipped
    return checkpoint.step
