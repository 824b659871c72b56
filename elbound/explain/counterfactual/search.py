"""The nearest normal of an anomalous item, looked for in bounded steps."""

from collections.abc import Iterator

import torch
from torch import Tensor

from elbound.errors import ConfigError, SchemaError
from elbound.explain.counterfactual.images import search_image
from elbound.explain.counterfactual.judge import Judge
from elbound.explain.counterfactual.result import Counterfactual
from elbound.explain.counterfactual.rows import search_row
from elbound.explain.counterfactual.walk import Progress
from elbound.schema import TableSchema
from elbound.scorer import Scorer
from elbound.views.image import FeatureView

MAX_STEPS = 96
"""At most so many slices of work a search; most searches take 6 to 30, none measured took more than 55."""


def has_counterfactuals(scorer: Scorer) -> bool:
    """Whether nearest normals can be told: not where a model of images has no decoder to pixels."""
    return not isinstance(next(scorer.detector.each()).view, FeatureView)


def check_counterfactual(scorer: Scorer) -> None:
    """Raise ConfigError (`counterfactual_unsupported`) for a model that `has_counterfactuals` not."""
    if not has_counterfactuals(scorer):
        raise ConfigError(
            f"{scorer.name} models pretrained features, which no decoder turns back into pixels, so it has no nearest "
            "normal. Ask for its heat map (explain=true), or train with mode=pixels",
            code="counterfactual_unsupported",
            where="counterfactual",
        )


class NearestNormal:
    """Looks for the item nearest to `x` `(1, *event)` that `scorer` finds normal, `step` by step.

    Normal is what `alpha`, `guarantee` and the calibration group called `group` make of it. Each step is a bounded
    slice of work, and there are at most `MAX_STEPS`. Nothing is random. Raises ConfigError where there is no nearest
    normal to be had, SchemaError where `x` is not one event.
    """

    def __init__(
        self, scorer: Scorer, x: Tensor, *, alpha: float, guarantee: float | None = None, group: str | None = None
    ) -> None:
        check_counterfactual(scorer)
        if tuple(x.shape) != (1, *scorer.schema.event):
            raise SchemaError(f"expected one event of shape {(1, *scorer.schema.event)}, but got {tuple(x.shape)}")
        self.x = x
        self.judge = Judge(scorer, alpha, guarantee, group)
        self.steps = 0
        self.done = False
        search = search_row if isinstance(scorer.schema, TableSchema) else search_image
        self._slices: Iterator[Progress] = search(self.judge, x[0])
        self._normal: list[Tensor] = []
        self._least = x[0]

    @torch.inference_mode()
    def step(self) -> None:
        """One slice of work; nothing once the search is `done`."""
        if self.done:
            return
        self.steps += 1
        progress = next(self._slices, None)
        if progress is None:
            self.done = True
            return
        was_normal = self.steps == 1 and progress.is_normal
        self.done = was_normal or self.steps == MAX_STEPS
        if not progress.is_normal:
            self._least = progress.event
        elif not (self._normal and self._normal[-1] is progress.event):
            self._normal.append(progress.event)

    def finish(self) -> Counterfactual:
        """The result of all steps that are left."""
        while not self.done:
            self.step()
        return self.result()

    @torch.inference_mode()
    def result(self) -> Counterfactual:
        """The nearest normal as of now, or the least anomalous item where none was found.

        It is scored once more by itself, as an item that is sent would be: in a batch the last bits of a score differ.
        """
        for event in (*reversed(self._normal), self._least):
            judged = self.judge(event[None])
            if judged.is_normal[0]:
                break
        conditional = judged.conditional_p_value
        return Counterfactual(
            seen=self.x,
            nearest=judged.x,
            found=bool(judged.is_normal[0]),
            p_value=float(judged.p_value[0]),
            conditional_p_value=None if conditional is None else float(conditional[0]),
            score=float(judged.score[0]),
            steps=self.steps,
        )
