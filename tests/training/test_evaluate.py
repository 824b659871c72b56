"""`elbound evaluate` ends with a conclusion: a sentence and an exit status."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

from tests.conftest import fit_table, mixed_table
from tests.forked import run


def csv_of(path: Path, table: pa.Table) -> Path:
    pyarrow.csv.write_csv(table, path)
    return path


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("evaluated") / "rows"
    fit_table(mixed_table(300), steps=40, profile="fast").save(path)
    return path


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return csv_of(tmp_path_factory.mktemp("fresh") / "fresh.csv", mixed_table(500, seed=8))


def evaluate(bundle: Path, normal: Path, *options: object) -> tuple[int, str, str]:
    ended = run("evaluate", bundle, "--normal", normal, *options)
    assert "Traceback" not in ended.stderr
    return ended.returncode, ended.stdout, ended.stderr


def test_a_promise_that_holds(bundle: Path, fresh: Path) -> None:
    status, out, err = evaluate(bundle, fresh)
    assert status == 0
    assert "the promise holds: the verdict alarms on " in out
    assert "of 500 normal items at alpha = 0.05, where at most " in out
    assert "nothing can alarm" in out, "75 items do not decide 0.01, which is judged by default"
    assert "trained on" not in err


def test_one_that_does_not(bundle: Path, tmp_path: Path) -> None:
    table = mixed_table(200, seed=9)
    odd = csv_of(tmp_path / "odd.csv", table.set_column(0, "a", pa.array(table["a"].to_numpy() + 4)))
    status, out, err = evaluate(bundle, odd, "--alpha", 0.05)
    assert status == 3
    assert "the promise does not hold: the verdict alarms on " in err
    assert "of 200 normal items at alpha = 0.05, where at most " in err
    assert "elbound calibrate" in err
    assert "the promise holds" not in out


def test_an_alpha_at_which_nothing_can_alarm_is_no_success(bundle: Path, fresh: Path) -> None:
    status, _, err = evaluate(bundle, fresh, "--alpha", 0.001)
    assert status == 3
    assert (
        "alpha = 0.001 cannot be judged: at alpha = 0.001 nothing can ever be an anomaly: 75 calibration items" in err
    )


def test_the_training_file_is_no_evidence(bundle: Path, tmp_path: Path) -> None:
    table = mixed_table(300).take(pa.array(np.random.default_rng(0).permutation(300)))
    status, out, err = evaluate(bundle, csv_of(tmp_path / "training.csv", table))
    assert status == 0
    assert "has items that the model was trained on" in err
    assert "cannot be judged on items that the model was trained on" in out
    assert "the promise holds:" not in out
