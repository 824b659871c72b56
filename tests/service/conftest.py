"""A real server for real requests: `elbound serve` as a process, on a port of its own."""

import hashlib
import os
import re
import signal
import ssl
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import httpx
import orjson
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.forked import Forked

START_TIMEOUT_S = 60
LOOPBACK = x509.IPAddress(IPv4Address("127.0.0.1"))


CALLER = ("score", "read")


def write_keys(path: Path, **keys: dict[str, object]) -> Path:
    """A key file in which each key is its own name, replaced as a whole; a caller's scopes unless told otherwise."""
    entries = [
        {"name": key, "sha256": hashlib.sha256(key.encode()).hexdigest(), "scopes": CALLER, **facts}
        for key, facts in keys.items()
    ]
    beside = path.with_suffix(".new")
    beside.write_bytes(orjson.dumps({"keys": entries}))
    beside.replace(path)
    return path


class Server:
    """A running `elbound serve`, its log and a client for it."""

    def __init__(self, bundles: list[Path], log: Path, environ: dict[str, str]) -> None:
        self.log = log
        own = environ.get("ELBOUND_TLS_CERT_FILE")
        self.verify = ssl.create_default_context(cafile=own) if own else True
        plain = {name: value for name, value in os.environ.items() if not name.startswith("ELBOUND_")}
        log.touch()
        self.process = Forked(
            "serve", *bundles, "--port", 0, stdout=log, env={**plain, "OMP_NUM_THREADS": "1", **environ}
        )
        self.url = self._wait()
        self.client = httpx.Client(base_url=self.url, timeout=60, verify=self.verify)

    def _wait(self) -> str:
        until = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < until:
            found = re.search(r"listening on (https?://[^\s\"]+)", self.log.read_text())
            if found:
                try:
                    if httpx.get(f"{found[1]}/readyz", verify=self.verify).status_code == 200:
                        return found[1]
                except httpx.TransportError:
                    pass
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise AssertionError(f"no server: {self.log.read_text()}")

    def score(self, body: bytes, media_type: str, **query: object) -> httpx.Response:
        return self.client.post("/score", content=body, headers={"content-type": media_type}, params=query)  # type: ignore[arg-type]

    def metric(self, line: str) -> float:
        """The value of a series by its whole name with labels; 0 where it is not there."""
        text = self.client.get("/metrics").text
        found = re.search(rf"^{re.escape(line)} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    def stop(self) -> int:
        self.client.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@pytest.fixture(scope="session")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write a file of keys, by default to a place of its own; see `write_keys`."""

    def write(path: Path | None = None, **keys: dict[str, object]) -> Path:
        return write_keys(path or tmp_path_factory.mktemp("keys") / "keys.json", **keys)

    return write


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Files of a certificate for localhost and of its key."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost"), LOOPBACK]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for file, data in (("cert.pem", made.public_bytes(Encoding.PEM)), ("key.pem", private)):
        (folder / file).write_bytes(data)
    return folder / "cert.pem", folder / "key.pem"


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Start a server for bundles with `ELBOUND_*` settings; all are stopped at the end."""
    servers: list[Server] = []

    def run(*bundles: Path, **settings: object) -> Server:
        environ = {f"ELBOUND_{name.upper()}": str(value) for name, value in settings.items()}
        server = Server(list(bundles), tmp_path_factory.mktemp("server") / "log", environ)
        servers.append(server)
        return server

    yield run
    for server in servers:
        server.stop()


@pytest.fixture(scope="session")
def numeric_bundle(numeric_scorer, tmp_path_factory):  # type: ignore[no-untyped-def]
    path = tmp_path_factory.mktemp("bundles") / "numbers"
    numeric_scorer.save(path)
    return path


@pytest.fixture(scope="session")
def server(start: Callable[..., Server], table_bundle: Path, image_bundle: Path, numeric_bundle: Path) -> Server:
    """All three kinds of bundle, small limits."""
    return start(
        table_bundle, image_bundle, numeric_bundle,
        max_body_bytes=2_000_000, max_expanded_bytes=4_000_000, max_rows=5_000, max_columns=50, max_files=20,
        max_pixels=1_000_000,
    )  # fmt: skip
