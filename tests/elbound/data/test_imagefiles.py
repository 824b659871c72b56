"""Images from folder trees and zips: which are found, what they become, and which are skipped by name."""

import io
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from elbound.errors import DataError, DecodeError, LimitExceeded
from elbound.files.images import (
    ImageFiles,
    decode_images,
    image_files,
    infer_image_schema,
    is_image_name,
    read_member,
    zip_images,
)
from elbound.schema import ImageSchema

Picture = Callable[..., bytes]
Write = Callable[[str, bytes | str], Path]
SCHEMA = ImageSchema(height=4, width=5, channels=1)


def grey(value: int, *, height: int = 4, width: int = 5) -> np.ndarray:
    return np.full((height, width), value, np.uint8)


def pack(path: Path, members: dict[str, bytes], *, method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("a.png", True), ("b/c.JPG", True), ("d.jpeg", True), ("e.webp", True), ("f.BMP", True), ("g.tif", True),
        ("h.tiff", True), ("i.jfif", True), ("j.JPE", True), ("a.gif", False), ("a.png.txt", False), ("png", False),
        ("", False), ("b/._a.png", False), ("__MACOSX/a.png", False), ("x/__MACOSX/y/a.png", False),
        ("__MACOSX.png", True), ("a._b.png", True), (".hidden.png", False), (".ipynb_checkpoints/a.png", False),
        ("a/_temporary/0/b.png", False), ("@eaDir/a.png/SYNOPHOTO_THUMB_M.jpg", False), ("_DSC0001.JPG", True),
        ("a_b/c.png", True), ("../a.png", True), ("..\\a.png", True), ("x\\.git\\a.png", False),
    ],
)  # fmt: skip
def test_images_are_known_by_name(name: str, found: bool) -> None:
    assert is_image_name(name) == found


def test_a_folder_tree_is_searched(write: Write, picture: Picture, tmp_path: Path) -> None:
    for name in ("t/b.png", "t/a/z.PNG", "t/a/deep/y.png", "t/a/._z.PNG", "t/__MACOSX/b.png"):
        write(name, picture(grey(len(name))))
    write("t/notes.txt", "no image")
    (tmp_path / "t" / "folder.png").mkdir()
    files = image_files(tmp_path / "t")
    assert files.names == ("a/deep/y.png", "a/z.PNG", "b.png")
    assert files.read("a/z.PNG") == picture(grey(len("t/a/z.PNG")))


def test_what_is_passed_over_is_counted_by_kind(write: Write, picture: Picture, tmp_path: Path) -> None:
    data = picture(grey(1))
    listed = [
        "a.png", "b.jfif", "c.gif", "d.GIF", "e.heic", "notes.txt", "LICENSE", "Thumbs.db", ".DS_Store", "._a.png",
        "x/.ipynb_checkpoints/a-checkpoint.png", "_temporary/0/p.png", "_temporary/0/q.png", "_temporary/0/r.txt",
    ]  # fmt: skip
    for name in listed:
        write(f"t/{name}", data)
    for path in (tmp_path / "t", pack(tmp_path / "t.zip", dict.fromkeys(listed, data))):
        files = image_files(path)
        assert files.names == ("a.png", "b.jfif")
        assert decode_images(files, SCHEMA).names == ["a.png", "b.jfif"]
        assert sorted(files.beside) == ["LICENSE", "c.gif", "d.GIF", "e.heic", "notes.txt"]
        by_suffix, hidden = files.passed_over.sentences()
        assert by_suffix.startswith("5 files are passed over, since their kind is not read: 2 .gif, ")
        assert "1 .heic" in by_suffix
        assert "1 without a suffix" in by_suffix
        assert by_suffix.endswith("; convert pictures to PNG or JPEG")
        assert hidden.startswith("3 files are passed over as hidden or temporary: ")
        assert ".ipynb_checkpoints" in hidden
        assert "_temporary" in hidden
    write("only/a.heic", data)
    with pytest.raises(DataError, match=r"holds no images \(.*\); 1 file is passed over, .* 1 \.heic; convert"):
        image_files(tmp_path / "only")


def test_a_zip_is_searched(picture: Picture, tmp_path: Path) -> None:
    members = {
        "b.png": picture(grey(1)),
        "a/z.png": picture(grey(2)),
        "__MACOSX/._b.png": b"x",
        "a/._z.png": b"x",
        "n.txt": b"x",
    }
    path = pack(tmp_path / "t.zip", members)
    with zipfile.ZipFile(path, "a") as archive:
        archive.mkdir("folder.png")
    files = image_files(path)
    assert files.names == ("a/z.png", "b.png")
    assert files.read("a/z.png") == members["a/z.png"]
    assert image_files(pack(tmp_path / "named.bin", members)).names == files.names


def test_a_member_without_a_name_is_no_image(picture: Picture, tmp_path: Path) -> None:
    path = pack(tmp_path / "t.zip", {"a.png": picture(grey(1))})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("nameless", b"x")
        archive.filelist[-1].filename = ""
    assert image_files(path).names == ("a.png",)


def test_one_file_is_one_image(write: Write, picture: Picture) -> None:
    path = write("only.png", picture(grey(9)))
    assert image_files(path) == ImageFiles(path.parent, ("only.png",))
    decoded = decode_images(image_files(path), SCHEMA)
    assert decoded.names == ["only.png"]
    assert decoded.x.tolist() == grey(9)[None, None].tolist()


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04" + b"\x00" * 40, b"PK\x05\x06" + b"\xff" * 18])
def test_a_zip_that_is_none_is_a_decode_error(content: bytes, write: Write) -> None:
    path = write("broken.zip", content)
    with pytest.raises(DecodeError, match=r"broken\.zip is not a readable zip") as caught:
        image_files(path)
    assert caught.value.where == str(path)


def test_a_zip_cut_or_changed_anywhere_raises_data_errors_only(tmp_path: Path, picture: Picture) -> None:
    data = pack(
        tmp_path / "t.zip", {"a.png": picture(grey(1)), "b.png": picture(grey(2))}, method=zipfile.ZIP_DEFLATED
    ).read_bytes()
    draw = np.random.default_rng(0)
    path = tmp_path / "changed.zip"
    outcomes = set()
    for place in range(len(data)):
        flipped = bytearray(data)
        flipped[place] ^= int(draw.integers(1, 256))
        for changed in (data[:place], bytes(flipped)):
            path.write_bytes(changed)
            try:
                outcomes.add(len(decode_images(image_files(path), SCHEMA, max_bad_share=0.5).names))
            except DataError:
                outcomes.add(0)
    assert outcomes == {0, 1, 2}


def test_paths_without_images_are_named(tmp_path: Path, write: Write) -> None:
    with pytest.raises(DataError, match="does not exist"):
        image_files(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", pack(tmp_path / "t.zip", {"a.txt": b"x"})):
        with pytest.raises(DataError, match=r"holds no images \(\.png, ") as caught:
            image_files(path)
        assert caught.value.where == str(path)


def test_size_is_the_median_scaled_to_sixty_four(picture: Picture, write: Write, tmp_path: Path) -> None:
    for place, (height, width) in enumerate([(200, 100), (100, 50), (100, 50)]):
        write(f"t/{place}.png", picture(grey(1, height=height, width=width)))
    files = image_files(tmp_path / "t")
    assert infer_image_schema(files) == ImageSchema(height=64, width=32, channels=1)
    assert infer_image_schema(files, max_side=160).event == (1, 100, 50)
    stated = infer_image_schema(files, image_size=(7, 300), resize="crop")
    assert stated == ImageSchema(height=7, width=300, channels=1, resize="crop")


def test_small_images_keep_their_size_and_thin_ones_get_four_pixels(
    picture: Picture, write: Write, tmp_path: Path
) -> None:
    write("small/a.png", picture(grey(1, height=28, width=20)))
    assert infer_image_schema(image_files(tmp_path / "small")).event == (1, 28, 20)
    write("thin/a.png", picture(grey(1, height=1, width=500)))
    assert infer_image_schema(image_files(tmp_path / "thin")).event == (1, 4, 64)


def test_colour_and_depth_are_those_of_any_image(picture: Picture, write: Write, tmp_path: Path) -> None:
    deep = picture(np.full((4, 5), 60_000, np.uint16))
    red = picture(np.full((4, 5, 3), (255, 0, 0), np.uint8))
    same = picture(np.full((4, 5, 3), 7, np.uint8))
    cases = {
        "grey": ([same, picture(grey(3))], 1, 8),
        "deep": ([picture(grey(3)), deep], 1, 16),
        "colour": ([same, red], 3, 8),
        "both": ([deep, red], 3, 8),
    }
    for name, (images, channels, bits) in cases.items():
        for place, data in enumerate([*images, b"unreadable"]):
            write(f"{name}/{place}.png", data)
        schema = infer_image_schema(image_files(tmp_path / name))
        assert (schema.channels, schema.bits) == (channels, bits), name
        decoded = decode_images(image_files(tmp_path / name), schema)
        assert decoded.x.dtype == (torch.uint8 if bits == 8 else torch.int32)
        assert decoded.x.shape == (2, channels, 4, 5)


def test_a_folder_of_which_no_image_can_be_read_is_an_error(write: Write, tmp_path: Path) -> None:
    write("t/a.png", "x")
    write("t/b.png", "")
    with pytest.raises(DataError, match=r"none of 2 images of \S+ can be read"):
        infer_image_schema(image_files(tmp_path / "t"))
    with pytest.raises(
        DataError, match=r"2 of 2 images cannot be read, at most 2 may be skipped; the first is a\.png: not an"
    ):
        decode_images(image_files(tmp_path / "t"), SCHEMA, max_bad_share=1)


def test_a_few_unreadable_images_are_skipped_by_name(picture: Picture, write: Write, tmp_path: Path) -> None:
    for place in range(20):
        write(f"t/{place:02}.png", picture(grey(place)))
    write("t/03.png", b"")
    write("t/11.png", "no image")
    decoded = decode_images(image_files(tmp_path / "t"), SCHEMA)
    assert decoded.skipped == {
        "03.png": "the image is empty",
        "11.png": "not an image in PNG, JPEG, WebP, BMP or TIFF format",
    }
    kept = [place for place in range(20) if place not in (3, 11)]
    assert decoded.names == [f"{place:02}.png" for place in kept]
    assert decoded.x[:, 0, 0, 0].tolist() == kept


def test_more_unreadable_images_than_the_share_are_an_error(picture: Picture, write: Write, tmp_path: Path) -> None:
    for place in range(10):
        write(f"t/{place}.png", picture(grey(place)) if place > 1 else b"")
    files = image_files(tmp_path / "t")
    assert len(decode_images(files, SCHEMA, max_bad_share=0.2).skipped) == 2
    with pytest.raises(
        DataError, match=r"2 of 10 images cannot be read, at most 1 may be skipped; the first is 0\.png: the"
    ) as caught:
        decode_images(files, SCHEMA, max_bad_share=0.19)
    assert caught.value.where == "0.png"
    write("t/0.png", picture(grey(0)))
    assert list(decode_images(files, SCHEMA, max_bad_share=0.01).skipped) == ["1.png"]
    with pytest.raises(DataError, match="1 of 10 images cannot be read, at most 0 may be skipped"):
        decode_images(files, SCHEMA, max_bad_share=0)


def test_an_image_that_has_gone_is_skipped(picture: Picture, write: Write, tmp_path: Path) -> None:
    for name in "ab":
        write(f"t/{name}.png", picture(grey(1)))
    files = image_files(tmp_path / "t")
    (tmp_path / "t" / "a.png").unlink()
    assert "No such file" in decode_images(files, SCHEMA).skipped["a.png"]


def encrypted(data: bytes) -> bytes:
    """The zip with the flag of encryption on every member."""
    changed = bytearray(data)
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = changed.find(signature)
        while place >= 0:
            changed[place + flags] |= 1
            place = changed.find(signature, place + 4)
    return bytes(changed)


def test_members_that_are_encrypted_or_corrupt_are_skipped_by_name(picture: Picture, tmp_path: Path) -> None:
    members = {f"{place:02}.png": picture(grey(place)) for place in range(20)}
    path = pack(tmp_path / "t.zip", members)
    data = path.read_bytes()
    path.write_bytes(data.replace(members["07.png"], members["07.png"][:-3] + b"???"))
    decoded = decode_images(image_files(path), SCHEMA)
    assert list(decoded.skipped) == ["07.png"]
    assert decoded.skipped["07.png"] == "07.png is damaged in the zip; pack it again"
    path.write_bytes(encrypted(data))
    with pytest.raises(
        DataError, match=r"20 of 20 images cannot be .* the first is 00\.png is encrypted; unpack it first$"
    ):
        decode_images(image_files(path), SCHEMA)
    with pytest.raises(DataError, match=r"none of 20 .*; the first is 00\.png is encrypted; unpack it first$"):
        infer_image_schema(image_files(path))


def test_a_member_of_an_unknown_packing_is_named(picture: Picture, tmp_path: Path) -> None:
    path = pack(tmp_path / "t.zip", {"a.png": picture(grey(1))})
    data = bytearray(path.read_bytes())
    for signature, method in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        data[data.find(signature) + method] = 97
    path.write_bytes(bytes(data))
    with pytest.raises(DecodeError, match=r"^a\.png is packed in a way that is not read \(method 97\); pack it with"):
        image_files(path).read("a.png")


def test_another_archive_named_zip_is_said(write: Write) -> None:
    with pytest.raises(DecodeError, match=r"is not a readable zip: it is a RAR archive; unpack it first"):
        image_files(write("r.zip", b"Rar!\x1a\x07\x01\x00"))


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_member_is_a_decode_error(method: int, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).bytes(3_000)
    path = pack(tmp_path / "t.zip", {"a.png": noise}, method=method)
    data = bytearray(path.read_bytes())
    data[60:200] = bytes(140)
    with (
        zipfile.ZipFile(io.BytesIO(bytes(data))) as archive,
        pytest.raises(DecodeError, match=r"a\.png (is damaged|cannot)") as caught,
    ):
        read_member(archive, archive.getinfo("a.png"), max_bytes=1 << 20)
    assert caught.value.where == "a.png"


def test_a_member_is_read_no_further_than_its_limit(tmp_path: Path) -> None:
    path = pack(tmp_path / "t.zip", {"a.png": b"x" * 1000}, method=zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(path) as archive:
        (info,) = zip_images(archive)
        assert len(read_member(archive, info, max_bytes=1000)) == 1000
        with pytest.raises(LimitExceeded, match=r"a\.png opens to more than 999 bytes"):
            read_member(archive, info, max_bytes=999)


def test_a_zip_of_many_members_is_read_in_one_pass_by_several_threads(tmp_path: Path) -> None:
    members = {f"{place}.png": str(place).encode() for place in range(5_000)}
    files = image_files(pack(tmp_path / "t.zip", members))
    started = time.perf_counter()
    with ThreadPoolExecutor(4) as pool:
        found = dict(zip(files.names, pool.map(files.read, files.names), strict=True))
    assert time.perf_counter() - started < 5  # opening the zip for each member takes minutes
    assert found == members


def test_one_name_twice_in_a_zip_is_one_image(tmp_path: Path, picture: Picture) -> None:
    path = pack(tmp_path / "t.zip", {"a.png": picture(grey(1))})
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("a.png", picture(grey(2)))
    files = image_files(path)
    decoded = decode_images(files, SCHEMA)
    assert decoded.names == ["a.png"]
    assert decoded.x.unique().tolist() == [2]
    assert files.passed_over.sentences() == [
        "in the zip 1 name stands more than once (a.png): the last file of a name is read, as unpacking would leave it"
    ]
