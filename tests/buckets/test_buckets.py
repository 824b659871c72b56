"""Stores at `s3://`, `gs://` and `az://`, served from end to end, on servers that speak these protocols.

Clients and servers live in an environment of their own, which sees that of the tests: `make test-buckets`.
"""

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from elbound.bundle import sign_bundle
from elbound.bundle.signature import read_signing_key, write_signing_key
from elbound.scorer import Scorer
from tests.service.conftest import Server
from tests.service.stores import as_version, version_at

BIN = Path(sys.executable).parent
pytestmark = pytest.mark.skipif(not (BIN / "moto_server").exists(), reason="no servers of buckets: `make test-buckets`")
PATIENCE_SECONDS = 30
ROW = b"[[0.5, 1.0, 2.0]]"
S3 = {"AWS_ENDPOINT_URL": "http://127.0.0.1:{port}", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
"""What a deployment sets: where S3 is, and who asks. Here any key will do."""
GS = {
    "STORAGE_EMULATOR_HOST": "http://127.0.0.1:{port}",
    "FSSPEC_GS_TOKEN": "anon",
    "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # asks by gRPC, which the emulator does not speak
}
AZ = {
    "AZURE_STORAGE_CONNECTION_STRING": "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;"
    "AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==;"
    "BlobEndpoint=http://127.0.0.1:{port}/devstoreaccount1;"
}
"""The account that Azurite always has, with the key that its documentation gives."""
KINDS = {
    "s3": (["moto_server", "-H", "127.0.0.1", "-p", "{port}"], S3),
    "gs": (["gcp-storage-emulator", "start", "--host", "127.0.0.1", "--port", "{port}", "--in-memory"], GS),
    "az": (["azurite-blob", "--blobPort", "{port}", "--inMemoryPersistence", "--silent", "--skipApiVersionCheck"], AZ),
}


def until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)


@dataclass
class Bucket:
    """A bucket, whoever publishes to it, and the server that reads it."""

    files: Any
    scheme: str
    process: "subprocess.Popen[bytes]"
    scorer: Scorer
    key: Ed25519PrivateKey
    folder: Path
    base = "models-of-elbound/store"

    def publish(self, i: int, *, signed: bool = True, harm: Callable[[Path], object] | None = None) -> str:
        """Version `i`, the signature last, as docs/operations.md says."""
        version = version_at(i)
        bundle = self.folder / version
        as_version(self.scorer, version).save(bundle)
        if signed:
            sign_bundle(bundle, self.key)
        if harm is not None:
            harm(bundle)
        for file in sorted(bundle.rglob("*"), key=lambda file: file.suffix == ".sig"):
            if file.is_file():
                self.files.pipe(f"{self.base}/numbers/{version}/{file.relative_to(bundle)}", file.read_bytes())
        shutil.rmtree(bundle)
        return version

    def pin(self, version: str) -> None:
        self.files.pipe(f"{self.base}/numbers/ACTIVE", version.encode())


@pytest.fixture(scope="module", params=KINDS)
def bucket(request, numeric_scorer: Scorer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:  # type: ignore[no-untyped-def]
    import fsspec

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command, environ = KINDS[request.param]
    program = shutil.which(command[0], path=f"{BIN}:{BIN.parent}/node_modules/.bin")
    if program is None:
        pytest.skip(f"{command[0]} is not installed: its package needs npm")
    folder = tmp_path_factory.mktemp("publisher")
    write_signing_key(folder / "release.key")
    with pytest.MonkeyPatch.context() as patch, (folder / "log").open("wb") as log:
        for name, value in environ.items():
            patch.setenv(name, value.format(port=port))
        words = [program, *(word.format(port=port) for word in command[1:])]
        process = subprocess.Popen(words, stdout=log, stderr=log, cwd=folder)
        try:
            until(lambda: listens(port))
            files = fsspec.filesystem(request.param, skip_instance_cache=True)
            files.mkdir(Bucket.base.partition("/")[0])
            yield Bucket(
                files, request.param, process, numeric_scorer, read_signing_key(folder / "release.key"), folder
            )
        finally:
            process.kill()
            process.wait()


def listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


@pytest.fixture(scope="module")
def served(bucket: Bucket, start: Callable[..., Server], key_file: Callable[..., Path]) -> Server:
    """Two versions, of which the newest is served."""
    for i in range(2):
        bucket.publish(i)
    server = start(
        models=f"{bucket.scheme}://{bucket.base}", store_poll_s=1, cache_dir=bucket.folder / "cache",
        require_signature=1, trusted_keys_file=bucket.folder / "release.key.pub",
        api_keys_file=key_file(k={"scopes": ["score", "read", "admin"]}),
    )  # fmt: skip
    server.client.headers["Authorization"] = "Bearer k"
    return server


def scored_by(server: Server) -> str:
    answer = server.score(ROW, "application/json")
    assert answer.status_code == 200, answer.text
    version: str = answer.json()["model"]["version"]
    return version


def refused(server: Server) -> dict[str, str]:
    """Codes by version."""
    found = server.client.get("/models").json()["refused"]
    return {one["version"]: one["code"] for one in found}


def test_the_newest_version_is_fetched_and_scores(served: Server, bucket: Bucket) -> None:
    assert scored_by(served) == version_at(1)
    kept = {path.name for path in (bucket.folder / "cache").rglob("2026-*")}
    assert kept == {version_at(1)}


def test_a_pin_that_is_written_over_is_followed_each_time(served: Server, bucket: Bucket) -> None:
    for version in (version_at(0), version_at(1), version_at(0) + "\n", version_at(1)):
        bucket.pin(version)
        until(lambda version=version: scored_by(served) == version.strip())
    bucket.files.rm(f"{bucket.base}/numbers/ACTIVE")


def test_a_version_that_is_published_later_is_served(served: Server, bucket: Bucket) -> None:
    version = bucket.publish(2)
    until(lambda: scored_by(served) == version)


@pytest.mark.parametrize(
    ("i", "signed", "harm", "code"),
    [
        (3, False, None, "bundle_unsigned"),
        (4, True, lambda bundle: (bundle / "weights.safetensors").write_bytes(b"x"), "bundle_corrupt"),
    ],
)
def test_a_bad_version_is_refused_and_the_one_before_it_serves(
    served: Server, bucket: Bucket, i: int, signed: bool, harm: Callable[[Path], object] | None, code: str
) -> None:
    version = bucket.publish(i, signed=signed, harm=harm)
    until(lambda: refused(served).get(version) == code)
    assert scored_by(served) == version_at(2)


def test_a_version_that_is_not_whole_yet_is_tried_until_it_is(served: Server, bucket: Bucket) -> None:
    whole = bucket.folder / "weights.safetensors"
    version = bucket.publish(5, harm=lambda bundle: (bundle / whole.name).rename(whole))
    until(lambda: refused(served).get(version) == "store_unreadable")
    assert scored_by(served) == version_at(2)
    bucket.files.pipe(f"{bucket.base}/numbers/{version}/{whole.name}", whole.read_bytes())
    until(lambda: scored_by(served) == version)


def test_the_server_writes_nothing(served: Server, bucket: Bucket) -> None:
    answer = served.client.post("/models/numbers/activate", json={"version": version_at(0)})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "store_read_only")


def test_a_bucket_that_is_gone_changes_nothing_that_is_served(served: Server, bucket: Bucket) -> None:
    bucket.process.kill()
    bucket.process.wait()
    if bucket.scheme == "s3":
        until(lambda: served.client.get("/models").json()["store_problems"])
        assert served.metric("elbound_store_unreadable") == 1
    assert scored_by(served) == version_at(5)
    assert httpx.get(f"{served.url}/readyz").status_code == 200
    if bucket.scheme != "s3":  # their clients try again for a minute or more, and a server that stops waits for them
        served.process.kill()
