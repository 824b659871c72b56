"""Writing a bundle beside its target and renaming it into place; reading one that distrusts every byte."""

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING

import safetensors.torch
from pydantic import ValidationError
from safetensors import SafetensorError
from torch import Tensor

from elbound.bundle.manifest import FORMAT_VERSION, FileRecord, Manifest, document_digest
from elbound.bundle.regular_file import open_regular, read_regular
from elbound.bundle.signature import SIGNATURE, Trust, signature_of
from elbound.bundle.weights import check_weights, tensor_shapes
from elbound.errors import BundleCorrupt, BundleError, BundleExists

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

MANIFEST = "manifest.json"
EXPORT = "detector.onnx"
WEIGHTS, CALIBRATION, GOLDEN = "weights.safetensors", "calibration.safetensors", "golden.safetensors"
TENSOR_FILES = (WEIGHTS, CALIBRATION, GOLDEN)
MAX_MANIFEST_BYTES = 4 << 20
MAX_MANIFEST_DEPTH = 32
MAX_BUNDLE_BYTES = 4 << 30
"""What is loaded where nobody says otherwise."""
CHUNK_BYTES = 1 << 20
MAX_SHOWN = 200
MISFITS = (LookupError, ArithmeticError, RuntimeError, ValueError, TypeError, AttributeError, AssertionError)
"""What torch and our own parts raise for values and shapes that do not belong together."""


@dataclass(frozen=True)
class BundleContent:
    """The parts of a bundle in memory; `report` maps paths below `report/` to their bytes.

    `export` is the detector once more, as an ONNX graph, or None.
    """

    manifest: Manifest
    weights: dict[str, Tensor]
    calibration: dict[str, Tensor]
    golden: dict[str, Tensor]
    report: Mapping[str, bytes] = field(default_factory=dict)
    export: bytes | None = None


def save_bundle(content: BundleContent, target: Path | str, *, force: bool = False) -> Manifest:
    """Write `content` to the directory `target`; returns the manifest as it was written.

    The files are written and synced beside the target and renamed into place: a crash at any moment, or a
    full disk, leaves the old bundle or none. Raises BundleExists unless `force`, BundleError where the disk
    does not take it.
    """
    target = Path(target).absolute()
    check_target(target, force=force)
    beside = target.parent / f".{target.name}.{secrets.token_hex(4)}.partial"
    try:
        beside.mkdir(parents=True)
        manifest = _write_files(content, beside)
        _swap(beside, target)
    except OSError as error:
        raise BundleError(
            f"{target} could not be written: {error.strerror or error}; what was there is unharmed",
            code="bundle_not_written",
            where=str(target),
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return manifest


def check_target(target: Path, *, force: bool) -> None:
    """Raise BundleExists where `save_bundle` would refuse; to be asked before the work."""
    if not target.exists():
        return
    if not force:
        raise BundleExists(f"{target} exists already; choose another --out or pass --force", where=str(target))
    if not (target / MANIFEST).exists() and (not target.is_dir() or any(target.iterdir())):
        raise BundleExists(f"{target} exists and is not a bundle; it is left alone", where=str(target))


def load_bundle(path: Path | str, trust: Trust | None = None, *, max_bytes: int = MAX_BUNDLE_BYTES) -> BundleContent:
    """Read a bundle: signature, format version, sizes, hashes and shapes are checked before a tensor is made.

    What is checked and what is used are the same bytes, read once. `max_bytes` bounds the files together and the
    memory of the detector. Raises BundleUntrusted, BundleCorrupt that names the file, BundleError for one that is too
    large. Nothing in a bundle is executed.
    """
    path = Path(path)
    manifest = read_manifest(path, trust)
    missing = [name for name in TENSOR_FILES if name not in manifest.files]
    if missing:
        raise BundleCorrupt(f"{path / MANIFEST} does not list {missing[0]}", where=missing[0])
    _check_total(path, manifest, max_bytes)
    contents = {name: read_checked(path, name, record) for name, record in manifest.files.items()}
    _check_fit(path, manifest, contents[WEIGHTS], max_bytes)
    weights, calibration, golden = (_tensors(path, name, contents[name]) for name in TENSOR_FILES)
    report = {name[len("report/") :]: data for name, data in contents.items() if name.startswith("report/")}
    return BundleContent(manifest, weights, calibration, golden, report, contents.get(EXPORT))


def check_bundle(path: Path, trust: Trust | None = None) -> Manifest:
    """Check signature, sizes and hashes without holding a file in memory; raises as `load_bundle` does."""
    manifest = read_manifest(path, trust)
    for name, record in manifest.files.items():
        _check_file(path, name, record)
    return manifest


def sign_bundle(path: Path, key: "Ed25519PrivateKey") -> Manifest:
    """Check a bundle, then write its signature beside the manifest, in the place of an older one.

    Raises BundleCorrupt, and BundleError where the disk does not take it.
    """
    data = _manifest_bytes(path)
    manifest = _parse_manifest(path / MANIFEST, data)
    for name, record in manifest.files.items():
        _check_file(path, name, record)
    try:
        replace_file(path / SIGNATURE, signature_of(data, key))
    except OSError as error:
        raise BundleError(
            f"{path / SIGNATURE} could not be written: {error.strerror or error}",
            code="bundle_not_written",
            where=str(path),
        ) from error
    return manifest


def read_manifest(path: Path, trust: Trust | None = None) -> Manifest:
    """The manifest alone, of a bundle whose files are not yet checked.

    Raises BundleUntrusted, BundleCorrupt, BundleError.
    """
    data = _manifest_bytes(path)
    if trust is not None:
        trust.check_signature(path, data)
    manifest = _parse_manifest(path / MANIFEST, data)
    if trust is not None:
        trust.check_place(path, name=manifest.name, version=manifest.version)
    return manifest


def _manifest_bytes(path: Path) -> bytes:
    file = path / MANIFEST
    try:
        return read_regular(path, MANIFEST, max_bytes=MAX_MANIFEST_BYTES)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BundleError(
            f"{path} is not a bundle: it has no {MANIFEST}", code="bundle_missing", where=str(path)
        ) from error
    except OSError as error:
        raise BundleCorrupt(f"{file} cannot be read: {error.strerror or error}", where=MANIFEST) from error


def _parse_manifest(file: Path, data: bytes) -> Manifest:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BundleCorrupt(f"{file} is not readable JSON: {error}", where=MANIFEST) from error
    if _is_deeper(document, MAX_MANIFEST_DEPTH):
        raise BundleCorrupt(f"{file} is nested more than {MAX_MANIFEST_DEPTH} deep", where=MANIFEST)
    found = document.get("format_version") if isinstance(document, dict) else None
    if found != FORMAT_VERSION:
        raise BundleError(
            f"{file} has format version {repr(found)[:MAX_SHOWN]}; this elbound reads {FORMAT_VERSION}",
            code="bundle_version",
            where=MANIFEST,
        )
    try:
        manifest = Manifest.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        field_name = ".".join(str(part) for part in first["loc"])[:MAX_SHOWN]
        raise BundleCorrupt(f"{file}: {field_name}: {first['msg'][:MAX_SHOWN]}", where=MANIFEST) from error
    if document_digest(document) != manifest.digest:
        raise BundleCorrupt(f"{file} was altered: it does not have the digest that it states", where=MANIFEST)
    return manifest


def _is_deeper(document: object, most: int) -> bool:
    """Whether lists and objects stand in each other more than `most` deep."""
    level = [document]
    for _ in range(most + 1):
        lists = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)]
        level = [child for children in lists for child in children]
    return bool(level)


def _check_total(path: Path, manifest: Manifest, max_bytes: int) -> None:
    """Calibration scores count four times: they are sorted and ranked, each step in memory of its own."""
    total = sum(record.size for record in manifest.files.values()) + 3 * manifest.files[CALIBRATION].size
    if total > max_bytes:
        raise BundleError(
            f"{path} has {total:,} bytes, {CALIBRATION} four times; at most {max_bytes:,} are loaded "
            "(max_bundle_bytes)",
            code="bundle_too_large",
            where=MANIFEST,
        )


def _check_fit(path: Path, manifest: Manifest, weights: bytes, max_bytes: int) -> None:
    try:
        check_weights(manifest, tensor_shapes(weights), file=str(path / WEIGHTS), max_bytes=max_bytes)
    except MISFITS as error:
        raise BundleCorrupt(
            f"{path} does not hold the model of its manifest: {first_line(error)}", where=str(path)
        ) from error


def first_line(error: BaseException) -> str:
    """What an error of a library says, in one line of bounded length."""
    return (str(error).splitlines() or [type(error).__name__])[0][:MAX_SHOWN]


def replace_file(path: Path, data: bytes) -> None:
    """Write `data` beside `path`, sync, and rename over it."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        _write_synced(beside, data)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _write_files(content: BundleContent, folder: Path) -> Manifest:
    tensors = zip(TENSOR_FILES, (content.weights, content.calibration, content.golden), strict=True)
    files = {name: safetensors.torch.save(_plain(values)) for name, values in tensors}
    files |= {f"report/{name}": data for name, data in content.report.items()}
    if content.export is not None:
        files[EXPORT] = content.export
    records = {
        name: FileRecord(sha256=hashlib.sha256(data).hexdigest(), size=len(data)) for name, data in files.items()
    }
    manifest = Manifest.model_validate({**content.manifest.model_dump(), "files": records, "digest": ""})
    digest = document_digest(json.loads(manifest.model_dump_json()))
    manifest = manifest.model_copy(update={"digest": digest})
    files[MANIFEST] = manifest.model_dump_json(indent=1).encode()
    if len(files[MANIFEST]) > MAX_MANIFEST_BYTES:
        raise BundleError(
            f"the manifest would have {len(files[MANIFEST]):,} bytes; at most {MAX_MANIFEST_BYTES:,} are read again. "
            "Leave out columns, or values of columns",
            code="bundle_too_large",
            where=MANIFEST,
        )
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        _write_synced(folder / name, data)
    _sync_folder(folder)
    return manifest


def _swap(beside: Path, target: Path) -> None:
    """Rename into place; where a bundle is there, it steps aside first and is removed last."""
    aside = target.parent / f".{target.name}.{secrets.token_hex(4)}.old"
    if target.exists():
        target.rename(aside)
    try:
        beside.rename(target)
    except OSError:
        if aside.exists():
            aside.rename(target)
        raise
    _sync_folder(target.parent)
    shutil.rmtree(aside, ignore_errors=True)


def read_checked(path: Path, name: str, record: FileRecord) -> bytes:
    """The bytes of one file of a bundle as its manifest has them. Raises BundleCorrupt that names the file."""
    with _opened(path, name, record) as stream:
        data = stream.read(record.size)
    _check_hash(path, name, record, hashlib.sha256(data).hexdigest())
    return data


def _check_file(path: Path, name: str, record: FileRecord) -> None:
    digest, left = hashlib.sha256(), record.size
    with _opened(path, name, record) as stream:
        while left and (chunk := stream.read(min(CHUNK_BYTES, left))):
            digest.update(chunk)
            left -= len(chunk)
    _check_hash(path, name, record, digest.hexdigest())


@contextmanager
def _opened(path: Path, name: str, record: FileRecord) -> Iterator[BufferedReader]:
    """The file `name` of a bundle, of the size that its record says; what it grows by from now on is not read."""
    file = path / name
    try:
        with open_regular(path, name) as stream:
            size = os.fstat(stream.fileno()).st_size
            if size != record.size:
                raise BundleCorrupt(f"{file} has {size:,} bytes, the manifest says {record.size:,}", where=name)
            yield stream
    except OSError as error:
        raise BundleCorrupt(f"{file} cannot be read: {error.strerror or error}", where=name) from error


def _check_hash(path: Path, name: str, record: FileRecord, found: str) -> None:
    if found != record.sha256:
        raise BundleCorrupt(f"{path / name} was altered: its SHA-256 is not that of the manifest", where=name)


def _tensors(path: Path, name: str, data: bytes) -> dict[str, Tensor]:
    try:
        tensor_shapes(data)
        return safetensors.torch.load(data)
    except (SafetensorError, *MISFITS) as error:
        raise BundleCorrupt(f"{path / name} is not readable as safetensors: {first_line(error)}", where=name) from error


def _plain(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
