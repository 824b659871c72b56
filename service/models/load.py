"""The one way from a bundle's folder to a model that can be served."""

from pathlib import Path

from elbound.bundle.signature import Trust
from elbound.scorer import Scorer
from service.answers.documents import fixed_header
from service.models.registry import ServedModel
from service.scoring.terms import Terms


def open_bundle(folder: Path, *, device: str, trust: Trust, max_bytes: int) -> ServedModel:
    """Load a bundle as it proves what `trust` asks, and score once, so that no caller pays for a first call.

    `max_bytes` bounds its files and the memory that it needs.
    Raises BundleError, BundleUntrusted, BundleCorrupt, GoldenMismatch.
    """
    scorer = Scorer.from_bundle(folder, device=device, trust=trust, max_bytes=max_bytes)
    scorer.hasten_small_batches()
    for rows in (scorer.golden, scorer.golden[:1]):
        scorer.decide(scorer.score_tensor(rows))
    fixed_header(scorer, Terms(scorer.alpha, scorer.guarantee))
    return ServedModel(scorer, folder)
