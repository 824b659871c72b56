"""Small requests that are scored in one batch: their answers are computed once a batch and not once a request."""

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


class SharedBatch:
    """Events `(n, *event)` of several requests, scored and decided on the same terms."""

    def __init__(self, run: "SharedRun", x: Tensor) -> None:
        self.run = run
        self.is_counted = False
        """Whether its scores were counted by the metrics."""
        n = len(x)
        items = TensorItems(x, np.arange(n), n, {})
        self.answer = Answer(run.scorer, items, run.scorer.score_tensor(x), run.terms)

    @property
    def scored(self) -> ScoredItems:
        return self.answer.scored

    @cached_property
    def documents(self) -> list[dict[str, object]]:
        """The record of each item; the request that owns an item sets its index."""
        return item_documents(self.answer)


@dataclass(frozen=True)
class BatchPart:
    """The rows of one request in a batch."""

    batch: SharedBatch
    start: int
    stop: int

    def part(self, start: int, stop: int) -> "BatchPart":
        return BatchPart(self.batch, self.start + start, self.start + stop)

    def own_items(self) -> tuple[TensorItems, ScoredItems, np.ndarray]:
        """The request's items, copied out of the batch, their scores, and which are anomalies at the bundle's rate."""
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
        return self.batch.run.header + rest[1:]


@dataclass(frozen=True, eq=False)
class SharedRun:
    """The work of the device for small requests on the same terms: the batcher joins jobs of the same run."""

    scorer: Scorer
    terms: Terms

    def __call__(self, x: Tensor) -> BatchPart:
        return BatchPart(SharedBatch(self, x), 0, len(x))

    @cached_property
    def header(self) -> bytes:
        """The JSON of the answer up to its items."""
        return orjson.dumps(fixed_header(self.scorer, self.terms))[:-1] + b","


def can_share_batch(scorer: Scorer, terms: Terms, items: TensorItems) -> bool:
    """Whether a request may share a batch: all its items could be read, and none of its answer is about the upload."""
    return (
        terms.fdr is None
        and scorer.calibration.item_groups is None
        and 0 < items.n <= INTERACTIVE_ROWS
        and items.names is None
        and not items.errors
        and not items.unseen
    )
