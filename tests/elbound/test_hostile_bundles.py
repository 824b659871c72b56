"""Bundles by somebody who may write a store and calculates every hash: refused at once, by name, in little memory."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save

from elbound.bundle import check_bundle, load_bundle
from elbound.bundle import files as bundle_files
from elbound.bundle.archive import pack_bundle
from elbound.bundle.manifest import document_digest
from elbound.bundle.regular_file import NotRegular, open_regular, read_regular
from elbound.bundle.weights import Planned
from elbound.detector import Detector, DetectorSpec, item_values
from elbound.errors import BundleCorrupt, BundleError, ConfigError
from elbound.fit.image_defaults import feature_model, pixel_model
from elbound.model.models import ModelSpec
from elbound.model.priors.flow import Flow
from elbound.schema import ImageSchema, TableSchema
from elbound.scorer import Scorer
from tests.conftest import odd_detector

MOST_MEMORY = 400 << 20
"""What all refusals of one process together may add to what its libraries take."""
MOST_SECONDS = 5


def vouch(bundle: Path, change: Callable[[dict[str, Any]], object] = lambda _: None, **files: bytes | int) -> None:
    """Put files into a bundle (a number stands for what is there, of that size), and let its manifest vouch for all."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    for name, data in files.items():
        size = data if isinstance(data, int) else len(data)
        if isinstance(data, bytes):
            (bundle / name).parent.mkdir(exist_ok=True)
            (bundle / name).write_bytes(data)
        sha256 = hashlib.sha256(b"" if isinstance(data, int) else data).hexdigest()
        manifest["files"][name] = {"sha256": sha256, "size": size}
    change(manifest)
    manifest["digest"] = document_digest(manifest)
    (bundle / "manifest.json").write_text(json.dumps(manifest))


def model_of(**changed: object) -> Callable[[dict[str, Any]], object]:
    return lambda manifest: manifest["detector"]["models"][0].update(changed)


def link(name: str, target: str) -> Callable[[Path], None]:
    def harm(bundle: Path) -> None:
        (bundle / name).unlink(missing_ok=True)
        (bundle / name).symlink_to(target)
        if name != "manifest.json":
            vouch(bundle, **{name: 0})

    return harm


def pipe(name: str) -> Callable[[Path], None]:
    def harm(bundle: Path) -> None:
        (bundle / name).unlink(missing_ok=True)
        (bundle / name).parent.mkdir(exist_ok=True)
        os.mkfifo(bundle / name)
        if name != "manifest.json":
            vouch(bundle, **{name: 0})

    return harm


def far_report(bundle: Path) -> None:
    (bundle / "report").symlink_to("/proc/self")
    vouch(bundle, **{"report/status": 0})


def endless(bundle: Path) -> None:
    """A file of 200 GB that takes no room on the disk."""
    with (bundle / "endless.bin").open("wb") as file:
        file.truncate(200 << 30)
    vouch(bundle, **{"endless.bin": 200 << 30})


def swollen_header(bundle: Path) -> None:
    header = b'{"' + b"x" * (20 << 20) + b'":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}'
    vouch(bundle, **{"weights.safetensors": len(header).to_bytes(8, "little") + header})


def many_golden(bundle: Path) -> None:
    rows = {"x": torch.zeros(100_000, 5, dtype=torch.float64), "scores": torch.zeros(100_000, 9, dtype=torch.float64)}
    vouch(bundle, **{"golden.safetensors": save(rows)})


def long_manifest(bundle: Path) -> None:
    text = (bundle / "manifest.json").read_text()
    (bundle / "manifest.json").write_text(text + " " * (66_000_000 - len(text)))


def deep_manifest(bundle: Path) -> None:
    vouch(bundle, lambda manifest: manifest["metrics"].update(a=json.loads("[" * 200 + "]" * 200)))


def typed_square(bundle: Path) -> None:
    values = [float(i) for i in range(100_000)]
    vouch(bundle, model_of(typed={str(i): values if i == 0 else [0.0, 1.0, 2.0] for i in range(50_000)}))


def many_levels(bundle: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        categorical = next(one for one in manifest["item"]["columns"] if one["kind"] == "categorical")
        categorical["levels"] = [str(i) for i in range(300_000)]
        model_of(samples=1024, nets=64)(manifest)

    vouch(bundle, change)


def wide(bundle: Path) -> None:
    vouch(bundle, model_of(width=16384, nets=16))


HARMS: dict[str, tuple[Callable[[Path], object], str]] = {
    "link to a device": (link("weights.safetensors", "/dev/zero"), r"weights\.safetensors is a symbolic link"),
    "link to a file": (link("weights.safetensors", "golden.safetensors"), r"weights\.safetensors is a symbolic link"),
    "manifest to a device": (link("manifest.json", "/dev/zero"), r"manifest\.json is a symbolic link"),
    "pipe": (pipe("weights.safetensors"), r"weights\.safetensors cannot be read: it is not a regular file"),
    "pipe as manifest": (pipe("manifest.json"), r"manifest\.json cannot be read: it is not a regular file"),
    "pipe as report": (pipe("report/index.html"), r"report/index\.html cannot be read: it is not a regular file"),
    "folder that is a link": (far_report, "report is a symbolic link"),
    "endless file": (endless, r"bytes, .* at most 4,294,967,296 are loaded \(max_bundle_bytes\)"),
    "long manifest": (long_manifest, r"manifest\.json cannot be read: it has more than 4,194,304 bytes"),
    "deep manifest": (deep_manifest, "nested more than 32 deep"),
    "wide": (wide, r"detector needs .* bytes of weights; at most 4,294,967,296 are allowed"),
    "much work": (lambda path: vouch(path, model_of(samples=1024, nets=64, width=65_536)), r"to score; at most"),
    "components": (lambda path: vouch(path, model_of(components=100_000, nets=64)), r"to score; at most"),
    "levels": (many_levels, r"to score; at most"),
    "typed": (typed_square, r"to score; at most"),
    "models": (
        lambda path: vouch(path, lambda one: one["detector"].update(models=one["detector"]["models"] * 1000)),
        "models: Tuple should have at most 16 items",
    ),
    "scores": (lambda path: vouch(path, model_of(scores=["kl"] * 10_000)), "scores: Tuple should have at most 32"),
    "item groups": (
        lambda path: vouch(path, lambda one: one.update(item_groups={"names": ["a"] * 100_000, "min_items": 1})),
        "names: Tuple should have at most 10000",
    ),
    "swollen header": (swollen_header, r"header has 20,971,\d+ bytes; at most 4,194,304 are read"),
    "golden": (many_golden, "100,000 items; it may have 1 to 64"),
}
LOAD = """
import json, resource, sys, time
from elbound.scorer import Scorer
from elbound.errors import BundleError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = {}
for path in sys.argv[1:]:
    start = time.monotonic()
    try:
        Scorer.from_bundle(path, device="cpu")
        message = "loaded"
    except BundleError as error:
        message = error.message
    found[path] = message, time.monotonic() - start
print(json.dumps([found, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10]))
"""


@pytest.fixture(scope="module")
def refusals(table_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, tuple[str, float]], int]:
    """What a process of its own says of each harm, how long it took, and how much memory all of them took."""
    folder = tmp_path_factory.mktemp("hostile")
    places = {}
    for number, (name, (harm, _)) in enumerate(HARMS.items()):
        places[name] = Path(shutil.copytree(table_bundle, folder / str(number)))
        harm(places[name])
    command = [sys.executable, "-c", LOAD, *map(str, places.values())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found, memory = json.loads(done.stdout)
    return {name: found[str(path)] for name, path in places.items()}, memory


@pytest.mark.parametrize("name", HARMS)
def test_each_is_refused_by_name_within_seconds(name: str, refusals: tuple[dict[str, tuple[str, float]], int]) -> None:
    message, seconds = refusals[0][name]
    assert re.search(HARMS[name][1], message), message
    assert len(message) < 1_000
    assert seconds < MOST_SECONDS


def test_together_they_take_little_memory(refusals: tuple[dict[str, tuple[str, float]], int]) -> None:
    assert refusals[1] < MOST_MEMORY


@pytest.mark.parametrize("name", ["link to a device", "pipe as report", "folder that is a link"])
def test_checking_and_packing_refuse_them_too(name: str, table_bundle: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(table_bundle, tmp_path / "copy"))
    HARMS[name][0](bundle)
    for read in (check_bundle, lambda path: pack_bundle(path, tmp_path / "out.zip")):
        with pytest.raises(BundleCorrupt, match=HARMS[name][1]):
            read(bundle)
    assert not (tmp_path / "out.zip").exists()


def test_a_bundle_that_is_reached_over_a_link_is_read(table_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(table_bundle)
    assert Scorer.from_bundle(tmp_path / "current", device="cpu").name == "rows"


def test_a_caller_may_allow_less(table_bundle: Path) -> None:
    sizes = {file.name: file.stat().st_size for file in table_bundle.rglob("*") if file.name != "manifest.json"}
    total = sum(sizes.values()) + 3 * sizes["calibration.safetensors"]
    with pytest.raises(BundleError, match=f"has {total:,} bytes, .* at most {total - 1:,} are loaded") as caught:
        load_bundle(table_bundle, max_bytes=total - 1)
    assert caught.value.code == "bundle_too_large"


def test_weights_of_another_shape_are_refused_by_name(table_bundle: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(table_bundle, tmp_path / "copy"))
    weights = load_file(bundle / "weights.safetensors")
    name = next(one for one in weights if one.endswith("decoder.last.bias"))
    for changed, message in (
        ({**weights, name: weights[name][..., :-1].contiguous()}, f"has {name} of shape"),
        ({**weights, "more": weights[name].clone()}, "has more, which its manifest's detector does not have"),
    ):
        vouch(bundle, **{"weights.safetensors": save(changed)})
        with pytest.raises(BundleCorrupt, match=message):
            load_bundle(bundle)


def test_what_grows_while_it_is_read_ends_where_its_record_says(
    table_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = Path(shutil.copytree(table_bundle, tmp_path / "copy"))
    before = load_bundle(bundle)
    plain, looks = os.fstat, []

    def grow(handle: int) -> os.stat_result:
        facts = plain(handle)
        if os.readlink(f"/proc/self/fd/{handle}").endswith("golden.safetensors"):
            looks.append(handle)
            if len(looks) == 2:  # its kind was looked at, and now its size
                with (bundle / "golden.safetensors").open("ab") as file:
                    file.write(b"more")
        return facts

    monkeypatch.setattr(os, "fstat", grow)
    assert load_bundle(bundle).golden["scores"].equal(before.golden["scores"])
    assert (bundle / "golden.safetensors").stat().st_size == manifest_size(bundle) + 4


def manifest_size(bundle: Path) -> int:
    size: int = json.loads((bundle / "manifest.json").read_text())["files"]["golden.safetensors"]["size"]
    return size


def test_only_a_regular_file_is_opened(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("folder")
    (tmp_path / "lost").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    assert read_regular(tmp_path, "folder/file", max_bytes=5) == b"12345"
    assert read_regular(tmp_path / "link", "file", max_bytes=5) == b"12345"
    with pytest.raises(NotRegular, match="it has more than 4 bytes"):
        read_regular(tmp_path, "folder/file", max_bytes=4)
    for name in ("link/file", "lost"):
        with pytest.raises(NotRegular, match="is a symbolic link"):
            open_regular(tmp_path, name)
    for name in ("folder", "pipe"):
        with pytest.raises(NotRegular, match="not a regular file"):
            open_regular(tmp_path, name)
    with pytest.raises(NotRegular, match="not a regular file"):
        open_regular(Path("/dev"), "null")
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path, "none")


def test_a_manifest_that_could_not_be_read_again_is_not_written(
    table_scorer: Scorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_files, "MAX_MANIFEST_BYTES", 1_000)
    with pytest.raises(BundleError, match="at most 1,000 are read again"):
        table_scorer.save(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def specs() -> list[tuple[DetectorSpec, TableSchema | ImageSchema]]:
    """Detectors of every kind of part."""
    detector, table, _ = odd_detector()
    shared = {"view": "normal", "latent": 2, "components": 3, "bank": 4, "nets": 2}
    parts: list[dict[str, object]] = [
        {
            **shared,
            "prior": prior,
            "typed": {0: (1.0, 2.0, 3.0), 1: (5.0,)},
            "scores": ("neighbours", "latent_neighbours"),
        }
        for prior in ("standard_normal", "aggregate", "flow")
    ]
    parts.append({**shared, "name": "autoencoder", "samples": 1, "scores": ("reconstruction_error",)})
    images = ImageSchema(height=24, width=30, channels=3)
    return [
        (detector.spec, table),
        *((DetectorSpec(models=(ModelSpec.model_validate(part),)), table) for part in parts),
        (DetectorSpec(models=(pixel_model(images, 50),)), images),
        (DetectorSpec(models=(feature_model(images, 50),)), images),
    ]


def test_every_part_can_be_built_without_memory_and_has_the_same_shapes() -> None:
    pytest.importorskip("zuko", reason="the extra `flows` is not installed")
    for spec, schema in specs():
        with Planned():
            planned = Detector(spec, schema).state_dict()
        real = Detector(spec, schema).state_dict()
        assert {name: one.shape for name, one in planned.items()} == {name: one.shape for name, one in real.items()}
        if all(model.prior != "flow" for model in spec.models):
            assert [name for name, one in planned.items() if not one.is_meta and one.numel() > 20_000] == []


def test_a_flow_is_small_enough_to_be_built() -> None:
    pytest.importorskip("zuko", reason="the extra `flows` is not installed")
    with pytest.raises(ConfigError, match=r"at most 1,024 latents over all nets\. Got 262,144"):
        Flow(64, 4096)


def test_a_chunk_of_wide_items_holds_fewer_of_them(table_scorer: Scorer) -> None:
    image = ImageSchema(height=64, width=64, channels=3)
    for schema, spec in ((table_scorer.schema, table_scorer.detector.spec.models[0]), (image, feature_model(image, 9))):
        assert Detector(DetectorSpec(models=(spec,)), schema).cpu_chunk >= 64
    levels = tuple(str(i) for i in range(50_000))
    assert isinstance(table_scorer.schema, TableSchema)
    columns = [one.model_copy(update={"levels": levels}) for one in table_scorer.schema.columns if one.levels]
    wide, model = TableSchema(columns=tuple(columns)), ModelSpec(view="standard", latent=2, width=1)
    detector = Detector(DetectorSpec(models=(model,)), wide)
    assert detector.cpu_chunk * item_values(model, wide) <= 1 << 26
    assert np.isfinite(detector.cpu_chunk)
