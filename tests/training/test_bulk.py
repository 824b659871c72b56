"""Bulk scoring: one file and parts hold the same, whatever is read, however it is shared, and what is refused."""

import errno
import json
import resource
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from elbound.data.infer import infer_schema
from elbound.errors import ConfigError, DataError
from elbound.files.kinds import not_utf8
from elbound.fit.detector import DetectorConfig, fit_detector
from elbound.scorer import Scorer
from tests.conftest import mixed_table
from tests.elbound.data.test_streams import write
from tests.forked import ENVIRON
from tests.training.test_commands import png, succeed, write_zip
from training.score.command import Output, score_files
from training.score.inputs import Input
from training.score.parts import COUNTS, PLAN, SUCCESS
from training.score.pieces import input_pieces

PIECE = 30


def score(bundle: Path, paths: list[Path], out: object, piece_items: int = PIECE, **options: object) -> None:
    settings = {name: options.pop(name, None) for name in ("alpha", "guarantee", "heatmaps")}
    output = Output.choose(str(out), **{"kind": None, "resume": False, "partition": None, **options})  # type: ignore[arg-type]
    score_files(bundle, paths, output, device="cpu", piece_items=piece_items, **settings)  # type: ignore[arg-type]


def rows(path: Path) -> list[dict[str, object]]:
    """The rows of a result file, as text of NDJSON would have them; numbers of CSV to all their digits."""
    match path.suffix:
        case ".parquet":
            table = pyarrow.parquet.read_table(path)
        case ".csv":
            kinds = {"name": pa.string(), "error": pa.string(), "error_code": pa.string(), "file": pa.string()}
            convert = pyarrow.csv.ConvertOptions(column_types=kinds, strings_can_be_null=True, null_values=[""])
            table = pyarrow.csv.read_csv(path, convert_options=convert)
        case _:
            return [json.loads(line) for line in path.read_text().splitlines()]
    found: list[dict[str, object]] = table.to_pylist()
    return found


def part_rows(folder: Path) -> list[dict[str, object]]:
    return [row for part in sorted(folder.glob("part-*")) for row in rows(part)]


def part_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("part-*")}


@pytest.fixture
def inputs(tmp_path: Path) -> list[Path]:
    """A table in four formats, one of them with a bad cell and a ragged row, a broken file and one that is missing."""
    table = mixed_table(100, seed=3)
    found = [write(table, tmp_path / "data" / f"t.{suffix}") for suffix in make(tmp_path / "data")]
    lines = found[0].read_text().splitlines()
    lines[41] = "infinity" + lines[41][lines[41].index(",") :]
    lines[70] += ",7"
    found[0].write_text("\n".join(lines))
    (tmp_path / "data" / "broken.parquet").write_bytes(b"no parquet")
    return [*found, tmp_path / "data" / "broken.parquet", tmp_path / "missing.csv"]


def make(folder: Path) -> tuple[str, ...]:
    folder.mkdir()
    return ("csv", "parquet", "ndjson.gz", "arrow")


@pytest.mark.parametrize("kind", ["csv", "parquet", "ndjson"])
def test_parts_together_are_the_one_file(table_bundle: Path, inputs: list[Path], tmp_path: Path, kind: str) -> None:
    score(table_bundle, inputs, tmp_path / f"one.{kind}")
    whole = rows(tmp_path / f"one.{kind}")
    assert len(whole) == 402
    assert [(row["file"], row["index"]) for row in whole] == [
        *((str(path), i) for path in inputs[:4] for i in range(100)),
        *((str(path), 0) for path in inputs[4:]),
    ]
    assert [i for i, row in enumerate(whole) if row["error"] is not None] == [40, 69, 400, 401]
    score(table_bundle, inputs, f"{tmp_path}/parts/", kind=kind)
    assert part_rows(tmp_path / "parts") == whole
    assert len(part_bytes(tmp_path / "parts")) == 18
    for i in (1, 2, 0):
        score(table_bundle, inputs, f"{tmp_path}/shares/", kind=kind, partition=f"{i}/3")
        assert (tmp_path / "shares" / SUCCESS).exists() == (i == 0)
    assert part_bytes(tmp_path / "shares") == part_bytes(tmp_path / "parts")
    summary = json.loads((tmp_path / "parts" / SUCCESS).read_text())
    assert summary == json.loads((tmp_path / "shares" / SUCCESS).read_text())
    assert (summary["items"], summary["errors"], summary["failures"], summary["parts"]) == (402, 4, 2, 18)
    assert summary["anomalies"] == sum(row["is_anomaly"] is True for row in whole)
    score(table_bundle, inputs, f"{tmp_path}/shares/", kind=kind, partition="1/3", resume=True)
    score(table_bundle, inputs, f"{tmp_path}/shares/", kind=kind, resume=True)
    assert part_bytes(tmp_path / "shares") == part_bytes(tmp_path / "parts")


def test_names_are_those_of_the_file_not_of_the_piece(tmp_path: Path) -> None:
    table = mixed_table(100).append_column("part", pa.array([f"p{i}" for i in range(100)]))
    bundle = tmp_path / "b"
    config = DetectorConfig(name="parts", alpha=0.05, device="cpu", steps=5, profile="fast")
    fit_detector(table, infer_schema(table, id_column="part").schema, config).save(bundle)
    names = [None if i % 7 == 0 else f"p{i}" for i in range(100)]
    path = tmp_path / "new.csv"
    pyarrow.csv.write_csv(mixed_table(100).append_column("part", pa.array(names)), path)
    lines = path.read_text().splitlines()
    lines[12] += ",too many"
    path.write_text("\n".join(lines))
    score(bundle, [path], f"{tmp_path}/parts/")
    found = [row["name"] for row in part_rows(tmp_path / "parts")]
    assert found == [str(i) if name is None or i == 11 else name for i, name in enumerate(names)]


def test_images_in_parts_with_their_heat_maps(image_bundle: Path, tmp_path: Path) -> None:
    import numpy as np

    odd = png(np.random.default_rng(0).integers(0, 256, (12, 12), dtype=np.uint8))
    files = [write_zip(tmp_path / f"{k}.zip", {f"{i:02d}.png": odd for i in range(5)}) for k in range(2)]
    score(image_bundle, files, tmp_path / "one.ndjson", 2, heatmaps=tmp_path / "maps")
    for i in (1, 0):
        score(image_bundle, files, f"{tmp_path}/parts/", 2, partition=f"{i}/2", heatmaps=tmp_path / "maps2")
    assert part_rows(tmp_path / "parts") == rows(tmp_path / "one.ndjson")
    assert json.loads((tmp_path / "parts" / SUCCESS).read_text())["heatmaps"] == 10
    maps = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("maps", "maps2")]
    assert maps[0] == maps[1]
    assert len(maps[0]) == 10


def test_what_a_run_was_begun_with_is_kept(
    table_bundle: Path, numeric_scorer: Scorer, inputs: list[Path], tmp_path: Path
) -> None:
    numeric_scorer.save(tmp_path / "other")
    out = f"{tmp_path}/parts/"
    score(table_bundle, inputs[:2], out)
    before = part_bytes(tmp_path / "parts")
    for message, bundle, paths, options in (
        ("another bundle", tmp_path / "other", inputs[:2], {}),
        ("another alpha: 0.05 then, 0.1 now", table_bundle, inputs[:2], {"alpha": 0.1}),
        ("another guarantee: null then, 0.9 now", table_bundle, inputs[:2], {"guarantee": 0.9}),
        ('another format: "parquet" then, "csv" now', table_bundle, inputs[:2], {"kind": "csv"}),
        ("another piece items: 30 then, 31 now", table_bundle, inputs[:2], {"piece_items": 31}),
        ("another inputs: 2 then, 3 now", table_bundle, inputs[:3], {}),
        ("another inputs: ", table_bundle, inputs[1::-1], {}),
    ):
        with pytest.raises(ConfigError, match=message):
            score(bundle, paths, out, resume=True, **options)  # type: ignore[arg-type]
    for partition in (None, "0/2"):
        with pytest.raises(ConfigError, match="--resume continues them"):
            score(table_bundle, inputs[:2], out, partition=partition)
    inputs[0].touch()
    with pytest.raises(ConfigError, match="mtime_ns"):
        score(table_bundle, inputs[:2], out, resume=True)
    assert part_bytes(tmp_path / "parts") == before
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    for resume in (False, True):
        with pytest.raises(ConfigError, match="no results of this command"):
            score(table_bundle, inputs[:2], tmp_path / "full", resume=resume)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.txt"]


def test_what_cannot_be_is_refused(table_bundle: Path, inputs: list[Path], tmp_path: Path) -> None:
    folder = inputs[0].parent
    for message, paths, out, options in (
        ("lies in .*, which is scored", [folder], f"{folder}/out/", {}),
        (r"no file matches .*/\*\.xyz", [folder / "*.xyz"], f"{tmp_path}/out/", {}),
        ("--partition must be i/n with 0 <= i < n", inputs, f"{tmp_path}/out/", {"partition": "3/3"}),
        ("--partition must be i/n with 0 <= i < n", inputs, f"{tmp_path}/out/", {"partition": "-1/3"}),
        ("--partition must be i/n with 0 <= i < n", inputs, f"{tmp_path}/out/", {"partition": "1"}),
        ("--format must be one of csv, parquet, ndjson", inputs, f"{tmp_path}/out/", {"kind": "xlsx"}),
        ("--resume is for results in a folder", inputs, tmp_path / "out.csv", {"resume": True}),
        ("--partition is for results in a folder", inputs, tmp_path / "out.csv", {"partition": "0/2"}),
        ("--format is for results in a folder", inputs, tmp_path / "out.csv", {"kind": "csv"}),
        ("cannot be made: ", inputs, f"{inputs[0]}/out/", {}),
    ):
        with pytest.raises(ConfigError, match=message):
            score(table_bundle, paths, out, **options)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()
    assert not (folder / "out").exists()


def test_nothing_that_can_be_read_is_an_error_in_parts_too(
    table_bundle: Path, inputs: list[Path], tmp_path: Path
) -> None:
    for resume in (False, True):
        with pytest.raises(DataError, match="no item of any input could be read; the errors are in"):
            score(table_bundle, inputs[4:], f"{tmp_path}/parts/", resume=resume)
    assert not (tmp_path / "parts" / SUCCESS).exists()
    assert len(part_rows(tmp_path / "parts")) == 2
    (tmp_path / "x.csv").write_text("x,y\n" + "1,2\n" * 100)
    with pytest.raises(DataError, match="missing: 'a'"):
        score(table_bundle, [tmp_path / "x.csv"], tmp_path / "one.csv")
    assert not (tmp_path / "one.csv").exists()


def test_a_table_that_breaks_off_keeps_the_rows_before(table_bundle: Path, inputs: list[Path], tmp_path: Path) -> None:
    lines = write(mixed_table(100), tmp_path / "long.csv").read_bytes().splitlines()
    lines[77] = b"1,\xff,1,true,north"
    (tmp_path / "long.csv").write_bytes(b"\n".join(lines))
    score(table_bundle, [tmp_path / "long.csv", inputs[1]], f"{tmp_path}/parts/")
    found = part_rows(tmp_path / "parts")
    assert [row["index"] for row in found] == [*range(77), *range(100)]
    assert [row["error"] for row in found if row["error"]] == [
        f"{tmp_path / 'long.csv'}: not readable as CSV: {not_utf8(78)}"
    ]
    for i in (0, 1):
        score(table_bundle, [tmp_path / "long.csv", inputs[1]], f"{tmp_path}/shares/", partition=f"{i}/2")
    assert part_bytes(tmp_path / "shares") == part_bytes(tmp_path / "parts")


def test_a_full_disk_costs_nothing_that_is_finished(
    table_bundle: Path, inputs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training.score import parts as module

    plain, left = module.replace_file, [12]

    def filling(path: Path, data: bytes) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        plain(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(module, "replace_file", filling)
        with pytest.raises(DataError, match=r"could not be written: No space left on device; what is finished stays"):
            score(table_bundle, inputs, f"{tmp_path}/parts/")
    before = part_bytes(tmp_path / "parts")
    assert len(before) == 5
    score(table_bundle, inputs, f"{tmp_path}/parts/", resume=True)
    assert before.items() <= part_bytes(tmp_path / "parts").items()
    assert len(part_rows(tmp_path / "parts")) == 402


def test_a_disk_that_takes_no_more_leaves_no_half_file(table_bundle: Path, tmp_path: Path) -> None:
    path = write(mixed_table(2_000), tmp_path / "t.csv")
    before = set(tmp_path.iterdir())
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # noqa: E731
    command = [sys.executable, "-m", "elbound", "score", table_bundle, path, "--out", tmp_path / "r.csv"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, env=ENVIRON, preexec_fn=limit)
    assert ended.returncode == 1
    assert "r.csv could not be written: " in " ".join(ended.stderr.split())
    assert "Traceback" not in ended.stderr
    assert set(tmp_path.iterdir()) == before


def test_only_what_is_missing_is_scored_again(table_bundle: Path, inputs: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "parts"
    score(table_bundle, inputs, f"{out}/")
    before = part_bytes(out)
    kept = {path: path.stat().st_mtime_ns for path in out.glob("part-*")}
    for name in ("part-00001-000002.parquet", "part-00004-000000.parquet"):
        (out / name).unlink()
        kept.pop(out / name)
    (out / ".part-00001-000002.parquet.1234.partial").write_bytes(b"half")
    (out / SUCCESS).unlink()
    score(table_bundle, inputs, f"{out}/", resume=True)
    assert part_bytes(out) == before
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert {path.name for path in out.iterdir() if not path.name.startswith("part-")} == {PLAN, COUNTS, SUCCESS}


def test_input_pieces_are_the_same_whichever_are_wanted(table_scorer: Scorer, inputs: list[Path]) -> None:
    whole = list(input_pieces(table_scorer, Input(inputs[0]), piece_items=PIECE))
    for number in range(4):
        one = list(input_pieces(table_scorer, Input(inputs[0]), piece_items=PIECE, wanted=number.__eq__))
        assert [(piece.number, piece.start, piece.n) for piece in one] == [
            (piece.number, piece.start, piece.n) for piece in whole
        ]
        assert [piece.number for piece in one if piece.items is not None] == [number]


def test_patterns_and_lines_as_the_command_gives_them(table_bundle: Path, inputs: list[Path], tmp_path: Path) -> None:
    text = succeed(
        "score", table_bundle, inputs[0].parent / "t.[ap]*", "--out", f"{tmp_path}/parts/", "--format", "csv"
    )
    assert f"200 items are in {tmp_path}/parts (_SUCCESS says what was found)" in " ".join(text.split())
    assert " items a second; " in text


def test_scoring_needs_nothing_of_the_extras(table_bundle: Path, inputs: list[Path], tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "for name in ('sklearn', 'matplotlib', 'httpx', 'ray'): sys.modules[name] = None\n"
        "from elbound.cli import main; main()"
    )
    command = [sys.executable, "-c", code, "score", table_bundle, inputs[0], "--out", f"{tmp_path}/parts/"]
    ended = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=120, env=ENVIRON, check=False)
    assert ended.returncode == 0, ended.stderr
    assert len(part_rows(tmp_path / "parts")) == 100
