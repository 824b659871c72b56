"""What is fetched is in the cache whole or not at all, and is what the operator asked for or a trusted key signed."""

import asyncio
import json
import os
import shutil
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from typer.testing import CliRunner

from elbound.bundle import check_bundle, sign_bundle
from elbound.bundle.archive import pack_bundle
from elbound.bundle.signature import TrustedKeys, key_id
from elbound.cli import build_app
from elbound.errors import (
    BundleCorrupt,
    BundleError,
    BundleUnavailable,
    BundleUntrusted,
    ConfigError,
    ElboundError,
)
from elbound.scorer import Scorer
from service.app import create_app
from service.models.remote import Cache, RemoteStore, local_folder, pinned
from service.settings import Settings
from tests.service.stores import as_version, version_at
from tests.service.test_store import serving

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
TRUSTED = TrustedKeys({key_id(KEY.public_key()): KEY.public_key()}, Path("trusted.pem"))


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", max_bundle_bytes=10 << 20, download_timeout_s=20)


def kept(cache: Cache) -> list[str]:
    """Every file of the cache, half ones among them."""
    return sorted(str(file.relative_to(cache.folder)) for file in cache.folder.rglob("*") if file.is_file())


class Web:
    """An https server of answers by path: what to send after the request, byte by byte."""

    def __init__(self, certificate: tuple[Path, Path]) -> None:
        self.answers: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {}
        self.asked: list[str] = []
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                web.asked.append(self.path)
                web.answers[self.path.partition("?")[0]](self)
                self.close_connection = True

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://localhost:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def file(self, path: str, data: bytes, *, announced: int | None = None, status: int = 200, **headers: str) -> str:
        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(status)
            handler.send_header("Content-Length", str(len(data) if announced is None else announced))
            for name, value in headers.items():
                handler.send_header(name, value)
            handler.end_headers()
            handler.wfile.write(data)

        self.answers[path] = answer
        return self.url + path


@pytest.fixture(scope="module")
def web(certificate: tuple[Path, Path]) -> Iterator[Web]:
    running = Web(certificate)
    yield running
    running.server.shutdown()
    running.server.server_close()


@pytest.fixture(autouse=True)
def trust_the_certificate(certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def packed(table_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, str]:
    file = tmp_path_factory.mktemp("packed") / "rows.zip"
    sha256 = pack_bundle(table_bundle, file)
    return file.read_bytes(), sha256


class TestPinned:
    def test_a_bundle_is_fetched_once_and_served(self, web: Web, packed: tuple[bytes, str], tmp_path: Path) -> None:
        data, sha256 = packed
        address = web.file("/rows.zip", data) + f"?token=secret@sha256:{sha256}"
        settings = Settings(cache_dir=str(tmp_path), device="cpu")
        web.asked.clear()
        served = create_app(settings, [address]).state.elbound.registry.models["rows"]
        assert served.path == local_folder(address, settings)
        assert web.asked == ["/rows.zip?token=secret"]
        shutil.copyfile(served.path / "golden.safetensors", served.path / "weights.safetensors")
        check_bundle(local_folder(address, settings))
        assert len(web.asked) == 2

    def test_another_hash_is_refused_without_naming_the_token(
        self, web: Web, packed: tuple[bytes, str], cache: Cache
    ) -> None:
        url = web.file("/rows.zip", packed[0])
        with pytest.raises(BundleCorrupt, match="is not what was asked for") as caught:
            pinned.fetch_pinned(f"{url}?token=secret@sha256:{'0' * 64}", cache)
        assert packed[1] in caught.value.message
        assert "secret" not in caught.value.message
        assert kept(cache) == []

    @pytest.mark.parametrize(
        ("make", "kind", "message"),
        [
            (lambda web, data: web.file("/x", data[:-100], announced=len(data)), BundleUnavailable, "ended after"),
            (lambda web, data: web.file("/x", data, announced=len(data) - 100), BundleCorrupt, "not what was asked"),
            (lambda web, _: web.file("/x", b"", announced=99 << 30), BundleCorrupt, "at most 10,485,760"),
            (lambda web, _: web.file("/x", b"no", status=404), BundleUnavailable, "answered with 404"),
            (lambda web, _: web.file("/x", b"", status=302, Location="http://h/x"), BundleUnavailable, "not https"),
            (lambda web, _: web.file("/x", b"", status=302, Location="file:///x"), BundleUnavailable, "not allowed"),
            (lambda *_: "https://localhost:1/x", BundleUnavailable, "could not be fetched"),
            (lambda web, _: web.url.replace("localhost", "127.1") + "/x", BundleUnavailable, "certificate"),
        ],
    )
    def test_a_bad_server_is_told_and_nothing_stays(
        self,
        web: Web,
        packed: tuple[bytes, str],
        cache: Cache,
        make: Callable[[Web, bytes], str],
        kind: type[BundleError],
        message: str,
    ) -> None:
        data, sha256 = packed
        with pytest.raises(kind, match=message):
            pinned.fetch_pinned(f"{make(web, data)}@sha256:{sha256}", cache)
        assert kept(cache) == []

    def test_a_body_without_an_end_stops_at_the_limit(
        self, web: Web, packed: tuple[bytes, str], tmp_path: Path
    ) -> None:
        def endless(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(200)
            handler.end_headers()
            try:
                while True:
                    handler.wfile.write(bytes(1 << 16))
            except OSError:
                pass

        web.answers["/endless"] = endless
        cache = Cache(tmp_path, max_bundle_bytes=1 << 20, download_timeout_s=20)
        with pytest.raises(BundleCorrupt, match="more than 1,048,576 bytes"):
            pinned.fetch_pinned(f"{web.url}/endless@sha256:{packed[1]}", cache)
        assert kept(cache) == []

    @pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\nX-A: ", b"HTTP/1.1 200 OK\r\n\r\n"])
    def test_a_slow_server_is_given_up_wherever_it_hangs(
        self, web: Web, packed: tuple[bytes, str], tmp_path: Path, sent: bytes
    ) -> None:
        over = threading.Event()

        def drip(handler: BaseHTTPRequestHandler) -> None:
            try:
                handler.wfile.write(sent)
                while not over.wait(0.02):
                    handler.wfile.write(b"x")
            except OSError:
                pass

        web.answers["/slow"] = drip
        cache = Cache(tmp_path, max_bundle_bytes=1 << 20, download_timeout_s=0.3)
        began = time.monotonic()
        with pytest.raises(BundleUnavailable, match="took too long") as caught:
            pinned.fetch_pinned(f"{web.url}/slow@sha256:{packed[1]}", cache)
        over.set()
        assert caught.value.code == "download_timeout"
        assert time.monotonic() - began < 2
        assert kept(cache) == []

    @pytest.mark.parametrize(
        "address",
        [
            "http://localhost/rows.zip@sha256:" + "0" * 64,
            "https://localhost/rows.zip",
            "https://localhost/rows.zip@sha256:" + "0" * 63,
            "https://localhost/rows.zip@md5:" + "0" * 64,
            "ftp://localhost/rows.zip@sha256:" + "0" * 64,
            "file:///etc/passwd",
            "s3://bucket/rows",
        ],
    )
    def test_other_addresses_are_refused_before_anything_is_asked(self, cache: Cache, address: str) -> None:
        with pytest.raises(ConfigError, match=r"give a folder, or https://HOST/FILE\.zip@sha256:HEX"):
            pinned.fetch_pinned(address, cache)

    def test_a_required_signature_is_asked_of_a_pinned_bundle_too(
        self, web: Web, packed: tuple[bytes, str], tmp_path: Path, trusted_file: Path
    ) -> None:
        address = web.file("/rows.zip", packed[0]) + f"@sha256:{packed[1]}"
        settings = Settings(
            cache_dir=str(tmp_path), device="cpu", require_signature=True, trusted_keys_file=str(trusted_file)
        )
        with pytest.raises(BundleUntrusted, match="is not signed"):
            create_app(settings, [address])


@pytest.fixture(scope="module")
def trusted_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    file = tmp_path_factory.mktemp("keys") / "trusted.pem"
    file.write_bytes(KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return file


@pytest.fixture
def signed(table_bundle: Path, tmp_path: Path) -> Path:
    path = Path(shutil.copytree(table_bundle, tmp_path / "signed"))
    sign_bundle(path, KEY)
    return path


VERSION = "2026-11-21T08-00-00Z-3f9c"


class Bucket:
    """`memory://` as a bucket, with what the tests do to it."""

    def __init__(self) -> None:
        self.files = fsspec.filesystem("memory")
        self.base = f"/bucket-{os.urandom(4).hex()}"

    def put(self, bundle: Path, name: str, version: str) -> str:
        where = f"{self.base}/{name}/{version}"
        for file in bundle.rglob("*"):
            if file.is_file():
                self.files.pipe(f"{where}/{file.relative_to(bundle)}", file.read_bytes())
        return where

    def store(self, cache: Cache) -> RemoteStore:
        return RemoteStore(self.files, self.base, cache, TRUSTED)


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    made = Bucket()
    yield made
    if made.files.exists(made.base):
        made.files.rm(made.base, recursive=True)


class TestStore:
    def test_names_versions_pin_and_folder(self, bucket: Bucket, signed: Path, cache: Cache) -> None:
        version = json.loads((signed / "manifest.json").read_text())["version"]
        bucket.put(signed, "rows", version)
        bucket.put(signed, "rows", "2026-01-01T00-00-00Z-0000")
        bucket.files.pipe(f"{bucket.base}/rows/.hidden/x", b"")
        bucket.files.pipe(f"{bucket.base}/readme.txt", b"")
        store = bucket.store(cache)
        assert store.names() == ["rows"]
        assert store.versions("rows") == ["2026-01-01T00-00-00Z-0000", version]
        assert store.pin("rows") is None
        bucket.files.pipe(f"{bucket.base}/rows/ACTIVE", f"{version}\n".encode())
        assert store.pin("rows") == version
        folder = store.folder("rows", version)
        assert check_bundle(folder).version == version
        assert {file.name for file in folder.iterdir()} == {file.name for file in signed.iterdir()}

    def test_what_is_cached_is_not_asked_for_again_until_it_rots(
        self, bucket: Bucket, signed: Path, cache: Cache
    ) -> None:
        version = json.loads((signed / "manifest.json").read_text())["version"]
        where = bucket.put(signed, "rows", version)
        folder = bucket.store(cache).folder("rows", version)
        bucket.files.rm(where, recursive=True)
        assert bucket.store(cache).folder("rows", version) == folder
        (folder / "weights.safetensors").write_bytes(b"rot")
        with pytest.raises(BundleUnavailable, match="is not there"):
            bucket.store(cache).folder("rows", version)
        bucket.put(signed, "rows", version)
        check_bundle(bucket.store(cache).folder("rows", version))

    @pytest.mark.parametrize(
        ("harm", "kind", "message"),
        [
            (lambda b, w: b.files.rm(f"{w}/manifest.json.sig"), BundleUntrusted, "is not signed"),
            (lambda b, w: b.files.rm(f"{w}/manifest.json"), BundleUnavailable, "is not there"),
            (lambda b, w: b.files.rm(f"{w}/weights.safetensors"), BundleUnavailable, "weights.* is not there"),
            (lambda b, w: b.files.pipe(f"{w}/golden.safetensors", b"short"), BundleCorrupt, "golden.* has 5 bytes"),
            (lambda b, w: b.files.pipe(f"{w}/golden.safetensors", bytes(1 << 20)), BundleCorrupt, "has more than"),
            (lambda b, w: b.files.pipe(f"{w}/manifest.json.sig", bytes(9_000)), BundleCorrupt, "has more than 4,096"),
            (lambda b, w: b.files.pipe(f"{w}/manifest.json", b"{}"), BundleUntrusted, "was altered"),
        ],
    )  # fmt: skip
    def test_a_bad_version_is_refused_and_nothing_of_it_stays(
        self,
        bucket: Bucket,
        signed: Path,
        cache: Cache,
        harm: Callable[[Bucket, str], None],
        kind: type[BundleError],
        message: str,
    ) -> None:
        version = json.loads((signed / "manifest.json").read_text())["version"]
        harm(bucket, bucket.put(signed, "rows", version))
        with pytest.raises(kind, match=message) as caught:
            bucket.store(cache).folder("rows", version)
        assert f"rows/{version}" in caught.value.message
        assert str(cache.folder) not in caught.value.message
        assert kept(cache) == []

    def test_a_bundle_in_the_place_of_another_is_refused(self, bucket: Bucket, signed: Path, cache: Cache) -> None:
        version = json.loads((signed / "manifest.json").read_text())["version"]
        bucket.put(signed, "rows", VERSION)
        bucket.put(signed, "gadgets", version)
        for name, held in (("rows", VERSION), ("gadgets", version)):
            with pytest.raises(BundleUntrusted, match="should hold") as caught:
                bucket.store(cache).folder(name, held)
            assert caught.value.code == "bundle_misplaced"
        assert kept(cache) == []

    def test_a_bundle_larger_than_may_be_is_refused_before_its_files(
        self, bucket: Bucket, signed: Path, tmp_path: Path
    ) -> None:
        version = json.loads((signed / "manifest.json").read_text())["version"]
        bucket.put(signed, "rows", version)
        cache = Cache(tmp_path / "small", max_bundle_bytes=1_000, download_timeout_s=20)
        with pytest.raises(BundleCorrupt, match="at most 1,000 are taken"):
            bucket.store(cache).folder("rows", version)
        assert kept(cache) == []

    def test_a_store_that_vanishes_is_told_each_time(self, bucket: Bucket, cache: Cache) -> None:
        store = bucket.store(cache)
        for ask in (store.names, lambda: store.versions("rows")):
            with pytest.raises(BundleUnavailable, match="is not there"):
                ask()

    @pytest.mark.parametrize("name", ["..", "a/b", "", "a\0b", "x" * 10_000, "a\n"])
    def test_names_that_are_none_never_reach_the_store(self, bucket: Bucket, cache: Cache, name: str) -> None:
        store = bucket.store(cache)
        asks: list[Callable[[], object]] = [
            lambda: store.versions(name), lambda: store.pin(name), lambda: store.folder(name, VERSION),
            lambda: store.folder("rows", name),
        ]  # fmt: skip
        for ask in asks:
            with pytest.raises(BundleUnavailable, match="is no name") as caught:
                ask()
            assert len(caught.value.message) < 200

    @pytest.mark.parametrize("content", [b"", b"../evil", b"\xff" * 50, b"a" * 1_000])
    def test_a_pin_that_names_nothing_is_refused(self, bucket: Bucket, cache: Cache, content: bytes) -> None:
        bucket.files.pipe(f"{bucket.base}/rows/ACTIVE", content)
        with pytest.raises(BundleCorrupt, match="does not hold the name of a version"):
            bucket.store(cache).pin("rows")

    def test_only_the_latest_versions_stay_in_the_cache(self, bucket: Bucket, signed: Path, cache: Cache) -> None:
        store = bucket.store(cache)
        version = json.loads((signed / "manifest.json").read_text())["version"]
        bucket.put(signed, "rows", version)
        folder = store.folder("rows", version)
        for number in range(5):
            shutil.copytree(folder, folder.parent / f"v{number}")
            os.utime(folder.parent / f"v{number}", (number, number))
        assert store.folder("rows", version) == folder
        assert {one.name for one in folder.parent.iterdir()} == {version, "v3", "v4"}

    def test_without_trusted_keys_no_remote_store_is_opened(self, cache: Cache) -> None:
        with pytest.raises(ConfigError, match="--require-signature --trusted-keys FILE"):
            RemoteStore.open("s3://bucket/models", cache, None)

    @pytest.mark.parametrize(
        "url", ["memory://x", "file:///etc", "http://host/x", "simplecache::s3://b/x", "s3://b::file:///etc"]
    )
    def test_other_stores_are_refused(self, cache: Cache, url: str) -> None:
        with pytest.raises(ConfigError, match="is no store"):
            RemoteStore.open(url, cache, TRUSTED)


class TestCache:
    def test_a_folder_that_others_may_write_is_refused(self, cache: Cache) -> None:
        cache.folder.mkdir(parents=True)
        cache.folder.chmod(0o777)
        with pytest.raises(ConfigError, match="writable by nobody else"):
            cache.get("a/b", "here", check=lambda _: None, fetch=lambda *_: None)

    def test_a_folder_that_cannot_be_made_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        cache = Cache(tmp_path / "file", max_bundle_bytes=1, download_timeout_s=1)
        with pytest.raises(ConfigError, match="cache_dir"):
            cache.get("a/b", "here", check=lambda _: None, fetch=lambda *_: None)

    def test_a_full_disk_leaves_nothing(self, cache: Cache) -> None:
        def full(folder: Path, _: object) -> None:
            (folder / "half").write_bytes(b"x")
            raise OSError(28, "No space left on device")

        with pytest.raises(BundleUnavailable, match="No space left on device"):
            cache.get("a/b", "here", check=lambda _: None, fetch=full)
        assert kept(cache) == []

    def test_what_a_killed_process_left_half_is_dropped(self, cache: Cache) -> None:
        cache.get("a/b", "here", check=lambda _: None, fetch=lambda folder, _: (folder / "x").touch())
        old, young = (cache.folder / "a" / f".{name}.partial" for name in ("old", "young"))
        old.mkdir()
        young.mkdir()
        os.utime(old, (0, 0))
        cache.get("a/b", "here", check=lambda _: None, fetch=lambda *_: None)
        assert (old.exists(), young.exists()) == (False, True)

    def test_who_comes_second_takes_what_the_first_put_there(self, cache: Cache) -> None:
        def meanwhile(folder: Path, _: object) -> None:
            (folder / "x").write_text("second")
            (cache.folder / "a" / "b").mkdir()
            (cache.folder / "a" / "b" / "x").write_text("first")

        assert (cache.get("a/b", "here", check=lambda _: None, fetch=meanwhile) / "x").read_text() == "first"


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        (Settings(require_signature=True), "trusted_keys_file"),
        (Settings(trusted_keys_file="trusted.pem"), "require_signature"),
        (Settings(require_signature=True, trusted_keys_file="/nowhere"), "/nowhere"),
    ],
)
def test_half_a_demand_for_signatures_stops_the_start(settings: Settings, where: str, table_bundle: Path) -> None:
    with pytest.raises(ElboundError) as caught:
        create_app(settings, [table_bundle])
    assert caught.value.where == where


def test_a_server_that_requires_signatures_serves_what_is_signed(
    signed: Path, table_bundle: Path, trusted_file: Path
) -> None:
    settings = Settings(device="cpu", require_signature=True, trusted_keys_file=str(trusted_file))
    assert "rows" in create_app(settings, [signed]).state.elbound.registry.models
    with pytest.raises(BundleUntrusted, match="is not signed"):
        create_app(settings, [table_bundle])
    sign_bundle(signed, OTHER)
    with pytest.raises(BundleUntrusted, match="not among the 1"):
        create_app(settings, [signed])


@pytest.mark.parametrize(("word", "expected"), [("1", True), ("true", True), ("YES", True), ("0", False), ("", False)])
def test_a_switch_is_read_from_the_environment(word: str, expected: bool) -> None:
    assert Settings.load({"ELBOUND_REQUIRE_SIGNATURE": word}, {}).require_signature is expected
    with pytest.raises(ConfigError, match="require_signature must be one of 1, true"):
        Settings.load({"ELBOUND_REQUIRE_SIGNATURE": f"{word}x"}, {})


def test_the_flags_reach_the_start(table_bundle: Path, tmp_path: Path) -> None:
    def refused(*flags: str) -> ConfigError:
        error = CliRunner().invoke(build_app(), ["serve", str(table_bundle), *flags]).exception
        assert isinstance(error, ConfigError), error
        return error

    assert refused("--require-signature").where == "trusted_keys_file"
    assert refused("--require-signature", "--trusted-keys", str(tmp_path / "none.pem")).where == str(
        tmp_path / "none.pem"
    )
    assert refused("--tls-cert", str(tmp_path / "none.pem")).where == "tls_key_file"


class TestServedFromABucket:
    def test_the_newest_signed_version_is_served_and_the_pin_followed(
        self, bucket: Bucket, table_scorer: Scorer, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        public = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (tmp_path / "trusted.pem").write_bytes(public)
        monkeypatch.setattr(RemoteStore, "open", lambda url, cache, keys: bucket.store(cache))  # noqa: ARG005
        asked = {"require_signature": True, "trusted_keys_file": str(tmp_path / "trusted.pem")}

        def publish(i: int, *, signature: bool = True) -> str:
            version = version_at(i)
            as_version(table_scorer, version, name="rows").save(tmp_path / version)
            if signature:
                sign_bundle(tmp_path / version, KEY)
            bucket.put(tmp_path / version, "rows", version)
            return version

        async def run() -> None:
            old, new = publish(0), publish(1)
            settings = {"models": "s3://bucket/models", "cache_dir": str(cache.folder), **asked}
            async with serving(tmp_path, **settings) as (client, state):

                async def served() -> str:
                    assert state.store is not None
                    await state.store.look()
                    version: str = (await client.get("/models/rows")).json()["version"]
                    return version

                assert await served() == new
                publish(2, signature=False)
                assert await served() == new
                (refused,) = (await client.get("/models")).json()["refused"]
                assert (refused["version"], refused["code"]) == (version_at(2), "bundle_unsigned")
                bucket.files.pipe(f"{bucket.base}/rows/ACTIVE", old.encode())
                assert await served() == old
                answer = await client.post("/models/rows/activate", json={"version": new})
                assert (answer.status_code, answer.json()["error"]["code"]) == (409, "store_read_only")
                bucket.files.rm(bucket.base, recursive=True)
                assert await served() == old
                assert (await client.get("/models")).json()["store_problems"]

        asyncio.run(run())
