"""The nearest normal item and the changes that lead to it."""

import base64
from dataclasses import dataclass

from torch import Tensor

from elbound.explain.documents import cell_value
from elbound.explain.pictures import png
from elbound.schema import TableSchema
from elbound.scorer import Scorer


@dataclass(frozen=True)
class Counterfactual:
    """The events `seen` and `nearest`, both `(1, *event)`: the same cell by cell where nothing had to change.

    Where nothing normal was `found`, `nearest` is the least anomalous item of the search. `p_value`,
    `conditional_p_value` (where a guarantee was asked for) and the verdict's `score` are those of `nearest`;
    `steps` is the number of steps that the search took.
    """

    seen: Tensor
    nearest: Tensor
    found: bool
    p_value: float
    conditional_p_value: float | None
    score: float
    steps: int

    def document(self, scorer: Scorer) -> dict[str, object]:
        """For JSON: the changed cells in the schema's order, or the image as a PNG and how much of it differs."""
        document: dict[str, object] = {"found": self.found, "p_value": self.p_value}
        if self.conditional_p_value is not None:
            document["conditional_p_value"] = self.conditional_p_value
        document |= {"score": self.score, "steps": self.steps}
        if isinstance(scorer.schema, TableSchema):
            return document | {"changes": self._changes(scorer.schema)}
        assert scorer.image is not None
        picture = base64.b64encode(png(scorer.image.from_tensor(self.nearest)[0])).decode()
        return document | {"changed_share": float(self.differs.double().mean()), "image": picture}

    @property
    def differs(self) -> Tensor:
        """Where the two are not the same, `(d,)` cells or `(height, width)` pixels; two gaps are the same."""
        differs = (self.nearest != self.seen) & ~(self.nearest.isnan() & self.seen.isnan())
        return differs[0] if differs.ndim == 2 else differs[0].any(0)

    def _changes(self, schema: TableSchema) -> list[dict[str, object]]:
        cells = zip(schema.columns, self.seen[0].tolist(), self.nearest[0].tolist(), self.differs.tolist(), strict=True)
        return [
            {"name": column.name, "seen": cell_value(column, seen), "nearest": cell_value(column, nearest)}
            for column, seen, nearest, differs in cells
            if differs
        ]
