"""The one way from a bundle's folder to a model that can be served."""

from pathlib import Path

from elbound.errors import BundleError
from elbound.scorer import Scorer
from service.answer import fixed_header
from service.registry import ServedModel
from service.scoring import Terms


def open_bundle(folder: Path, *, device: str, name: str | None = None, version: str | None = None) -> ServedModel:
    """Load a bundle, check its hashes and golden rows, and score once, so that no caller pays for a first call.

    Where `name` and `version` are given it must be that one. Raises BundleError, BundleCorrupt, GoldenMismatch.
    """
    scorer = Scorer.from_bundle(folder, device=device)
    if (name or scorer.name, version or scorer.version) != (scorer.name, scorer.version):
        raise BundleError(
            f"{folder} holds {scorer.name} {scorer.version}; a store has it at {scorer.name}/{scorer.version}",
            code="bundle_misplaced",
            where=str(folder),
        )
    scorer.hasten_small_batches()
    for rows in (scorer.golden, scorer.golden[:1]):
        scorer.decide(scorer.score_tensor(rows))
    fixed_header(scorer, Terms(scorer.alpha, scorer.guarantee))
    return ServedModel(scorer, folder)
