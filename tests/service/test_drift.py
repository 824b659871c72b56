"""Drift of served models: followed as they score, told by route and metrics, kept over restarts, never invented."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import orjson
import pytest
import safetensors.numpy
from safetensors import safe_open

from elbound import VAEDetector
from elbound.calibration.drift import EPOCH, LOG_THRESHOLD, DriftMartingale
from elbound.scorer import Scorer
from service.monitoring import drift as drift_module
from service.monitoring.drift import DriftMonitor, ModelDrift
from tests.forked import run

JSON = "application/json"


def rows(n: int, *, seed: int = 0, shift: float = 0.0) -> np.ndarray:
    """Like the numeric columns of `mixed_table`, gaps included."""
    draw = np.random.default_rng(seed)
    z = draw.normal(size=n)
    a, b, c = z + 0.1 * draw.normal(size=n), 2 * z + 0.2 * draw.normal(size=n), draw.gamma(2.0, size=n)
    b[draw.random(n) < 0.1] = np.nan
    return np.column_stack([a + shift, b, c])


def post(server, values: np.ndarray, *, at_once: int = 100) -> np.ndarray:  # type: ignore[no-untyped-def]
    """Score `values` in uploads of `at_once` rows; the scores as they were answered."""
    found = []
    for start in range(0, len(values), at_once):
        answer = server.score(orjson.dumps(values[start : start + at_once].tolist()), JSON, model="numbers").json()
        found += [item["score"] for item in answer["items"]]
    return np.array(found)


def drift_of(server, name: str = "numbers") -> dict:  # type: ignore[no-untyped-def, type-arg]
    response = server.client.get(f"/models/{name}/drift")
    assert response.status_code == 200
    answer: dict = response.json()  # type: ignore[type-arg]
    return answer


def test_a_model_that_has_scored_nothing_says_so(start, image_bundle: Path) -> None:
    server = start(image_bundle)
    answer = drift_of(server, "pictures")
    assert answer["model"]["name"] == "pictures"
    assert (answer["followed"], answer["drifted"], answer["kept"], answer["lost"]) == (True, False, False, None)
    assert answer["log_threshold"] == LOG_THRESHOLD
    assert server.client.get("/models/nobody/drift").json()["error"]["code"] == "model_not_found"


def test_scores_are_followed_as_they_are_answered(start, numeric_bundle: Path, numeric_scorer: Scorer) -> None:
    server = start(numeric_bundle)
    expected = DriftMartingale(numeric_scorer.calibration.verdict)
    labels = f'{{model_name="numbers",model_version="{numeric_scorer.version}"}}'
    assert server.metric(f"elbound_drift_log_martingale{labels}") == pytest.approx(-np.log(2))
    expected.observe(post(server, rows(300), at_once=7))
    mixed = server.score(b'{"rows": [[1, 2, 3], [1, 2], [0, 0, "x"], [0, 0, 1]]}', JSON).json()
    expected.observe(np.array([item["score"] for item in mixed["items"] if "score" in item]))
    answer = drift_of(server)
    assert answer["scores"] == expected.scores == sum(answer["p_values"]["counts"]) == 300 + mixed["summary"]["scored"]
    assert mixed["summary"]["errors"] > 0
    assert (len(answer["p_values"]["edges"]), len(answer["p_values"]["counts"])) == (21, 20)
    assert answer["log_martingale"] == pytest.approx(expected.log_martingale, abs=1e-8)
    assert not answer["drifted"]
    assert (answer["drifted_at"], answer["epoch"], answer["epoch_scores"]) == (None, 0, expected.scores)
    assert server.metric(f"elbound_drift_log_martingale{labels}") == pytest.approx(expected.log_martingale, abs=1e-8)


@pytest.mark.slow
def test_a_drift_is_told_and_remembered_over_a_restart(start, numeric_bundle: Path, tmp_path: Path) -> None:
    server = start(numeric_bundle, state_dir=tmp_path / "new" / "folder")
    post(server, rows(200, shift=1.0))
    before = drift_of(server)
    assert before["drifted"]
    assert before["max_log_martingale"] > LOG_THRESHOLD
    assert before["since"] <= before["drifted_at"]
    assert 0 < before["drifted_after_scores"] <= 200
    assert server.stop() == 0
    assert "numbers" in server.log.read_text().split("has drifted")[0].splitlines()[-1]
    after = drift_of(start(numeric_bundle, state_dir=tmp_path / "new" / "folder"))
    assert {**after, "saved_at": None} == {**before, "saved_at": None}
    assert after["kept"]


@pytest.mark.slow
def test_a_restart_goes_on_where_it_stopped(start, numeric_bundle: Path, numeric_scorer: Scorer, tmp_path) -> None:
    values = rows(600, shift=0.05)
    expected = DriftMartingale(numeric_scorer.calibration.verdict)
    for part in (values[:333], values[333:]):
        server = start(numeric_bundle, state_dir=tmp_path)
        expected.observe(post(server, part))
        answer = drift_of(server)
        assert answer["scores"] == expected.scores
        assert answer["log_martingale"] == pytest.approx(expected.log_martingale, abs=1e-8)
        assert answer["max_log_martingale"] == pytest.approx(expected.max_log_martingale, abs=1e-8)
        server.stop()


@pytest.mark.slow
def test_a_torn_state_is_told_and_the_server_starts(start, numeric_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "numbers.drift.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{torn")
    server = start(numeric_bundle, state_dir=tmp_path)
    answer = drift_of(server)
    assert "numbers.drift.safetensors cannot be used: it cannot be read" in answer["lost"]
    assert answer["scores"] == 0
    assert "drift of numbers" in server.log.read_text()
    post(server, rows(10))
    server.stop()
    again = drift_of(start(numeric_bundle, state_dir=tmp_path))
    assert (again["scores"], again["lost"], again["since"]) == (10, answer["lost"], answer["since"])


def test_a_model_without_a_promise_is_not_followed(start, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="promise"):
        VAEDetector(steps=5).fit(np.nan_to_num(rows(15))).save(tmp_path / "tiny")
    server = start(tmp_path / "tiny")
    answer = drift_of(server, server.client.get("/models").json()["models"][0]["name"])
    assert answer["followed"] is False
    assert "also trained the model" in answer["reason"]
    assert server.score(b"[[1, 2, 3]]", JSON).status_code == 200
    assert "elbound_drift_log_martingale{" not in server.client.get("/metrics").text


def test_a_folder_that_cannot_be_written_stops_the_start(numeric_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ended = run("serve", numeric_bundle, "--state-dir", tmp_path / "file" / "folder", timeout=60)
    assert ended.returncode == 1
    assert "state_dir must be a folder that can be written" in ended.stderr
    assert "Traceback" not in ended.stderr


def followed(monitor: DriftMonitor, scorer: Scorer) -> ModelDrift:
    drift = monitor.add(scorer)
    assert drift is not None
    return drift


def save(monitor: DriftMonitor) -> None:
    """What a stopping server does."""

    async def run() -> None:
        stopping = asyncio.Event()
        keeper = asyncio.create_task(monitor.keep(stopping))
        await asyncio.sleep(0)
        stopping.set()
        await keeper

    asyncio.run(run())


@pytest.fixture
def saved(numeric_scorer: Scorer, tmp_path: Path) -> Path:
    """The state after 400 scores."""
    monitor = DriftMonitor(str(tmp_path))
    followed(monitor, numeric_scorer).add(np.random.default_rng(0).normal(size=400))
    save(monitor)
    return tmp_path / "numbers.drift.safetensors"


def rewrite(path: Path, change: Callable[[dict, dict], None]) -> None:  # type: ignore[type-arg]
    with safe_open(path, framework="numpy") as file:
        facts, state = dict(file.metadata()), {name: file.get_tensor(name).copy() for name in file.keys()}  # noqa: SIM118
    change(facts, state)
    path.write_bytes(safetensors.numpy.save(state, metadata=facts))


def test_a_state_is_read_back(saved: Path, numeric_scorer: Scorer) -> None:
    drift = followed(DriftMonitor(str(saved.parent)), numeric_scorer)
    assert drift.lost is None
    assert drift.up_to_date().scores == 400
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


@pytest.mark.parametrize(("change", "reason"), [
    (lambda facts, _: facts.update(version="other"), "belongs to version other and not to"),
    (lambda facts, _: facts.update(name="other"), "belongs to name other and not to numbers"),
    (lambda facts, _: facts.update(fingerprint="0"), "belongs to fingerprint 0"),
    (lambda facts, _: facts.clear(), "belongs to name unknown"),
    (lambda facts, _: facts.update(since="yesterday"), "'yesterday' is not a time"),
    (lambda _, state: state.pop("seen"), "seen is missing"),
    (lambda _, state: state.update(seen=state["seen"] * np.nan), "not a number"),
    (lambda _, state: state.update(position=state["position"] * -7), "cannot follow"),
    (lambda _, state: state.update(log_martingale=state["log_martingale"] + 1e300), "capital"),
    (lambda _, state: state.update(seen=np.zeros(3 * EPOCH)), "bytes, and a state at most"),
])  # fmt: skip
def test_a_state_that_is_not_this_models_is_refused(
    saved: Path, numeric_scorer: Scorer, caplog, change, reason
) -> None:
    rewrite(saved, change)
    with caplog.at_level(logging.WARNING):
        drift = followed(DriftMonitor(str(saved.parent)), numeric_scorer)
    assert drift.lost is not None
    assert reason in drift.lost
    assert drift.up_to_date().scores == 0
    assert reason in caplog.text


@pytest.mark.parametrize("size", [0, 1, 7, 8, 100, 1000, 3000])
def test_a_truncated_state_is_refused(saved: Path, numeric_scorer: Scorer, size: int) -> None:
    saved.write_bytes(saved.read_bytes()[:size])
    drift = followed(DriftMonitor(str(saved.parent)), numeric_scorer)
    assert drift.lost is not None
    assert "cannot be read" in drift.lost


def test_a_disk_that_fails_is_logged_and_scoring_goes_on(saved: Path, numeric_scorer, caplog, monkeypatch) -> None:
    monitor = DriftMonitor(str(saved.parent))
    drift = followed(monitor, numeric_scorer)

    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(drift_module, "replace_file", full)
        drift.add(np.zeros(5))
        save(monitor)
    assert "No space left on device" in caplog.text
    assert drift.saved_at is None
    save(monitor)
    assert drift.saved_at is not None
    assert followed(DriftMonitor(str(saved.parent)), numeric_scorer).up_to_date().scores == 405


def test_nothing_is_written_that_has_not_changed(saved: Path, numeric_scorer: Scorer) -> None:
    monitor = DriftMonitor(str(saved.parent))
    followed(monitor, numeric_scorer)
    before = saved.stat().st_mtime_ns
    save(monitor)
    assert saved.stat().st_mtime_ns == before


def test_a_changed_state_is_written_while_the_server_runs(saved: Path, numeric_scorer: Scorer, monkeypatch) -> None:
    monkeypatch.setattr(drift_module, "SAVE_SECONDS", 0.01)
    monitor = DriftMonitor(str(saved.parent))
    drift = followed(monitor, numeric_scorer)

    async def run() -> None:
        stopping = asyncio.Event()
        keeper = asyncio.create_task(monitor.keep(stopping))
        await monitor.observe(numeric_scorer, np.zeros(5000))
        while drift.saved_scores < 5400:
            await asyncio.sleep(0.01)
        stopping.set()
        await keeper

    asyncio.run(asyncio.wait_for(run(), 30))
    assert followed(DriftMonitor(str(saved.parent)), numeric_scorer).up_to_date().scores == 5400


def test_a_large_upload_leaves_the_loop_to_others(numeric_scorer: Scorer) -> None:
    monitor = DriftMonitor("")
    drift = followed(monitor, numeric_scorer)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def run() -> None:
        other = asyncio.create_task(others())
        await monitor.observe(numeric_scorer, np.random.default_rng(0).normal(size=10_000))
        other.cancel()

    asyncio.run(run())
    assert turns >= 9
    assert drift.up_to_date().scores == 10_000


def test_a_model_that_is_not_followed_is_passed_over(numeric_scorer: Scorer) -> None:
    monitor = DriftMonitor("")
    asyncio.run(monitor.observe(numeric_scorer, np.zeros(3)))
    assert not monitor.models
