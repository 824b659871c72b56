"""The protocol and the statistics of the detection benchmark; nothing is timed and nothing is trained."""

import math
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn")

from benchmarks.detection import __main__ as command
from benchmarks.detection.images import blocks_of, load, pasted, resized, sets, tile_split
from benchmarks.detection.measure import measure
from benchmarks.detection.peers import IMAGE_PEERS, TABLE_PEERS
from benchmarks.detection.record import Record
from benchmarks.detection.statistics import Alarms, mean_lead, pooled_alarms, resolved
from benchmarks.detection.tables import clean_split
from benchmarks.detection.task import Job, Task
from elbound.calibration.conformal import ConformalCalibrator
from elbound.evaluation import realised_rate

LABELS = np.r_[np.zeros(900), np.ones(100)][np.random.default_rng(0).permutation(1000)]


def test_the_clean_split_is_disjoint_and_leaves_nothing_out() -> None:
    train, normal, anomalies = clean_split(LABELS, seed=0)
    assert len(train) == len(normal) == 450
    assert not LABELS[train].any()
    assert not LABELS[normal].any()
    np.testing.assert_array_equal(anomalies, np.flatnonzero(LABELS == 1))
    np.testing.assert_array_equal(np.sort(np.r_[train, normal, anomalies]), np.arange(1000))


def test_the_clean_split_cuts_normals_and_anomalies_to_the_same_share() -> None:
    train, normal, anomalies = clean_split(LABELS, seed=0, max_train=300, max_test=110)
    assert (len(train), len(normal), len(anomalies)) == (300, 90, 20)
    assert len(set(train) | set(normal) | set(anomalies)) == 410
    assert LABELS[anomalies].all()


def test_a_rare_anomaly_is_kept_when_rows_are_cut() -> None:
    labels = np.r_[np.zeros(1000), 1]
    _, normal, anomalies = clean_split(labels, seed=0, max_test=50)
    assert (len(normal), len(anomalies)) == (49, 1)


def test_the_clean_split_depends_on_the_seed_alone() -> None:
    first, again, other = (clean_split(LABELS, seed=seed)[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_lead_has_no_spread_where_it_is_the_same_everywhere() -> None:
    lead = mean_lead([0.9, 0.8, 0.7], [0.8, 0.7, 0.6])
    assert lead.value == pytest.approx(0.1)
    assert (lead.low, lead.high) == pytest.approx((0.1, 0.1))


def test_the_interval_of_the_lead_is_the_normal_one_for_many_sets() -> None:
    draw = np.random.default_rng(1)
    ours = draw.normal(0.02, 0.05, 400)
    lead = mean_lead(ours, np.zeros(400))
    half = 1.96 * ours.std() / math.sqrt(400)
    assert lead.low == pytest.approx(ours.mean() - half, abs=half / 20)
    assert lead.high == pytest.approx(ours.mean() + half, abs=half / 20)


def test_the_lead_is_paired() -> None:
    """Sets that differ a lot, a lead that does not: the interval is narrow."""
    theirs = np.linspace(0.1, 0.9, 20)
    lead = mean_lead(theirs + np.tile([0.01, 0.02], 10), theirs)
    assert 0.01 < lead.low < lead.value < lead.high < 0.02


def test_one_set_pools_to_its_own_interval() -> None:
    draw = np.random.default_rng(0)
    verdict = ConformalCalibrator(draw.normal(size=99), spread=1.0)
    alone = realised_rate(verdict, draw.normal(size=300), 0.05)
    pooled = pooled_alarms([Alarms(0.05, alone.alarms, 300, verdict.n, verdict.rank(0.05))])
    assert (pooled.value, pooled.low, pooled.high) == (alone.alarms, alone.low, alone.high)


def test_two_uniform_counts_pool_to_the_triangle() -> None:
    """n = 1 and k = 1 make the count uniform on 0..m; the sum of two is triangular."""
    m = 99
    pooled = pooled_alarms([Alarms(0.5, 50, m, 1, 1), Alarms(0.5, 60, m, 1, 1)])
    triangle = np.cumsum(np.r_[np.arange(1, m + 2), np.arange(m, 0, -1)]) / (m + 1) ** 2
    assert pooled.value == 110
    assert (pooled.low, pooled.high) == tuple(np.searchsorted(triangle, [0.025, 0.975]))


def test_the_pooled_interval_is_that_of_simulated_counts() -> None:
    draw = np.random.default_rng(0)
    counts = [Alarms(0.05, 0, items, n, math.floor(0.05 * (n + 1))) for items, n in ((200, 99), (1000, 400), (60, 19))]
    total = sum(draw.binomial(one.items, draw.beta(one.k, one.calibration + 1 - one.k, 200_000)) for one in counts)
    pooled = pooled_alarms(counts)
    assert pooled.low == pytest.approx(np.quantile(total, 0.025), abs=1)
    assert pooled.high == pytest.approx(np.quantile(total, 0.975), abs=1)


def test_a_calibration_that_does_not_resolve_alpha_is_left_out() -> None:
    counts = [Alarms(0.01, 0, 100, 20, 0), Alarms(0.01, 2, 100, 99, 1)]
    assert resolved(counts) == counts[1:]


def test_every_peer_finds_what_is_far_away() -> None:
    draw = np.random.default_rng(0)
    rows = draw.normal(size=(300, 6)) @ draw.normal(size=(6, 6))
    rows[:, 5] = 1.0  # a constant column
    far = rows[:20] + 50 * draw.normal(size=(20, 6))
    images = draw.integers(0, 60, (300, 8, 8), dtype=np.uint8)
    for peers, train, odd in ((TABLE_PEERS, rows, far), (IMAGE_PEERS, images, 255 - images[:20])):
        task = Task(train[:200], train[200:], {"odd": odd})
        for method in peers:
            if not method.startswith("PyOD"):
                line = measure(task, Job("tables", "none", 0, method))
                assert line["results"]["odd"]["score"]["auroc"] > 0.95, method


def test_pasted_patches_change_what_the_mask_says() -> None:
    images = np.random.default_rng(0).integers(0, 256, (30, 28, 28, 3), dtype=np.uint8)
    altered, masks = pasted(images, 0)
    assert altered.shape == images.shape
    assert (masks.sum(axis=(1, 2)) == 64).all()
    assert (altered == images)[~masks].all()
    assert (altered != images)[masks].mean() > 0.9


def test_an_image_that_no_patch_changes_is_left_out() -> None:
    images = np.zeros((20, 28, 28), dtype=np.uint8)
    images[:10] = 200
    images[10:] += np.uint8(10)
    altered, _ = pasted(images, 0)
    assert len(altered) == 20
    with pytest.raises(ValueError, match="at least one"):
        pasted(np.zeros((5, 28, 28), dtype=np.uint8), 0)


def test_images_become_the_size_and_colour_of_the_source() -> None:
    grey = np.full((2, 28, 28), 77, dtype=np.uint8)
    np.testing.assert_array_equal(resized(grey, 32, colour=True), np.full((2, 32, 32, 3), 77))


def test_blocks_are_runs_of_numbers_without_a_large_gap() -> None:
    np.testing.assert_array_equal(blocks_of([5000, 10, 150, 5200, 300, 5401]), [1, 0, 0, 1, 0, 2])


def test_no_block_of_tiles_is_on_both_sides() -> None:
    blocks = np.repeat(np.arange(40), 6)
    good = np.ones(240, dtype=bool)
    good[:9] = False  # all of block 0 and half of block 1 are defects
    trains = tile_split(blocks, good, seed=0)
    assert not set(blocks[trains]) & set(blocks[~trains])
    assert not trains[~good].any()
    assert 0.2 < (good & ~trains).sum() / good.sum() < 0.3


@pytest.mark.parametrize("part", ["shift", "one-class", "circuits", "tiles", "patches"])
def test_image_tasks_hold_together(data_sets: Path, part: str) -> None:
    for name in (sets(part)[0], sets(part)[-1]):
        task = load(data_sets, part, name, seed=0, max_train=40)
        assert 20 < len(task.train) <= 40
        assert all(items.shape[1:] == task.train.shape[1:] and items.dtype == np.uint8 for items in task.odd.values())
        assert task.groups is None or len(task.groups) == len(task.train)
        assert all(mask.shape[:3] == task.odd[kind].shape[:3] for kind, mask in task.masks.items())


def _line(auroc: float) -> dict[str, object]:
    return {
        "sizes": {"train": 10, "test": 10, "rows": 600, "columns": 3, "anomalies": 5},
        "fit_s": 1.0,
        "score_s": 0.5,
        "scored": 15,
        "wall_s": 2.0,
        "results": {"anomalies": {"score": {"auroc": auroc, "aupr": auroc / 2}}},
    }


class _Here:
    """Instead of a pool of processes: jobs run in this one."""

    ran: list[Job]

    def __init__(self, *_: object, **__: object) -> None:
        self.ran = []
        _Here.last = self

    last: "_Here"

    def __enter__(self) -> "_Here":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, _run: object, _data: Path, job: Job) -> object:
        from concurrent.futures import Future

        self.ran.append(job)
        future: Future[dict[str, object]] = Future()
        future.set_result(_line(0.9) if job.method != "broken" else {"failed": "no reason", "wall_s": 0.1})
        return future


def test_a_second_run_measures_only_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "ProcessPoolExecutor", _Here)
    for name in command.THREADS:
        monkeypatch.setenv(name, "1")
    path = tmp_path / "detection.jsonl"
    jobs = [Job("tables", "a", seed, method, 100) for seed in (0, 1) for method in ("kNN", "broken")]
    assert command.run(tmp_path, jobs, Record(path)) == 2
    assert _Here.last.ran == jobs
    more = [*jobs, Job("tables", "b", 0, "kNN", 100), Job("tables", "a", 0, "kNN", 50)]
    command.run(tmp_path, more, Record(path))
    assert _Here.last.ran == [job for job in more if job.method == "broken" or job not in jobs]


def test_a_torn_line_is_dropped_and_its_job_is_not_done(tmp_path: Path) -> None:
    path = tmp_path / "detection.jsonl"
    first, second = Job("tables", "a", 0, "kNN", 1), Job("tables", "a", 1, "kNN", 1)
    record = Record(path)
    record.append(first, _line(0.9), {})
    record.append(second, _line(0.9), {})
    path.write_text(path.read_text()[:-10])
    again = Record(path)
    assert again.is_done(first)
    assert not again.is_done(second)
    again.append(second, _line(0.8), {})
    assert Record(path).is_done(second)


def test_fresh_forgets_only_what_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "detection.jsonl"
    record = Record(path)
    jobs = [Job("tables", name, 0, "kNN", 1) for name in ("a", "b")]
    for job in jobs:
        record.append(job, _line(0.9), {})
    record.forget(jobs[:1])
    assert [Record(path).is_done(job) for job in jobs] == [False, True]


def test_what_failed_is_tried_again(tmp_path: Path) -> None:
    record = Record(tmp_path / "detection.jsonl")
    job = Job("tiles", "tiles", 0, "elbound")
    record.append(job, {"failed": "out of memory"}, {})
    assert not record.is_done(job)
