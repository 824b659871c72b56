"""What a request asks for: by what rate its items are decided, and what is told beside their scores."""

from dataclasses import dataclass
from typing import Literal

from elbound.calibration.conformal import check_alpha, check_guarantee
from elbound.calibration.fdr import check_level
from elbound.data.items import TensorItems
from elbound.errors import ConfigError, LimitExceeded
from elbound.explain.counterfactual import check_counterfactual
from elbound.scorer import Scorer


@dataclass(frozen=True)
class Terms:
    """By what rate a request wants to be answered.

    `guarantee` None promises alpha on average; with `fdr` the decision is the whole upload's.
    """

    alpha: float
    guarantee: float | None = None
    fdr: float | None = None

    @classmethod
    def of(cls, scorer: Scorer, *, alpha: float | None, guarantee: float | None, fdr: float | None) -> "Terms":
        """The bundle's own where None is given; a guarantee of 0 is none. Raises ConfigError."""
        if fdr is not None:
            check_level(fdr)
            if scorer.calibration.item_groups is not None:
                raise ConfigError(
                    f"fdr is for one common calibration, and {scorer.name} has thresholds by group; leave one of "
                    "them out: no proof covers both",
                    code="fdr_with_groups",
                    where="fdr",
                )
        if guarantee is None:
            guarantee = scorer.guarantee
        elif guarantee == 0:
            guarantee = None
        else:
            check_guarantee(guarantee)
        return cls(scorer.alpha if alpha is None else check_alpha(alpha), guarantee, fdr)

    @property
    def decided_by(self) -> str:
        """What `is_anomaly` follows."""
        if self.fdr is not None:
            return "fdr"
        return "p_value" if self.guarantee is None else "conditional_p_value"


@dataclass(frozen=True)
class Wanted:
    """What a request asks for beyond scores; `top` is of the columns of a row, `heatmap` of images."""

    explain: bool
    top: int | None
    heatmap: Literal["png", "npy"] | None
    counterfactual: bool

    def check(self, scorer: Scorer, terms: Terms) -> None:
        """Raise ConfigError where this model has no such thing."""
        if self.top is not None and scorer.image is not None:
            raise ConfigError(f"top is for the columns of a table; {scorer.name} scores images", where="top")
        if self.heatmap is not None and scorer.table is not None:
            raise ConfigError(f"heatmap is for images; {scorer.name} scores rows of a table", where="heatmap")
        if self.counterfactual:
            check_counterfactual(scorer)
            if terms.fdr is not None:
                raise ConfigError(
                    "fdr decides over all items together, so that none has a nearest normal of its own; leave one of "
                    "them out",
                    code="counterfactual_with_fdr",
                    where="counterfactual",
                )


def check_groups(scorer: Scorer) -> None:
    """Raise ConfigError where `group` means nothing to the model."""
    if scorer.calibration.item_groups is None:
        raise ConfigError(
            f"{scorer.name} has no calibration groups; train it with --group-by, or leave out group",
            code="group_unsupported",
            where="group",
        )


def check_count(items: TensorItems, *, max_explained_items: int) -> None:
    """Raise LimitExceeded where more items were read than one upload may have explained."""
    if len(items.x) > max_explained_items:
        raise LimitExceeded(
            f"{len(items.x):,} items; with explain=true or counterfactual=true at most {max_explained_items:,} are "
            "taken (max_explained_items)",
            where="explain",
        )
