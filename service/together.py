"""Small requests that are scored together: what answers them is computed once a batch and not once a request."""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import orjson
from torch import Tensor

from elbound.calibration.calibration import ScoredItems
from elbound.data.items import TensorItems
from elbound.scorer import Scorer
from service.answer import fixed_header, item_documents, summary_document
from service.scoring import INTERACTIVE_ROWS, Answer, Terms


class Batch:
    """Events `(n, *event)` of several requests, scored and decided on the same terms."""

    def __init__(self, scorer: Scorer, terms: Terms, x: Tensor) -> None:
        self.observed = False
        """Whether it was counted."""
        n = len(x)
        self.answer = Answer(scorer, TensorItems(x, np.arange(n), n, {}), scorer.score_tensor(x), terms)

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

    def content(self) -> bytes:
        """The answer, byte for byte that of `answer_document`."""
        documents = self.batch.documents[self.start : self.stop]
        for i, document in enumerate(documents):
            document["index"] = i
        answer = self.batch.answer
        n = len(documents)
        anomalies = sum(document["is_anomaly"] is True for document in documents)
        summary = summary_document(items=n, scored=n, anomalies=anomalies, errors=0, unseen={})
        rest = orjson.dumps({"items": documents, "summary": summary})
        return _begun(answer.scorer, answer.terms) + rest[1:]


@dataclass(frozen=True, eq=False)
class TogetherRun:
    """What the device runs for small requests on the same terms; there is one of each, so that their jobs join."""

    scorer: Scorer
    terms: Terms

    def __call__(self, x: Tensor) -> Share:
        return Share(Batch(self.scorer, self.terms, x), 0, len(x))


run_of = lru_cache(maxsize=64)(TogetherRun)


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


@lru_cache(maxsize=64)
def _begun(scorer: Scorer, terms: Terms) -> bytes:
    """The answer's document up to its items."""
    return orjson.dumps(fixed_header(scorer, terms))[:-1] + b","
