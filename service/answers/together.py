"""Small requests that are scored together: what answers them is computed once a batch and not once a request."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import orjson
from torch import Tensor

from elbound.calibration.calibration import ScoredItems
from elbound.data.items import TensorItems
from elbound.scorer import Scorer
from service.answers.documents import fixed_header, item_documents, summary_document
from service.scoring.score import INTERACTIVE_ROWS, Answer
from service.scoring.terms import Terms


class Batch:
    """Events `(n, *event)` of several requests, scored and decided on the same terms."""

    def __init__(self, run: "TogetherRun", x: Tensor) -> None:
        self.run = run
        self.observed = False
        """Whether it was counted."""
        n = len(x)
        items = TensorItems(x, np.arange(n), n, {})
        self.answer = Answer(run.scorer, items, run.scorer.score_tensor(x), run.terms)

    @property
    def scored(self) -> ScoredItems:
        return self.answer.scored

    @cached_property
    def documents(self) -> list[dict[str, object]]:
        """Each item's record; whoever owns the item numbers it anew."""
        return item_documents(self.answer)


@dataclass(frozen=True)
class Share:
    """The rows of one request in a batch."""

    batch: Batch
    start: int
    stop: int

    def part(self, start: int, stop: int) -> "Share":
        return Share(self.batch, self.start + start, self.start + stop)

    def alone(self) -> tuple[TensorItems, ScoredItems, np.ndarray]:
        """The request's own items, in memory of their own, their scores, and which are anomalies to the bundle."""
        own, n = slice(self.start, self.stop), self.stop - self.start
        answer = self.batch.answer
        items = TensorItems(answer.items.x[own].clone(), np.arange(n), n, {})
        return items, answer.scored.part(self.start, self.stop), answer.own_decisions.is_anomaly[own]

    def content(self) -> bytes:
        """The answer, byte for byte that of `answer_document`."""
        documents = self.batch.documents[self.start : self.stop]
        for i, document in enumerate(documents):
            document["index"] = i
        n = len(documents)
        anomalies = sum(document["is_anomaly"] is True for document in documents)
        summary = summary_document(items=n, scored=n, anomalies=anomalies, errors=0, unseen={})
        rest = orjson.dumps({"items": documents, "summary": summary})
        return self.batch.run.begun + rest[1:]


@dataclass(frozen=True, eq=False)
class TogetherRun:
    """What the device runs for small requests on the same terms; there is one of each, so that their jobs join."""

    scorer: Scorer
    terms: Terms

    def __call__(self, x: Tensor) -> Share:
        return Share(Batch(self, x), 0, len(x))

    @cached_property
    def begun(self) -> bytes:
        """The answer's document up to its items."""
        return orjson.dumps(fixed_header(self.scorer, self.terms))[:-1] + b","


def answers_alone(scorer: Scorer, terms: Terms, items: TensorItems) -> bool:
    """Whether nothing of the answer concerns the request as a whole, and every item could be read."""
    return (
        terms.fdr is None
        and scorer.calibration.item_groups is None
        and 0 < items.n <= INTERACTIVE_ROWS
        and items.names is None
        and not items.errors
        and not items.unseen
    )
