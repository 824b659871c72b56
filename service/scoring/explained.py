"""The explanations of an upload's items, and their documents."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from elbound.explain import FiredReasons, ImageShares, RowShares, fired_documents, image_documents, row_documents
from elbound.explain.counterfactual import Counterfactual
from elbound.scorer import Scorer
from service.scoring.terms import Wanted

Document = dict[str, object]


@dataclass(frozen=True)
class Slice:
    """Events `(k, *event)` that were explained together: their shares, and what the scores that fired tell of them."""

    x: Tensor
    shares: RowShares | ImageShares
    fired: Sequence[FiredReasons | None]


@dataclass(frozen=True)
class Explained:
    """The readable items in slices, where `explain` was asked for, and nearest normals by place."""

    wanted: Wanted
    max_counterfactual_items: int
    slices: list[Slice] = field(default_factory=list)
    nearest: dict[int, Counterfactual] = field(default_factory=dict)

    def columns(self, scorer: Scorer, m: int) -> dict[str, list[Document | None]]:
        """What is told of each of the `m` readable items; pictures are drawn here, so not for the event loop."""
        columns: dict[str, list[Document | None]] = {}
        if self.wanted.explain:
            columns = {"explanation": [], "fired_explanation": []}
            for one in self.slices:
                columns["explanation"] += self._documents(scorer, one)
                columns["fired_explanation"] += fired_documents(scorer, one.x, one.fired, self.wanted.top)
        if self.wanted.counterfactual:
            nearest = [self.nearest.get(place) for place in range(m)]
            columns["counterfactual"] = [None if found is None else found.document(scorer) for found in nearest]
        return columns

    def _documents(self, scorer: Scorer, one: Slice) -> list[Document]:
        if isinstance(one.shares, RowShares):
            return row_documents(scorer, one.x, one.shares, self.wanted.top)
        return image_documents(scorer, one.x, one.shares, as_npy=self.wanted.heatmap == "npy")

    def searches(self, anomalies: int) -> dict[str, int]:
        """How many of the `anomalies` had their nearest normal looked for, and how many not, by which limit."""
        return {
            "searched": len(self.nearest),
            "left_out": anomalies - len(self.nearest),
            "max_counterfactual_items": self.max_counterfactual_items,
        }
