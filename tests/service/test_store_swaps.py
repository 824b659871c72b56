"""Bundles are swapped under load: no request fails, and each is answered by one version, which it names."""

import asyncio
import io
import re
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import orjson
import pytest

from elbound.scorer import Scorer
from tests.conftest import fit_table, mixed_table
from tests.service.stores import put

pytestmark = pytest.mark.slow

SWAPS = 50
CLIENTS = 32
BROKEN_EVERY = 6
PAUSE_SECONDS = 0.2
"""Between two calls of a client: without it this measures how fast clients read answers."""


@pytest.fixture(scope="module")
def other_scorer() -> Scorer:
    """The columns of `numeric_scorer`, other scores."""
    return fit_table(mixed_table(600, seed=5).select(["a", "b", "c"]), name="numbers", steps=30)


def bodies() -> list[tuple[bytes, dict[str, str], np.ndarray]]:
    """One row on the short way, a table by the bulk lane in several slices, and a streamed answer."""
    draw = np.random.default_rng(0)
    one, many = draw.normal(size=(1, 3)), draw.normal(size=(300, 3))
    csv = io.StringIO()
    np.savetxt(csv, many, delimiter=",", header="a,b,c", comments="", fmt="%.17g")
    text = csv.getvalue().encode()
    return [
        (orjson.dumps(one.tolist()), {"content-type": "application/json"}, one),
        (text, {"content-type": "text/csv"}, many),
        (text, {"content-type": "text/csv", "accept": "application/x-ndjson"}, many),
    ]


@dataclass
class Load:
    """Callers who go round until told to stop; `changes` are the swaps, from their request to their answer."""

    scorers: tuple[Scorer, Scorer]
    first: str
    parity: dict[str, int]
    changes: list[tuple[float, float, str]] = field(default_factory=list)
    answered: dict[str, int] = field(default_factory=dict)
    stopped: bool = False

    def __post_init__(self) -> None:
        self.kinds = [
            (body, headers, [scorer.score_tensor(scorer.to_tensor(rows).only()).score for scorer in self.scorers])
            for body, headers, rows in bodies()
        ]

    async def call(self, client: httpx.AsyncClient, turn: int) -> None:
        while not self.stopped:
            kind = 0 if turn % 16 else 1 + turn // 16 % 2
            body, headers, expected = self.kinds[kind]
            sent = time.monotonic()
            answer = await client.post("/score", content=body, headers=headers)
            assert answer.status_code == 200, answer.text
            if "accept" in headers:
                first, *items, last = [orjson.loads(line) for line in answer.text.splitlines()]
                assert "summary" in last
            else:
                first = answer.json()
                items = first["items"]
            version = first["model"]["version"]
            assert version in self.possible(sent, time.monotonic())
            scores = np.array([item["score"] for item in items])
            assert scores == pytest.approx(expected[self.parity[version]], rel=1e-5, abs=1e-5)
            self.answered[version] = self.answered.get(version, 0) + 1
            turn += 1
            await asyncio.sleep(PAUSE_SECONDS)

    def possible(self, sent: float, received: float) -> set[str]:
        """Versions that were or became the live one in that time."""
        before = [version for _, end, version in self.changes if end < sent]
        meanwhile = {version for start, end, version in self.changes if start < received and end >= sent}
        return {before[-1] if before else self.first} | meanwhile


def test_fifty_swaps_under_load(start, key_file, numeric_scorer: Scorer, other_scorer: Scorer, tmp_path: Path) -> None:
    scorers = (numeric_scorer, other_scorer)
    first = put(tmp_path, numeric_scorer, 0)
    keys = key_file(k={"scopes": ["score", "read", "admin"]})
    server = start(
        models=tmp_path, store_poll_s=3600, api_keys_file=keys, max_streams=CLIENTS, max_streams_per_key=CLIENTS
    )
    server.client.headers["authorization"] = "Bearer k"
    broken = {i for i in range(1, SWAPS + 1) if i % BROKEN_EVERY == 0}
    versions = {i: put(tmp_path, scorers[i % 2], i, broken=i in broken) for i in range(1, SWAPS + 1)}
    load = Load(scorers, first, {first: 0, **{version: i % 2 for i, version in versions.items()}})

    async def swap(client: httpx.AsyncClient) -> None:
        for i, version in versions.items():
            change = (time.monotonic(), np.inf, version)
            if i not in broken:
                load.changes.append(change)
            answer = await client.post("/models/numbers/activate", json={"version": version})
            assert answer.status_code == (422 if i in broken else 200), answer.text
            if i not in broken:
                load.changes[-1] = (change[0], time.monotonic(), version)
        load.stopped = True

    async def run() -> None:
        limits = httpx.Limits(max_connections=CLIENTS + 1)
        async with httpx.AsyncClient(
            base_url=server.url, timeout=60, limits=limits, headers=server.client.headers
        ) as client:
            await asyncio.gather(swap(client), *(load.call(client, turn) for turn in range(CLIENTS)))

    asyncio.run(run())
    assert len(load.answered) > SWAPS / 3  # calls were going on while most versions were live
    assert not load.answered.keys() & {versions[i] for i in broken}
    for result, times in (("swapped", SWAPS - len(broken)), ("refused", len(broken))):
        assert server.metric(f'elbound_model_swaps_total{{model_name="numbers",result="{result}"}}') == times
    assert "Traceback" not in server.log.read_text()
    text = server.client.get("/metrics").text
    assert set(re.findall(r'^elbound_items_scored_total{.*model_version="(.*?)"', text, re.MULTILINE)) == {
        versions[SWAPS]
    }
