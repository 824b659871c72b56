"""A bundle as one zip: the same bytes each time, and nothing leaves the folder that it is unpacked to."""

import base64
import hashlib
import shutil
import stat
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from elbound.bundle import check_bundle, load_bundle
from elbound.bundle.archive import pack_bundle, unpack_bundle
from elbound.errors import BundleCorrupt, BundleError, BundleExists

PLENTY = 100 << 20


def unpack(archive: Path, folder: Path, max_bytes: int = PLENTY) -> None:
    folder.mkdir()
    unpack_bundle(archive, folder, max_bytes=max_bytes, check=lambda: None)


def test_a_bundle_comes_out_as_it_went_in(table_bundle: Path, tmp_path: Path) -> None:
    sha256 = pack_bundle(table_bundle, tmp_path / "rows.zip")
    assert sha256 == hashlib.sha256((tmp_path / "rows.zip").read_bytes()).hexdigest()
    unpack(tmp_path / "rows.zip", tmp_path / "out")
    assert load_bundle(tmp_path / "out").manifest == load_bundle(table_bundle).manifest
    assert {file.name for file in (tmp_path / "out").iterdir()} == {file.name for file in table_bundle.iterdir()}


def test_the_same_bundle_makes_the_same_bytes(table_bundle: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(table_bundle, tmp_path / "copy", copy_function=shutil.copyfile)
    (copy / "notes.txt").write_text("not of the bundle")
    assert pack_bundle(table_bundle, tmp_path / "a.zip") == pack_bundle(copy, tmp_path / "b.zip")
    with pytest.raises(BundleExists):
        pack_bundle(table_bundle, tmp_path / "a.zip")


def test_a_harmed_bundle_is_not_packed(table_bundle: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(table_bundle, tmp_path / "copy")
    (copy / "golden.safetensors").write_bytes(b"")
    with pytest.raises(BundleCorrupt, match="golden"):
        pack_bundle(copy, tmp_path / "a.zip")
    assert not (tmp_path / "a.zip").exists()


def entry(name: str, kind: int = stat.S_IFREG, method: int = zipfile.ZIP_DEFLATED) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr, info.compress_type = (kind | 0o644) << 16, method
    return info


@pytest.mark.parametrize(
    "evil",
    [
        entry("../evil"),
        entry("a/../../evil"),
        entry("/tmp/evil"),
        entry("a\\..\\evil"),
        entry("./evil"),
        entry("a//evil"),
        entry("link", stat.S_IFLNK),
        entry("device", stat.S_IFCHR),
        entry("evil", method=zipfile.ZIP_LZMA),
    ],
    ids=lambda info: info.filename,
)
def test_an_entry_that_is_no_plain_file_is_refused(tmp_path: Path, evil: zipfile.ZipInfo) -> None:
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr(entry("harmless"), b"1")
        archive.writestr(evil, b"/etc/passwd")
    with pytest.raises(BundleCorrupt) as caught:
        unpack(tmp_path / "evil.zip", tmp_path / "out")
    assert caught.value.where == evil.filename
    assert not list((tmp_path / "out").iterdir())
    assert {path.name for path in tmp_path.iterdir()} == {"evil.zip", "out"}


def test_a_name_twice_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as archive:
        archive.writestr(entry("a"), b"1")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr(entry("a"), b"2")
    with pytest.raises(BundleCorrupt, match="twice"):
        unpack(tmp_path / "twice.zip", tmp_path / "out")


def test_an_empty_name_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(entry("Q"), b"")
    (tmp_path / "a.zip").write_bytes((tmp_path / "a.zip").read_bytes().replace(b"Q", b"\0"))
    with pytest.raises(BundleCorrupt, match=r"not readable as a zip|not a plain path"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


def test_a_bomb_stops_at_the_limit_and_not_after_it(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w") as archive:
        archive.writestr(entry("zeros"), bytes(50 << 20))
    assert (tmp_path / "bomb.zip").stat().st_size < 100_000
    with pytest.raises(BundleCorrupt, match="opens to more than 3,000,000 bytes"):
        unpack(tmp_path / "bomb.zip", tmp_path / "out", max_bytes=3_000_000)
    assert sum(file.stat().st_size for file in (tmp_path / "out").iterdir()) <= 3_000_000
    unpack(tmp_path / "bomb.zip", tmp_path / "all", max_bytes=50 << 20)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_harmed_archive_is_a_clear_error_or_a_checked_bundle(
    data: st.DataObject, table_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("harmed")
    pack_bundle(table_bundle, folder / "a.zip")
    whole = bytearray((folder / "a.zip").read_bytes())
    tail = len(whole) - 2_000  # where the zip's own index lies
    if data.draw(st.booleans()):
        whole = whole[: data.draw(st.integers(0, len(whole) - 1))]
    else:
        for place in data.draw(st.lists(st.integers(tail, len(whole) - 1), min_size=1, max_size=4)):
            whole[place] = data.draw(st.integers(0, 255))
    (folder / "a.zip").write_bytes(whole)
    with suppress(BundleError):  # nothing else may come out
        unpack(folder / "a.zip", folder / "out")
        assert check_bundle(folder / "out") == load_bundle(table_bundle).manifest


def test_an_entry_before_the_beginning_of_the_archive(tmp_path: Path) -> None:
    """Found by fuzzing: zipfile lets the system's own error out."""
    data = base64.b64decode(
        "UEsDBBQAAAAAAEYPdl1Dv6ajAgAAAAIAAAANAAAAbWFuaWZlc3QuagAAAAAAAAAAAAAAAAAAAFBLAQIUAxQAAAAAAEYPdl1Dv6ajAgAAAAIA"
        "AAANAAAAAAAAAAAAAACAAQAAAABtYW5pZmVzdC5qc29uUEsBAhQDFAAAAAAARg92XTZjjXVAAAAAQAAAABkAAAAAAAAAAAAAAIABLQAAAHBh"
        "cnRzL3dlaWdodHMuc2FmZXRlbnNvcnNQSwUGAAAAAAIAAgCCAAAApAAAAAAA"
    )
    (tmp_path / "x.zip").write_bytes(data)
    with pytest.raises(BundleCorrupt, match="is not where the archive says"):
        unpack_bundle(tmp_path / "x.zip", tmp_path / "into", max_bytes=1 << 20, check=lambda: None)
