"""What a model does before its first caller: nobody pays for a first time."""

import math

from service.models.registry import ServedModel
from service.queue.batcher import SHORT_ROWS, Batcher
from service.scoring.terms import Terms

ROUNDS = 3
"""Of each size; what a batch is expected to cost follows what the last ones did."""


async def warm_up(batcher: Batcher, served: ServedModel) -> None:
    """Score the golden items once, and a few of them as small requests of every size, so that their costs are known.

    The batcher scores on the event loop only what it knows to be short.
    """
    scorer = served.scorer
    run, golden = served.run_of(Terms.of(scorer, alpha=None, guarantee=None, fdr=None)), scorer.golden
    await batcher.submit(scorer.score_tensor, golden, lane="bulk", deadline=math.inf)
    rows = 1
    while rows <= min(len(golden), SHORT_ROWS // 2):
        for _ in range(ROUNDS):
            await batcher.submit(run, golden[:rows], lane="interactive", deadline=math.inf)
        rows *= 2
