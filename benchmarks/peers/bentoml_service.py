"""BentoML: `bentoml serve benchmarks.peers.bentoml_service:Elbound` with `ELBOUND_PEER`, a JSON object of settings."""

import json
import os

import bentoml
import numpy as np

from benchmarks.peers.function import Function

ASKED = json.loads(os.environ["ELBOUND_PEER"])
BATCHING = {name: ASKED[name] for name in ("max_batch_size", "max_latency_ms") if name in ASKED}


@bentoml.service(workers=ASKED["workers"], traffic={"timeout": 60}, logging={"access": {"enabled": False}})
class Elbound:
    def __init__(self) -> None:
        self.function = Function(ASKED["bundle"])

    @bentoml.api(batchable=bool(BATCHING), **BATCHING)
    async def score(self, rows: np.ndarray) -> np.ndarray:
        found = self.function(np.asarray(rows, dtype=np.float64))
        return np.stack(list(found.values()), 1)
