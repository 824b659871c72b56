"""What stands around the report: nothing that goes wrong in it may cost the trained model."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from elbound.errors import MissingExtra
from elbound.scorer import Scorer
from training.config import ReportConfig
from training.inputs.source import Source
from training.report.verdict import DoNotShip
from training.train import judgement
from training.train.judgement import check_before, conclude, report_on


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError("no font")])
def test_a_report_that_fails_is_no_report(
    error: BaseException, table_scorer: Scorer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(judgement, "build_report", fail)
    fitted, source = SimpleNamespace(scorer=table_scorer), SimpleNamespace(groups=None, known=None)
    assert report_on(fitted, source, None, ReportConfig()) is None  # type: ignore[arg-type]
    assert "the bundle is written without" in capsys.readouterr().err.replace("\n", " ")


def test_without_a_report_strict_does_not_say_ship(tmp_path: Path) -> None:
    conclude(None, tmp_path, strict=False)
    with pytest.raises(DoNotShip, match="no verdict"):
        conclude(None, tmp_path, strict=True)


def test_a_missing_extra_is_told_before_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(package: str) -> None:
        raise MissingExtra(f"this command needs {package}: pip install 'elbound[train]'", where=package)

    monkeypatch.setattr(judgement, "require_extra", missing)
    source = SimpleNamespace()
    with pytest.raises(
        MissingExtra, match=r"needs matplotlib: pip install 'elbound\[train\]', or train with --no-report"
    ):
        check_before(ReportConfig(), source)  # type: ignore[arg-type]
    assert check_before(ReportConfig(enabled=False), source) is None  # type: ignore[arg-type]


def test_images_are_no_anomalies_of_a_table(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    source = Source(items=None, schema=None)  # type: ignore[arg-type]
    with pytest.raises(judgement.SchemaError, match="holds images; the training data are a table"):
        judgement.read_anomalies(tmp_path / "a.png", source)
