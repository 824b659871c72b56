"""The server over TLS: what it answers and what it refuses."""

import socket
import ssl
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from elbound.errors import ConfigError
from service.http.tls import tls_context
from service.settings import Settings

ROWS = {"rows": [[0.1, 0.2, 1.0]]}


@pytest.fixture(scope="module")
def secure(start, numeric_bundle: Path, certificate: tuple[Path, Path]):  # type: ignore[no-untyped-def]
    return start(
        numeric_bundle, tls_cert_file=certificate[0], tls_key_file=certificate[1],
        max_body_bytes=10_000, drain_timeout_s=1,
    )  # fmt: skip


def test_scores_come_over_https_and_over_nothing_else(secure) -> None:
    assert secure.url.startswith("https://")
    for _ in range(3):  # on one connection
        assert secure.client.post("/score", json=ROWS).json()["summary"]["scored"] == 1
    with pytest.raises(httpx.TransportError):
        httpx.get(secure.url.replace("https", "http") + "/healthz")
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"{secure.url}/healthz")


def test_a_refused_body_is_told_while_it_is_still_sent(secure) -> None:
    """TLS has no half-close here: the length of the answer and `Connection: close` end it."""
    answer = secure.client.post("/score", content=bytes(3_000_000), headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
    assert secure.client.get("/healthz").status_code == 200


def test_an_upload_is_streamed_both_ways(secure) -> None:
    lines = b"a,b,c\n" + b"0.1,0.2,1.0\n" * 2_000
    headers = {"content-type": "text/csv", "accept": "application/x-ndjson"}
    answer = secure.client.post("/score", content=iter([lines]), headers=headers)
    assert answer.status_code == 200
    assert answer.text.count("\n") == 2_002


def address(secure) -> tuple[str, int]:
    url = httpx.URL(secure.url)
    assert url.port is not None
    return url.host, url.port


def test_old_protocols_are_refused(secure) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection(address(secure)) as plain, pytest.raises(ssl.SSLError):
        context.wrap_socket(plain)


def test_a_client_that_speaks_no_tls_harms_nobody(secure) -> None:
    for said in (b"GET /healthz HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + bytes(300), b""):
        with socket.create_connection(address(secure)) as plain:
            plain.sendall(said)
            plain.shutdown(socket.SHUT_WR)
            assert b"HTTP" not in plain.recv(100)
    assert secure.client.get("/healthz").status_code == 200


def write(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return str(path)


PKCS8 = (Encoding.PEM, PrivateFormat.PKCS8)
OTHER = ec.generate_private_key(ec.SECP256R1())


@pytest.mark.parametrize(
    ("cert", "key", "where", "message"),
    [
        (None, b"", "tls_cert_file", "TLS needs both"),
        (b"", None, "tls_key_file", "TLS needs both"),
        (b"nonsense", True, "tls_cert_file", "not readable as PEM"),
        (True, b"nonsense", "tls_key_file", "not readable as PEM"),
        (True, OTHER.private_bytes(*PKCS8, BestAvailableEncryption(b"password")), "tls_key_file", "without a password"),
        (True, OTHER.private_bytes(*PKCS8, NoEncryption()), "tls_key_file", "is not the key of the certificate"),
        ("/nowhere", True, "tls_cert_file", "/nowhere cannot be read"),
        (True, "/nowhere", "tls_key_file", "/nowhere cannot be read"),
    ],
)
def test_a_bad_file_is_named(
    certificate: tuple[Path, Path], tmp_path: Path,
    cert: bytes | str | bool | None, key: bytes | str | bool | None, where: str, message: str,
) -> None:  # fmt: skip
    def file(given: bytes | str | bool | None, good: Path) -> str:
        if isinstance(given, bytes):
            return write(tmp_path / good.name, given)
        return str(good) if given is True else str(given or "")

    settings = Settings(tls_cert_file=file(cert, certificate[0]), tls_key_file=file(key, certificate[1]))
    with pytest.raises(ConfigError, match=message) as caught:
        tls_context(settings)
    assert caught.value.where == where


def test_without_a_certificate_there_is_no_tls() -> None:
    assert tls_context(Settings()) is None
