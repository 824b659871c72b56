"""The nearest normal item and the changes that lead to it."""

import base64
import datetime
import io
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from elbound.data.schema import Column, ImageSchema
from elbound.scorer import Scorer


@dataclass(frozen=True)
class Counterfactual:
    """The events `seen` and `nearest`, both `(1, *event)`: the same cell by cell where nothing had to change.

    Where nothing normal was `found`, `nearest` is the least anomalous item that was come by. `p_value`,
    `conditional_p_value` (where a guarantee was asked for) and the verdict's `score` are those of `nearest`; `steps`
    were taken.
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
        if isinstance(scorer.schema, ImageSchema):
            return document | self._picture(scorer.schema.bits)
        return document | self._changes(scorer)

    @property
    def differs(self) -> Tensor:
        """Where the two are not the same, `(d,)` cells or `(height, width)` pixels; two gaps are the same."""
        differs = (self.nearest != self.seen) & ~(self.nearest.isnan() & self.seen.isnan())
        return differs[0] if differs.ndim == 2 else differs[0].any(0)

    def _changes(self, scorer: Scorer) -> dict[str, object]:
        assert scorer.table is not None
        seen, nearest = (scorer.table.from_tensor(x) for x in (self.seen, self.nearest))
        columns = [column for column, differs in zip(scorer.table.schema.columns, self.differs, strict=True) if differs]
        return {
            "changes": [
                {"name": c.name, "seen": _told(c, seen[c.name][0]), "nearest": _told(c, nearest[c.name][0])}
                for c in columns
            ]
        }

    def _picture(self, bits: int) -> dict[str, object]:
        pixels = (self.nearest[0] >> (bits - 8)).to(torch.uint8).movedim(0, -1).numpy()
        buffer = io.BytesIO()
        Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(buffer, "PNG")
        return {
            "changed_share": float(self.differs.double().mean()),
            "image": base64.b64encode(buffer.getvalue()).decode(),
        }


def _told(column: Column, cell: object) -> object:
    """A cell as JSON has it: datetimes as ISO text, or as seconds where the calendar ends."""
    if column.kind != "datetime" or not isinstance(cell, float):
        return cell
    try:
        at = datetime.datetime.fromtimestamp(cell, datetime.UTC)
    except (OverflowError, ValueError, OSError):
        return cell
    return at.isoformat().replace("+00:00", "Z")
