"""A small batch as one call into torch: of one row, most of the time goes by between torch's operations, in Python.

TorchScript is deprecated, and nothing else in torch runs a graph without Python and without a compiler: where it is
gone, or a detector cannot be traced, torch goes on one operation at a time.
"""

import logging
import warnings

import torch
from torch import Tensor, nn

from elbound.detector import ChunkScore, Detector
from elbound.engines.agreement import AGREEMENT, hard_rows, worst_difference
from elbound.engines.torch_private import graph_of
from elbound.schema import ImageSchema, TableSchema

SMALL_ROWS = 128
"""Up to here a batch is small; in larger ones the operations themselves take the time."""
PROBES = (1, 2, 3, 17, SMALL_ROWS)
logger = logging.getLogger("elbound")


class Scores(nn.Module):
    """A detector with `score` for its `forward`: what a graph is taken of."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, x: Tensor) -> Tensor:
        return self.detector.score(x)


def traced(detector: Detector, schema: TableSchema | ImageSchema, rows: Tensor) -> ChunkScore | None:
    """The detector's trace, from its scoring of some `rows` `(n, *event)`, for batches up to `SMALL_ROWS` on the CPU.

    None for images, where the trace fails, and where it scores `rows`, rows with gaps or far ones otherwise.
    """
    if not isinstance(schema, TableSchema):
        return None
    probe = hard_rows(rows, schema)
    probe = probe.repeat(-(-SMALL_ROWS // len(probe)), 1)[:SMALL_ROWS]
    try:
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            detector.score(probe[:2])  # what is derived at first use is there before the graph is taken
            graph = graph_of(Scores(detector).eval(), probe[:2])
            for n in (*PROBES, *PROBES):  # the second call of a graph is the first that runs as all later ones
                worst = worst_difference(graph(probe[-n:]), detector.score(probe[-n:]))
                if not worst <= AGREEMENT:
                    logger.warning("the detector's trace scores %d rows %.2g off and is not used", n, worst)
                    return None
    except Exception as error:
        logger.info("no trace of the detector: %s", (str(error).strip().splitlines() or [type(error).__name__])[-1])
        return None
    return graph
