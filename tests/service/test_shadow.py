"""A shadow scores what the live version has scored; nobody sees its verdicts but who asks for them."""

import asyncio
import re
from pathlib import Path

import httpx
import numpy as np
import orjson
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from elbound.data.table import TablePreprocessor
from elbound.schema import Column, ImageSchema, TableSchema
from elbound.scorer import Scorer
from service.errors import NoShadow
from service.models.store.translation import translation
from service.queue.batcher import Batcher
from service.queue.jobs import Job
from service.state import State
from service.uploads import pieces
from tests.conftest import fit_table, mixed_table
from tests.service.stores import put, version_at
from tests.service.test_store import JSON, live, look, post, serving

CSV = {"content-type": "text/csv"}


@pytest.fixture(scope="module")
def other_scorer() -> Scorer:
    """The columns of `numeric_scorer` in another order, without one of them, and other scores."""
    return fit_table(mixed_table(600, seed=5).select(["c", "a"]), name="numbers", steps=30)


def upload(n: int, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 3)) * 2


def csv_of(values: np.ndarray) -> bytes:
    return b"a,b,c\n" + b"".join(b"%r,%r,%r\n" % tuple(row) for row in values.tolist())


async def settled(client: httpx.AsyncClient, state: State) -> dict:  # type: ignore[type-arg]
    """What is told of the shadow once it has scored all that it was shown."""
    work = state.shadows.running["numbers"].work
    if work is not None:
        await work
    told: dict = (await client.get("/models/numbers")).json()["shadow"]  # type: ignore[type-arg]
    return told


def verdicts(scorer: Scorer, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scored = scorer.score_tensor(scorer.to_tensor(values).only())
    return scorer.decide(scored).is_anomaly, scored.score


def test_both_verdicts_are_counted_and_differences_listed(
    numeric_scorer: Scorer, other_scorer: Scorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the short way, by the ordinary one and by a stream; items with an error keep their places."""
    values = [upload(3), upload(400, seed=1), upload(700, seed=2)]
    monkeypatch.setattr(pieces, "PIECE_ROWS", 300)

    async def run() -> None:
        put(tmp_path, other_scorer, 0)
        put(tmp_path, numeric_scorer, 1)
        async with serving(tmp_path) as (client, state):
            started = await post(client, "shadow", version_at(0))
            assert (started.status_code, started.json()["items"]) == (200, 0)
            rows = [*values[0].tolist()[:1], [1, 2], *values[0].tolist()[1:]]  # one that cannot be read
            for body, headers in (
                (orjson.dumps(rows), JSON),
                (orjson.dumps(values[0].tolist()), JSON),
                (csv_of(values[1]), CSV),
                (csv_of(values[2]), {**CSV, "accept": "application/x-ndjson"}),
            ):
                answer = await client.post("/score?alpha=0.5", content=body, headers=headers)
                assert answer.status_code == 200
                assert version_at(0) not in answer.text
            told = await settled(client, state)
            seen = [values[0], values[0], values[1], values[2]]
            ours = [verdicts(numeric_scorer, part) for part in seen]
            theirs = [verdicts(other_scorer, part[:, [2, 0]]) for part in seen]
            live_odd, shadow_odd = (np.concatenate([odd for odd, _ in side]) for side in (ours, theirs))
            both = {(True, True): "both_anomaly", (False, False): "both_normal", (True, False): "only_live"}
            for is_live in (True, False):
                for is_shadow in (True, False):
                    n = int(((live_odd == is_live) & (shadow_odd == is_shadow)).sum())
                    assert told[both.get((is_live, is_shadow), "only_shadow")] == n
                    labels = {
                        "model_name": "numbers", "model_version": version_at(1), "shadow_version": version_at(0),
                        "live": "anomaly" if is_live else "normal", "shadow": "anomaly" if is_shadow else "normal",
                    }  # fmt: skip
                    assert state.metrics.registry.get_sample_value("elbound_shadow_items_total", labels) == n
            assert (told["items"], told["waiting"], told["skipped"], told["failed"]) == (len(live_odd), 0, 0, 0)
            odd, score = ours[3]
            expected = [(i, score[i], theirs[3][1][i]) for i in np.flatnonzero(odd != theirs[3][0]).tolist()]
            found = [(one["index"], one["live"]["score"], one["shadow"]["score"]) for one in told["disagreements"]]
            assert len(found) == 100 < len(expected)
            assert np.array(found) == pytest.approx(np.array(expected[-100:]), rel=1e-5)
            assert all(one.keys() == {"at", "index", "live", "shadow"} for one in told["disagreements"])
            counted = state.metrics.registry.get_sample_value
            labels = {"model_name": "numbers", "model_version": version_at(0), "verdict": "normal"}
            assert counted("elbound_items_scored_total", labels) is None  # no caller was given its verdict

    asyncio.run(run())


def test_a_shadow_is_activated_without_loading_it_again_or_dropped(
    numeric_scorer: Scorer, other_scorer: Scorer, tmp_path: Path
) -> None:
    async def run() -> None:
        for i, scorer in enumerate((numeric_scorer, numeric_scorer, other_scorer)):
            put(tmp_path, scorer, i)
        async with serving(tmp_path) as (client, state):
            await post(client, "activate", version_at(0))
            assert (await post(client, "shadow", version_at(2))).json()["live_version"] == version_at(0)
            shadow = state.shadows.running["numbers"].served
            await live(client)
            assert (await settled(client, state))["items"] == 1
            await post(client, "activate", version_at(1))  # beside another live version it counts anew
            told = await settled(client, state)
            assert (told["live_version"], told["items"]) == (version_at(1), 0)
            assert state.shadows.running["numbers"].served is shadow
            await post(client, "activate", version_at(2))
            assert state.registry.get("numbers") is shadow
            assert (await client.get("/models/numbers")).json()["shadow"] is None
            answer = await client.request("DELETE", "/models/numbers/shadow")
            assert (answer.status_code, answer.json()["error"]["code"]) == (409, "no_shadow")
            refused = await post(client, "shadow", version_at(1))  # it needs the column b, which is not read any more
            assert (refused.status_code, refused.json()["error"]["code"]) == (409, "no_shadow")
            assert "'b'" in refused.json()["error"]["message"]
            await post(client, "activate", version_at(1))
            await post(client, "shadow", version_at(2))
            dropped = await client.request("DELETE", "/models/numbers/shadow")
            assert (dropped.status_code, dropped.json()["version"]) == (200, version_at(2))
            text = (await client.get("/metrics")).text
            assert not re.search(r"^elbound_shadow_\w+{", text, re.MULTILINE)
            await look(state)

    asyncio.run(run())


def test_a_shadow_that_fails_or_is_late_costs_nobody_an_answer(
    numeric_scorer: Scorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        put(tmp_path, numeric_scorer, 0)
        put(tmp_path, numeric_scorer, 1)
        async with serving(tmp_path, max_shadow_bytes=24 * 10) as (client, state):
            await post(client, "shadow", version_at(0))
            scorer = state.shadows.running["numbers"].served.scorer
            for rows in (10, 11):
                answer = await client.post("/score", content=orjson.dumps(upload(rows).tolist()), headers=JSON)
                assert answer.status_code == 200
            told = await settled(client, state)
            assert (told["items"], told["skipped"]) == (10, 11)
            monkeypatch.setattr(scorer, "score_tensor", lambda _: 1 / 0)
            assert await live(client) == version_at(1)
            told = await settled(client, state)
            assert (told["items"], told["failed"]) == (10, 1)
            assert state.ready

    asyncio.run(run())


def test_who_waits_for_an_answer_goes_before_the_shadow() -> None:
    """The lane is asked only when the others are empty."""
    batcher = Batcher(max_queue_rows=100, max_queue_bytes=1 << 20, batch_rows=16)

    async def run() -> list[str]:
        loop = asyncio.get_running_loop()
        for lane in ("idle", "bulk", "idle", "interactive", "bulk"):
            batcher.lanes[lane].append(Job(len, torch.zeros(1, 1), lane, 0, 1, loop))  # type: ignore[index, arg-type]
        return [batcher._next_batch()[0].lane for _ in range(5)]

    assert asyncio.run(run())[3:] == ["idle", "idle"]


LEVELS = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=6, unique=True).map(tuple)


@given(live=LEVELS, other=LEVELS, cells=st.lists(st.sampled_from([*"abcdefgh", None]), min_size=1, max_size=20))
def test_events_are_translated_as_if_the_other_had_read_them(
    live: tuple[str, ...], other: tuple[str, ...], cells: list[str | None]
) -> None:
    """But for values that the live version never saw: they are unseen to the other too."""
    number = Column(name="n", kind="numeric", nullable=True)
    schemas = [
        TableSchema(columns=(number, Column(name="site", kind="categorical", levels=live, nullable=True))),
        TableSchema(columns=(Column(name="site", kind="categorical", levels=other, nullable=True), number)),
    ]
    numbers = [float(i) for i in range(len(cells))]  # a row without a single cell is an error
    table = pa.table({"site": pa.array(cells, pa.string()), "n": pa.array(numbers, pa.float64())})
    x, expected = (TablePreprocessor(schema).to_tensor(table).x for schema in schemas)
    unseen = torch.tensor([cell is not None and cell not in live for cell in cells])
    expected[unseen, 0] = len(other)
    found = translation(*schemas)(x)
    assert torch.equal(found.nan_to_num(-1), expected.nan_to_num(-1))
    assert torch.equal(x.nan_to_num(-1), TablePreprocessor(schemas[0]).to_tensor(table).x.nan_to_num(-1))


def test_what_is_read_in_another_way_has_no_shadow() -> None:
    image = ImageSchema(height=12, width=12, channels=1)
    table = TableSchema(columns=(Column(name="n", kind="numeric"),))
    x = torch.zeros(1, 1, 12, 12)
    assert translation(image, image.model_copy(update={"group_by": "(.)"}))(x) is x
    for read, other in (
        (image, image.model_copy(update={"resize": "crop"})),
        (image, table),
        (table, image),
        (table, TableSchema(columns=(Column(name="n", kind="boolean"),))),
    ):
        with pytest.raises(NoShadow):
            translation(read, other)
