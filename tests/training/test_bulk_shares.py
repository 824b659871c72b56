"""Shares of a bulk run: together they are the whole, in whatever order and however often they are scored."""

import json
import pickle
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elbound.errors import ConfigError
from elbound.scorer import Scorer
from tests.training.test_bulk import PIECE, inputs, part_bytes, score
from tests.training.test_commands import png, write_zip
from training.score.inputs import find_inputs
from training.score.parts import SUCCESS, Partition, Parts
from training.score.results import BulkSummary
from training.score.run import BulkRun
from training.score.shares import Job, Share, ShareScorer, cut, found_of, rows_of

__all__ = ["inputs"]


@given(
    count=st.none() | st.integers(0, 5_000),
    size=st.integers(1, 300),
    inputs=st.integers(1, 20),
    workers=st.integers(1, 64),
)
@settings(max_examples=200, deadline=None)
def test_every_piece_is_in_one_share(count: int | None, size: int, inputs: int, workers: int) -> None:
    shares = cut(count, inputs, place=3, before=7, size=size, workers=workers)
    for number in range(-(-(count or 0) // size) + 70):  # an input may turn out to be longer
        assert sum(number in share.numbers for share in shares) == 1
    assert {(share.place, share.before) for share in shares} == {(3, 7)}


def test_shares_are_as_many_as_the_workers_need() -> None:
    def lengths(count: int | None, inputs: int, workers: int) -> list[int]:
        return [len(share.numbers) for share in cut(count, inputs, place=0, before=0, size=10, workers=workers)]

    assert lengths(10_000, 1, 8)[:-1] == [16] * 62
    assert lengths(320, 1, 8)[:-1] == [4] * 7
    assert len(lengths(1, 1, 8)) == len(lengths(0, 1, 8)) == 1
    assert [len(lengths(None, n, 8)) for n in (1, 3, 8, 100)] == [8, 2, 1, 1]


def prepare(bundle: Path, paths: list[Path], out: Path, share: str = "0/1", **options: object) -> Job:
    scorer = Scorer.from_bundle(bundle, device="cpu")
    run = BulkRun(scorer, scorer.alpha, scorer.guarantee, **options)  # type: ignore[arg-type]
    found = find_inputs(scorer, paths)
    parts = Parts(out, "parquet", Partition.parse(share))
    parts.open(run.plan(found), resume=True)
    return Job(bundle, run.alpha, run.guarantee, run.heatmaps, run.size, found, parts, Path.cwd())


def work(job: Job, shares: list[Share], draw: random.Random) -> BulkSummary:
    """Score the shares in any order as two workers do; half of the shares break off once and are tried again."""
    workers = [ShareScorer(pickle.loads(pickle.dumps(job)), "cpu") for _ in range(2)]
    total = BulkSummary()
    for row in draw.sample(rows_of(shares), len(shares)):
        if draw.random() < 0.5:
            attempt = iter(draw.choice(workers)(row))
            for _ in range(draw.randrange(1, 4)):
                next(attempt, None)
            del attempt
        for said in draw.choice(workers)(row):
            found = found_of(said)[1]
            total += found or BulkSummary()
    return total


@pytest.mark.parametrize("workers", [1, 4, 20])
def test_shares_leave_what_one_process_leaves(
    table_bundle: Path, inputs: list[Path], tmp_path: Path, workers: int
) -> None:
    score(table_bundle, inputs, f"{tmp_path}/whole/")
    out = tmp_path / "parts"
    score(table_bundle, inputs, f"{out}/", partition="2/3")
    draw, total = random.Random(workers), BulkSummary()
    for i in (0, 1):
        job = prepare(table_bundle, inputs, out, f"{i}/3", piece_items=PIECE)
        total += work(job, job.shares(workers)[0], draw)
        assert (job.parts.finish(len(inputs)) is not None) == (i == 1)
    assert part_bytes(out) == part_bytes(tmp_path / "whole")
    assert (out / SUCCESS).read_bytes() == (tmp_path / "whole" / SUCCESS).read_bytes()
    assert total.items == 402 - sum(json.loads(path.read_text())["items"] for path in counts_of_partition(out))
    job = prepare(table_bundle, inputs, out, piece_items=PIECE)
    assert job.shares(workers) == ([], 402)


def counts_of_partition(out: Path) -> list[Path]:
    """Of the pieces of partition 2/3."""
    names = (path.stem.split("-")[1:] for path in out.glob("part-*"))
    return [out / "_counts" / f"{a}-{b}.json" for a, b in names if (int(a) + int(b)) % 3 == 2]


def test_heat_maps_of_shares_have_the_rows_of_the_whole(image_bundle: Path, tmp_path: Path) -> None:
    odd = png(np.random.default_rng(0).integers(0, 256, (12, 12), dtype=np.uint8))
    files = [write_zip(tmp_path / f"{k}.zip", {f"{i:02d}.png": odd for i in range(5)}) for k in range(2)]
    score(image_bundle, files, f"{tmp_path}/whole/", 2, heatmaps=tmp_path / "maps")
    (tmp_path / "maps2").mkdir()
    job = prepare(image_bundle, files, tmp_path / "parts", heatmaps=tmp_path / "maps2", piece_items=2)
    found = work(job, job.shares(3)[0], random.Random(0))
    assert found.heatmaps == found.items == 10
    assert part_bytes(tmp_path / "parts") == part_bytes(tmp_path / "whole")
    maps = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("maps", "maps2")]
    assert maps[0] == maps[1]


def test_a_worker_that_sees_something_else_refuses(
    numeric_scorer: Scorer, table_bundle: Path, inputs: list[Path], tmp_path: Path
) -> None:
    job = prepare(table_bundle, inputs, tmp_path / "parts", piece_items=PIECE)
    row = rows_of(job.shares(1)[0])[0]

    def attempt(named: Path) -> None:
        with pytest.raises(ConfigError, match=f"a worker on .* does not see {named} as this command does"):
            next(iter(ShareScorer(job, "cpu")(row)))
        assert not list(job.parts.out.glob("part-*"))

    before = inputs[0].read_bytes()
    inputs[0].write_bytes(before + b"\n")
    attempt(inputs[0])
    inputs[0].unlink()
    attempt(inputs[0])
    inputs[0].write_bytes(before)
    table_bundle.rename(tmp_path / "moved")
    try:
        attempt(table_bundle)
        numeric_scorer.save(table_bundle)
        attempt(table_bundle)
    finally:
        for path in table_bundle.iterdir():
            path.unlink()
        table_bundle.rmdir()
        (tmp_path / "moved").rename(table_bundle)
    job.parts.out.rename(tmp_path / "elsewhere")
    attempt(job.parts.out)
