"""What changes during training, as pure functions of the step."""

import math


def step_budget(n: int) -> int:
    """clip(2 n, 600, 2000) steps for a table of `n` training rows: more gained nothing, fewer lost."""
    return min(max(2 * n, 600), 2000)


def image_step_budget(n: int) -> int:
    """clip(n / 4, 600, 1000) steps for `n` training images."""
    return min(max(n // 4, 600), 1000)


def learning_rate(step: int, *, steps: int, peak: float, warmup_steps: int) -> float:
    """Linear warm-up to `peak`, then a cosine to zero at `steps`; positive at step 0."""
    warmup_steps = min(warmup_steps, max(1, steps // 2))
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, steps - warmup_steps)
    return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def kl_weight(step: int, *, steps: int, warmup_share: float) -> float:
    """From 0 to 1 over the first `warmup_share` of the steps, then 1, against posterior collapse.

    Bowman et al., Generating Sentences from a Continuous Space, 2016.
    """
    warmup = warmup_share * steps
    return 1.0 if step >= warmup else step / warmup
