"""The look at a folder before training: masks and defects stop it, what is harmless is told, ordinary folders pass."""

import io
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from elbound.errors import DoubtfulData
from elbound.files.images import ImageFiles
from training.config import DataConfig
from training.inputs.folder import Findings, look_at_names
from training.inputs.layout import find_layout
from training.inputs.names import meaning
from training.inputs.read import read_source
from training.inputs.source import Source
from training.train.pipeline import _settle_doubts

Encode = Callable[..., bytes]


def encode(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, kind)
    return sink.getvalue()


def noise(seed: int, *, height: int = 20, width: int = 24, colour: bool = True) -> bytes:
    size = (height, width, 3) if colour else (height, width)
    return encode(np.random.default_rng(seed).integers(0, 256, size, np.uint8))


def mask(seed: int = 0, *, white: int = 255) -> bytes:
    pixels = np.zeros((20, 24), np.uint8)
    pixels[2 + seed % 10 : 12, 5 : 9 + seed % 7] = white
    return encode(pixels)


def fill(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def pack(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def read(path: Path, **settings: object) -> Source:
    return read_source(DataConfig.model_validate({"path": path, **settings}))


def numbered(pattern: str, count: int) -> list[str]:
    return [pattern.format(i) for i in range(count)]


def named(*patterns: str, path: Path = Path("parts"), count: int = 6, beside: Iterable[str] = ()) -> Findings:
    names = sorted(name for pattern in patterns for name in numbered(pattern, count))
    return look_at_names(ImageFiles(path, tuple(names), beside=tuple(beside)))


@pytest.mark.parametrize(
    ("name", "said", "wholly"),
    [
        ("good", "good", True), ("bad", "defect", True), ("NG-3", "defect", True), ("defect12", "defect", True),
        ("ground_truth", "mask", True), ("groundTruth", "mask", True), ("no_defects", "good", True),
        ("defect-free", "good", True), ("not_ok", "defect", True), ("n.i.O.", "defect", True), ("i.O.", "good", True),
        ("crack_wall", "defect", False), ("anomalous", "defect", True), ("Anomalien", "defect", True),
        ("abnormal", "defect", True), ("normal", "good", True), ("good_mask", "mask", True), ("不良品", "defect", True),
        ("良品", "good", True), ("a3ng7f", None, False), ("bottle", None, False), ("7", None, False),
        ("badge", None, False), ("token", None, False), ("masked", None, False), ("latest", None, False),
    ],
)  # fmt: skip
def test_names_are_known_by_their_words(name: str, said: str | None, wholly: bool) -> None:
    assert meaning(name) == said
    assert meaning(name, wholly=True) == (said if wholly else None)


@pytest.mark.parametrize(
    "patterns",
    [
        ("{}.png",), ("test_{:03}.png",), ("7/{}.png", "3/{}.png"), ("cats/{}.jpg", "dogs/{}.jpg"),
        ("good/{}.png",), ("good/{}.png", "ok/{}.png"), ("train/{}.png",), ("line 1/good/{}.png", "line 2/good/{}.png"),
        ("crack_wall_{}.png",), ("_DSC{:04}.JPG",), ("mask_{}.png",), ("face/{}.png",), ("labels/{}.png",),
        ("2024-01-01/{}.png", "2024-01-02/{}.png"), ("defect_free/{}.png",), ("IMG_{}_no_defect.jpg",),
    ],
)  # fmt: skip
def test_ordinary_folders_are_not_stopped(patterns: tuple[str, ...]) -> None:
    found = named(*patterns)
    assert not found.doubts
    assert not found.warnings


@pytest.mark.parametrize(
    ("patterns", "doubt"),
    [
        (("{}.png", "{}_mask.png"), "6 of 12 pictures are masks of others by their names (0_mask.png, "),
        (("{}.jpg", "{}mask.png"), "6 of 12 pictures are masks of others by their names (0mask.png, "),
        (
            ("{}.jpg", "{}.png"),
            "6 pictures of 12 stand beside another of the same name and another kind (0.jpg and 0.p",
        ),
        (("{}.jpg", "{}_gt.png"), "6 of 12 pictures are masks of others by their names"),
        (("{}.png", "{}_label.png"), "masks of others by their names"),
        (("img_{}.png", "mask_{}.png"), "masks of others by their names"),
        (("a/{}.png", "b/{}-Mask.png"), "masks of others by their names"),
        (("{}_mask.png",), "6 of 6 pictures are masks of others by their names"),
        (("images/{}.png", "masks/{}.png"), "6 of 12 pictures are in folders whose names say masks (masks): train on"),
        (("images/{}.png", "labels/{}.png"), "in folders whose names say masks (labels)"),
        (("part/ground_truth/bent/{}.png", "part/{}.png"), "whose names say masks (part/ground_truth): train on"),
        (("masks/{}.png",), "6 of 6 pictures are in folders whose names say masks"),
        (
            ("good/{}.png", "bad/{}.png"),
            "6 of 12 pictures are in folders whose names say defects (bad): unpack, and",
        ),
        (("OK/{}.png", "NG/{}.png"), "in folders whose names say defects (NG)"),
        (("良品/{}.png", "不良品/{}.png"), "in folders whose names say defects (不良品)"),
        (("normal/{}.png", "anomalies/{}.png"), "in folders whose names say defects (anomalies)"),
        (("good/{}.png", "bent/{}.png"), "beside the folder good lie 6 pictures in others (bent), which would train"),
        (("test/good/{}.png", "test/bent/{}.png"), "beside the folder test/good lie 6 pictures in others (bent)"),
        (("train/{}.png", "test/{}.png"), "6 pictures of test would train too, beside those of train; they often hold"),
        (("good_{}.png", "bad_{}.png"), "the names of 6 pictures of 12 say defects (bad_0.png, "),
        (("defect_{}.png",), "the names of 6 pictures of 6 say defects"),
    ],
)
def test_masks_and_defects_are_doubts_by_their_names(patterns: tuple[str, ...], doubt: str) -> None:
    assert any(doubt in one for one in named(*patterns).doubts), named(*patterns).doubts


def test_the_folder_to_train_on_instead_is_named(tmp_path: Path) -> None:
    for patterns in (("a/good/{}.png", "a/bad/{}.png"), ("a/good/{}.png", "a/mask/{}.png")):
        assert named(*patterns, path=tmp_path).doubts[0].endswith(f": train on {tmp_path / 'a' / 'good'}")
    assert named("good/{}.png", "bad/{}.png", path=Path("x.zip")).doubts[0].endswith(": unpack, and train on good")
    assert named("1/{}.png", "bad/{}.png").doubts[0].endswith(": train on a folder of normal pictures alone") is True


def test_the_name_of_the_folder_itself_is_read(tmp_path: Path) -> None:
    for name in ("ground_truth", "masks", "NG", "defects.zip", "ground_truth/bent"):
        (doubt,) = named("{}.png", path=tmp_path / name).doubts
        assert doubt.startswith(f"the name of {tmp_path / name} says ")
    for name in ("good", "defect_detection", "crack_wall.zip", "test"):
        assert not named("{}.png", path=tmp_path / name).doubts
    fill(tmp_path, {"test/good/a.png": b"", "test/bent/b.png": b""})
    (doubt,) = named("{}.png", path=tmp_path / "test" / "bent").doubts
    assert (
        doubt == f"{tmp_path / 'test' / 'bent'} lies beside a folder of good pictures: train on normal pictures alone"
    )


def test_train_beside_validation_is_a_warning() -> None:
    found = named("train/{}.png", "val/{}.png")
    assert not found.doubts
    assert found.warnings[0].startswith("6 pictures of val train too")


@pytest.mark.parametrize(
    ("suffix", "content", "annotates"),
    [
        (".json", b'{"version": "5.1", "shapes": [{"label": "scratch"}]}', True),
        (".xml", b"<annotation><object><name>hole</name></object></annotation>", True),
        (".txt", b"0 0.51 0.42 0.1 0.2\n", True),
        (".json", b'{"exposure": 12}', False),
        (".txt", b"taken on line 3", False),
    ],
)
def test_annotations_beside_pictures(suffix: str, content: bytes, annotates: bool, tmp_path: Path) -> None:
    pictures = {f"{i}.png": noise(i) for i in range(6)}
    some = fill(tmp_path / "some", {**pictures, f"2{suffix}": content, f"4{suffix}": content})
    found = read(some)
    assert [one[:38] for one in found.doubts] == ["2 of 6 pictures are annotated in a file"[:38]] * annotates
    assert found.warnings[0].startswith("2 files are passed over, since their kind is not read: 2 " + suffix)
    every = read(fill(tmp_path / "all", {**pictures, **{f"{i}{suffix}": content for i in range(6)}}))
    assert not every.doubts
    assert any("6 of 6 pictures are annotated" in one for one in every.warnings) == annotates


def test_pictures_of_two_values_are_masks_by_their_content(tmp_path: Path) -> None:
    files = {f"{i:02}.png": noise(i, colour=False) for i in range(8)}
    folder = fill(tmp_path / "d", {**files, "03.png": mask(), "05.png": mask(1, white=1)})
    (doubt,) = read(folder).doubts
    assert doubt == (
        "2 of 8 pictures are black and white only, with two values, as masks are (03.png, 05.png): train without them"
    )
    source = read(folder)
    with pytest.raises(DoubtfulData, match=r"(?s)these data look doubtful:.*03\.png, 05\.png.*--anyway trains on them"):
        _settle_doubts(source, anyway=False)
    _settle_doubts(source, anyway=True)
    assert not read(fill(tmp_path / "plain", files)).doubts


def test_copies_sizes_and_grey_among_colour_are_warnings(tmp_path: Path) -> None:
    files = {f"{i}.png": noise(i) for i in range(6)}
    assert not read(fill(tmp_path / "plain", files)).warnings
    copies = fill(tmp_path / "copies", {**files, "x/7.png": files["3.png"], "x/8.png": files["3.png"]})
    (warning,) = read(copies).warnings
    assert warning.startswith("2 of 8 pictures are copies of others (as x/7.png = 3.png): copies that both train and")
    assert warning.endswith("or keep them together with --split-by")
    assert read(copies, split_by=".*").warnings[0].endswith("remove them")
    sizes = fill(tmp_path / "sizes", {**files, "7.png": noise(7, height=60, width=40)})
    (warning,) = read(sizes, resize="fit").warnings
    assert warning.startswith(
        "the sizes differ, from 20 x 24 to 60 x 40 pixels; all become 20 x 24 (--resize fit); the black borders"
    )
    stretched = read(sizes)
    assert stretched.schema.resize == "stretch"  # type: ignore[union-attr]
    assert "all become 20 x 24 (--resize stretch); a longer one is pressed more" in stretched.warnings[0]
    (warning,) = read(fill(tmp_path / "grey", {**files, "7.png": noise(7, colour=False)})).warnings
    assert warning.startswith("1 of 7 pictures is grey, the others have colour")


def test_hidden_and_temporary_folders_do_not_train(tmp_path: Path) -> None:
    files = {f"{i}.png": noise(i) for i in range(6)}
    copies = {f"{folder}/{i}.png": noise(i) for i in range(3) for folder in (".ipynb_checkpoints", "x/_temporary/0")}
    for path in (fill(tmp_path / "d", {**files, **copies}), pack(tmp_path / "d.zip", {**files, **copies})):
        found = read(path)
        assert len(found.items) == 6
        (warning,) = found.warnings
        assert warning.startswith("6 files are passed over as hidden or temporary: ")


def test_a_folder_of_images_and_tables_says_which_it_took(tmp_path: Path) -> None:
    pictures = {f"{i}.png": noise(i) for i in range(3)}
    found = read(fill(tmp_path / "d", {**pictures, "data.csv": b"a,b\n1,2\n3,4\n"}))
    assert found.warnings[0].startswith(
        f"{tmp_path / 'd'} holds images (3) and tables (1): its images train, and its tables are passed over (data.csv)"
    )
    found = read(fill(tmp_path / "e", {"0.png": pictures["0.png"], "data.csv": b"a,b\n1,2\n3,4\n"}))
    assert found.warnings[0].startswith(
        f"{tmp_path / 'e'} holds images (1) and tables (1): its tables train, and its images are passed over (0.png)"
    )


def mvtec(prefix: str = "") -> dict[str, bytes]:
    """Twelve normal images, two kinds of defects with masks, four good ones to test, a licence."""
    files = {f"train/good/{i:03}.png": noise(i) for i in range(12)}
    files |= {f"test/good/{i:03}.png": noise(20 + i) for i in range(4)}
    for kind in ("bent", "scratch"):
        files |= {f"test/{kind}/{i:03}.png": noise(30 + i) for i in range(3)}
        files |= {f"ground_truth/{kind}/{i:03}_mask.png": mask(i) for i in range(3)}
    return {prefix + name: data for name, data in files.items()} | {"license.txt": b"free"}


@pytest.mark.parametrize("prefix", ["", "bottle/", "mvtec/bottle/"])
def test_mvtecs_layout_trains_on_train_good_and_evaluates_on_test(prefix: str, tmp_path: Path) -> None:
    for path in (fill(tmp_path / "d", mvtec(prefix)), pack(tmp_path / "d.zip", mvtec(prefix))):
        found = read(path, split_by=r"\d+")
        assert found.notes == [
            f"MVTec layout: 12 images of {prefix}train/good train; 6 defects in 2 kinds, 6 masks and 4 good ones of "
            f"{prefix}test evaluate"
        ]
        assert not found.doubts
        assert found.warnings == [
            "1 file is passed over, since its kind is not read: 1 .txt"
        ]  # neither masks nor defects are looked at as normal pictures
        assert len(found.items) == 12
        assert found.groups == [f"{i:03}" for i in range(12)]
        known = found.known
        assert known is not None
        assert known.kinds == [None] * 4 + ["bent"] * 3 + ["scratch"] * 3
        assert len(known.defects) == 6
        assert set(known.masks) == set(range(4, 10))
        expected = np.asarray(Image.open(io.BytesIO(mask(1)))) > 0
        np.testing.assert_array_equal(known.masks[5], expected)


def test_mvtecs_layout_without_masks_and_with_pictures_elsewhere(tmp_path: Path) -> None:
    files = {name: data for name, data in mvtec().items() if "ground_truth" not in name}
    found = read(fill(tmp_path / "d", {**files, "validation/good/0.png": noise(50), "train/bad/0.png": noise(51)}))
    assert found.notes[0].endswith("; 6 defects in 2 kinds and 4 good ones of test evaluate")
    assert found.known is not None
    assert not found.known.masks
    assert "2 images neither train nor evaluate" in found.warnings[-1]
    assert "validation/good" in found.warnings[-1]


def test_unreadable_pictures_of_test_are_warnings(tmp_path: Path) -> None:
    files = {**mvtec(), "test/bent/001.png": b"x", "ground_truth/bent/002_mask.png": b"GIF89a"}
    found = read(fill(tmp_path / "d", files))
    assert found.known is not None
    assert found.known.kinds.count("bent") == 2
    assert any(one.startswith("skipped test/bent/001.png: not an image") for one in found.warnings)
    assert any(one.startswith("skipped the mask of test/bent/002.png: not an image") for one in found.warnings)


def test_many_data_sets_in_one_folder_are_a_doubt(tmp_path: Path) -> None:
    found = read(fill(tmp_path / "d", mvtec("bottle/") | mvtec("cable/")))
    (doubt,) = found.doubts
    assert doubt.startswith(f"{tmp_path / 'd'} holds 2 data sets in MVTec's layout (bottle, cable): train on one")
    assert found.known is not None
    assert "cable/bent" in found.known.kinds


def test_masks_of_one_defect_in_a_folder_are_one_mask() -> None:
    names = ["train/good/0.png", "test/logical/7.png", "ground_truth/logical/7/0.png", "ground_truth/logical/7/1.png"]
    layout = find_layout(names)
    assert layout is not None
    assert layout.masks == {"test/logical/7.png": names[2:]}


@pytest.mark.parametrize(
    "names",
    [
        ["train/good/0.png"], ["train/bent/0.png", "test/good/0.png"], ["a/train/good/0.png", "b/test/good/0.png"],
        ["train/0.png", "test/0.png"], ["1/2/3/train/good/0.png", "1/2/3/test/bent/0.png"],
    ],
)  # fmt: skip
def test_other_layouts_are_not_mvtecs(names: list[str]) -> None:
    assert find_layout(names) is None
