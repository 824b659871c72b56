"""What a path holds: tables or images, their schema, their groups, and errors that name the setting."""

import io
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from elbound.data.table import TablePreprocessor
from elbound.errors import ConfigError, DataError, DecodeError, ElboundError, SchemaError, UnsupportedMedia
from elbound.schema import Column, IgnoredColumn, ImageSchema, TableSchema
from training.config import DataConfig
from training.inputs.read import holds_images, read_source
from training.inputs.source import Source

CSV = "a,b,site,t\n1.5,yes,x,2020-01-01\n2.5,no,y,2020-01-02\n1.5,,x,\n"


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, bytes | str], Path]:
    def write_file(name: str, content: bytes | str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write_file


Write = Callable[[str, bytes | str], Path]


def png(value: int = 7, *, colour: bool = False) -> bytes:
    pixels = np.full((6, 5, 3) if colour else (6, 5), value, np.uint8)
    if colour:
        pixels[..., 0] = 0
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "PNG")
    return sink.getvalue()


def source(path: Path, **settings: object) -> Source:
    return read_source(DataConfig.model_validate({"path": path, **settings}))


def fails(kind: type[ElboundError], message: str, path: Path, **settings: object) -> ElboundError:
    with pytest.raises(kind, match=message) as caught:
        source(path, **settings)
    assert type(caught.value) is kind
    return caught.value


@pytest.mark.parametrize(
    ("names", "images"),
    [
        (["a.csv"], False),
        (["a.png", "b.png", "c.csv"], True),
        (["a.png", "b.parquet"], False),
        (["x/a.png", "y/b.jpeg", "readme.txt"], True),
        (["a.csv", "._a.png", "__MACOSX/b.png"], False),
    ],
)
def test_a_folder_is_of_the_kind_of_most_of_its_files(
    names: list[str], images: bool, write: Write, tmp_path: Path
) -> None:
    for name in names:
        write(f"d/{name}", "x")
    assert holds_images(tmp_path / "d") == images


@pytest.mark.parametrize(
    ("name", "images"), [("a.zip", True), ("a.PNG", True), ("a.tif", True), ("a.csv.gz", False), ("a.txt", False)]
)
def test_a_file_is_of_the_kind_of_its_suffix(name: str, images: bool, write: Write) -> None:
    assert holds_images(write(name, "x")) == images


def test_paths_that_hold_neither_are_errors(tmp_path: Path, write: Write) -> None:
    with pytest.raises(DataError, match="does not exist"):
        holds_images(tmp_path / "nowhere")
    write("d/readme.txt", "x")
    with pytest.raises(DataError, match=r"d holds neither tables \(CSV, Parquet, Arrow, NDJSON\) nor images \(PNG"):
        holds_images(tmp_path / "d")
    fails(UnsupportedMedia, r"a\.txt is none of \.csv", write("a.txt", "x"))
    fails(DecodeError, r"a\.zip is not a readable zip", write("a.zip", "x"))


def test_a_table_has_the_inferred_schema_and_its_warnings(write: Write) -> None:
    found = source(write("a.csv", CSV))
    assert isinstance(found.schema, TableSchema)
    assert [(column.name, column.kind) for column in found.schema.columns] == [
        ("a", "numeric"), ("b", "boolean"), ("site", "categorical"),
    ]  # fmt: skip
    assert len(found.items) == 3
    assert found.groups is None
    assert len(found.warnings) == 1
    assert found.warnings[0].startswith("column 't' is left out: a date or time")


def test_the_column_that_splits_is_no_feature(write: Write) -> None:
    path = write("a.csv", CSV)
    for exclude in ((), ("site",)):
        found = source(path, split_by="site", exclude=exclude, id="a")
        assert isinstance(found.schema, TableSchema)
        assert found.groups == ["x", "y", "x"]
        assert found.schema.names == ("b",)
        assert found.schema.id_column == "a"
        assert [column.name for column in found.schema.ignored] == ["site", "t"]
    fails(SchemaError, "--split-by: there is no column 'group'", path, split_by="group")
    fails(SchemaError, "no such columns: 'q'; the data have 'a', 'b', 'site', 't'", path, exclude=["q"])
    fails(SchemaError, "no such columns: 'q'", path, id="q")
    fails(SchemaError, "no column is left to score", path, exclude=["a", "b", "site"])


def test_a_folder_of_tables_is_one_source(write: Write, tmp_path: Path) -> None:
    write("d/1.csv", CSV)
    write("d/2.ndjson", '{"a": 9, "b": true, "site": "z"}\n')
    sink = io.BytesIO()
    pa.parquet.write_table(pa.table({"a": [4.5], "b": [None], "site": ["x"], "t": ["2021-01-01"]}), sink)
    write("d/3.parquet", sink.getvalue())
    found = source(tmp_path / "d", split_by="site")
    assert found.groups == ["x", "y", "x", "z", "x"]
    assert isinstance(found.items, pa.Table)
    assert isinstance(found.schema, TableSchema)
    x = TablePreprocessor(found.schema).to_tensor(found.items).only()
    np.testing.assert_array_equal(x, [[1.5, 1], [2.5, 0], [1.5, np.nan], [9, 1], [4.5, np.nan]])


def schema_file(write: Write, **document: object) -> Path:
    return write("schema.json", json.dumps(document))


def test_a_complete_schema_file_is_the_schema(write: Write) -> None:
    columns = [
        {"name": "a", "kind": "numeric", "nullable": True},
        {"name": "b", "kind": "categorical", "levels": ["yes", "no"]},
        {"name": "site", "kind": "categorical"},
        {"name": "t", "kind": "datetime"},
    ]
    found = source(write("a.csv", CSV), schema_file=schema_file(write, kind="table", columns=columns))
    assert found.schema == TableSchema(
        columns=(
            Column(name="a", kind="numeric", nullable=True),
            Column(name="b", kind="categorical", levels=("yes", "no")),
            Column(name="site", kind="categorical"),
            Column(name="t", kind="datetime"),
        )
    )
    assert not found.warnings
    assert isinstance(found.items, pa.Table)
    assert isinstance(found.schema, TableSchema)
    fitted = TablePreprocessor.fit(found.schema, found.items)
    day = 1_577_836_800.0
    np.testing.assert_array_equal(
        fitted.to_tensor(found.items).only(), [[1.5, 0, 0, day], [2.5, 1, 1, day + 86_400], [1.5, np.nan, 0, np.nan]]
    )


def test_a_partial_schema_file_ignores_the_other_columns(write: Write) -> None:
    path = write("a.csv", CSV)
    partial = schema_file(write, columns=[{"name": "a", "kind": "numeric"}, {"name": "site", "kind": "categorical"}])
    found = source(path, schema_file=partial)
    assert isinstance(found.schema, TableSchema)
    assert found.schema.names == ("a", "site")
    assert found.schema.ignored == (
        IgnoredColumn(name="b", reason="not in the schema file"),
        IgnoredColumn(name="t", reason="not in the schema file"),
    )
    assert "does not name are left out: 'b', 't'" in found.warnings[-1]
    split = source(path, schema_file=partial, split_by="site", id="t")
    assert isinstance(split.schema, TableSchema)
    assert split.schema.names == ("a",)
    assert split.schema.id_column == "t"
    assert split.schema.ignored == (
        IgnoredColumn(name="b", reason="not in the schema file"),
        IgnoredColumn(name="site", reason="excluded by hand"),
    )
    assert split.groups == ["x", "y", "x"]


def test_an_identifier_is_no_feature_even_where_the_schema_file_says_so(write: Write) -> None:
    partial = schema_file(write, columns=[{"name": "a", "kind": "numeric"}, {"name": "b", "kind": "boolean"}])
    found = source(write("a.csv", CSV), schema_file=partial, id="a")
    assert isinstance(found.schema, TableSchema)
    assert found.schema.names == ("b",)
    assert found.schema.id_column == "a"


@pytest.mark.parametrize(
    ("document", "kind", "message"),
    [
        ("{", SchemaError, r"schema\.json cannot be read as JSON"),
        (b"\xff", SchemaError, r"schema\.json cannot be read as JSON"),
        ("[]", SchemaError, r"schema\.json: Unable to extract tag|schema\.json: Input should"),
        ('{"kind": "sound"}', SchemaError, r"schema\.json: .*'sound'"),
        ('{"columns": []}', SchemaError, r"schema\.json: table\.columns: Tuple should have at least 1 item"),
        ('{"columns": [{"name": "a"}]}', SchemaError, r"table\.columns\.0\.kind: Field required"),
        ('{"columns": [{"name": "a", "kind": "number"}]}', SchemaError, r"table\.columns\.0\.kind: Input should be"),
        (
            '{"columns": [{"name": "a", "kind": "numeric", "unit": "m"}]}',
            SchemaError,
            r"table\.columns\.0\.unit: Extra",
        ),
        (
            '{"columns": [{"name": "a", "kind": "numeric"}, {"name": "a", "kind": "numeric"}]}',
            SchemaError,
            "twice: 'a'",
        ),
        (
            '{"columns": [{"name": "z", "kind": "numeric"}]}',
            SchemaError,
            "columns are not those of the model; missing: 'z'",
        ),
        (
            '{"height": 4, "width": 4, "channels": 1}',
            SchemaError,
            r"schema\.json describes images; the data are a table",
        ),
    ],
)
def test_a_schema_file_that_does_not_fit_is_named(
    document: str | bytes, kind: type[ElboundError], message: str, write: Write
) -> None:
    fails(kind, message, write("a.csv", CSV), schema_file=write("schema.json", document))


def test_a_schema_file_and_the_flags_must_agree(write: Write, tmp_path: Path) -> None:
    path = write("a.csv", CSV)
    only = schema_file(write, columns=[{"name": "site", "kind": "categorical"}])
    fails(SchemaError, r"schema\.json: no column is left to score", path, schema_file=only, split_by="site")
    fails(SchemaError, "no such columns: 'q'; the data have", path, schema_file=only, exclude=["q"])
    fails(SchemaError, "no such columns: 'q'; the data have", path, schema_file=only, id="q")
    fails(SchemaError, r"nowhere\.json cannot be read as JSON", path, schema_file=tmp_path / "nowhere.json")
    error = fails(ConfigError, "--image-size is for images; the data are a table", path, image_size=(4, 4))
    assert error.where == "data.image_size"


def test_images_of_a_folder_or_a_zip_are_decoded(write: Write, tmp_path: Path) -> None:
    names = [f"site{i % 2}/{i}.png" for i in range(8)]
    for i, name in enumerate(names):
        write(f"d/{name}", png(i))
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        for i, name in enumerate(names):
            archive.writestr(name, png(i))
    for path in (tmp_path / "d", tmp_path / "d.zip"):
        found = source(path, split_by="^(site.)/")
        assert found.schema == ImageSchema(height=6, width=5, channels=1)
        assert isinstance(found.items, torch.Tensor)
        assert found.items.dtype == torch.uint8
        assert found.items[:, 0, 0, 0].tolist() == [0, 2, 4, 6, 1, 3, 5, 7]
        assert found.groups == ["site0"] * 4 + ["site1"] * 4
        assert not found.warnings


def test_an_unreadable_image_is_a_warning_and_leaves_its_group(write: Write, tmp_path: Path) -> None:
    for i in range(12):
        write(f"d/{i:02}-g{i % 3}.png", png(i) if i != 4 else b"x")
    found = source(tmp_path / "d", split_by=r"g\d")
    assert found.warnings == ["skipped 04-g1.png: not an image in PNG, JPEG, WebP, BMP or TIFF format"]
    assert found.groups == [f"g{i % 3}" for i in range(12) if i != 4]
    assert len(found.items) == 11
    fails(DataError, "1 of 12 images cannot be read, at most 0 may be skipped", tmp_path / "d", max_bad_share=0)


def test_size_and_schema_of_images(write: Write, tmp_path: Path) -> None:
    path = write("d/a.png", png(9, colour=True)).parent
    assert source(path).schema == ImageSchema(height=6, width=5, channels=3)
    stretched = source(path, image_size=(3, 4), resize="stretch")
    assert stretched.schema == ImageSchema(height=3, width=4, channels=3, resize="stretch")
    assert stretched.items.shape == (1, 3, 3, 4)
    stated = write("schema.json", '{"height": 2, "width": 2, "channels": 1, "bits": 16}')
    found = source(path, schema_file=stated)
    assert found.schema == ImageSchema(height=2, width=2, channels=1, bits=16)
    assert isinstance(found.items, torch.Tensor)
    assert found.items.dtype == torch.int32
    for side in ((0, 4), (4, 4097), (-1, 3)):
        error = fails(ConfigError, r"--image-size must be from 1 to 4,096 pixels a side\. Got", path, image_size=side)
        assert error.where == "data.image_size"
    fails(ConfigError, "--image-size and --schema both say the size", path, schema_file=stated, image_size=(2, 2))
    tabular = write("table.json", '{"columns": [{"name": "a", "kind": "numeric"}]}')
    fails(SchemaError, r"table\.json describes a table; the data are images", path, schema_file=tabular)


def test_flags_for_tables_are_refused_with_images(write: Write) -> None:
    path = write("a.png", png())
    assert len(source(path).items) == 1
    for name, value in (("exclude", ["a"]), ("id", "a")):
        error = fails(ConfigError, f"--{name} is for columns of a table; the data are images", path, **{name: value})
        assert error.where == f"data.{name}"


def test_patterns_that_do_not_group_every_image_are_errors(write: Write, tmp_path: Path) -> None:
    write("d/a1.png", png())
    write("d/b.png", png())
    error = fails(
        DataError, re.escape(r"--split-by '\\d' does not match the file name 'b.png'"), tmp_path / "d", split_by=r"\d"
    )
    assert error.where == "b.png"
    fails(DataError, "does not match the file name 'b.png'", tmp_path / "d", split_by=r"[ab](\d)?")
    error = fails(ConfigError, "--split-by: .* is not a regular expression: ", tmp_path / "d", split_by="(")
    assert error.where == "data.split_by"
    assert source(tmp_path / "d", split_by="[ab]").groups == ["a", "b"]
