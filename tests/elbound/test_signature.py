"""A signature is a trusted key's, of this very manifest, in the place that the manifest names."""

import base64
import hashlib
import json
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from elbound.bundle import check_bundle, load_bundle, sign_bundle
from elbound.bundle.manifest import document_digest
from elbound.bundle.signature import (
    SIGNATURE,
    Trust,
    TrustedKeys,
    key_id,
    read_signing_key,
    signature_of,
    write_signing_key,
)
from elbound.cli import build_app
from elbound.errors import BundleCorrupt, BundleUntrusted, ConfigError
from elbound.scorer import Scorer

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
TRUSTED = TrustedKeys({key_id(KEY.public_key()): KEY.public_key()}, Path("trusted.pem"))


@pytest.fixture
def signed(table_bundle: Path, tmp_path: Path) -> Path:
    path = Path(shutil.copytree(table_bundle, tmp_path / "signed"))
    sign_bundle(path, KEY)
    return path


def test_a_signed_bundle_loads_and_scores(signed: Path, table_scorer: Scorer) -> None:
    trust = Trust(TRUSTED, table_scorer.name, table_scorer.version)
    scorer = Scorer.from_bundle(signed, device="cpu", trust=trust)
    assert scorer.version == table_scorer.version
    assert check_bundle(signed, trust) == scorer.manifest


def test_a_signature_is_not_asked_for_unless_keys_are_given(table_bundle: Path, signed: Path) -> None:
    for path in (table_bundle, signed):
        assert load_bundle(path, Trust()).manifest == load_bundle(path).manifest


def rewrite(path: Path, **values: object) -> None:
    """Alter the manifest and make its own digest fit again, as whoever may write the folder can."""
    document = json.loads((path / "manifest.json").read_text()) | values
    document["digest"] = document_digest(document)
    (path / "manifest.json").write_text(json.dumps(document))


def grow(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\n")


def swap_signature(path: Path, **values: object) -> None:
    document = json.loads((path / SIGNATURE).read_text()) | values
    (path / SIGNATURE).write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("harm", "code"),
    [
        (lambda path: (path / SIGNATURE).unlink(), "bundle_unsigned"),
        (lambda path: rewrite(path, version="2030-01-01"), "signature_invalid"),
        (lambda path: grow(path / "manifest.json"), "signature_invalid"),
        (lambda path: sign_bundle(path, OTHER), "signing_key_unknown"),
        (lambda path: swap_signature(path, key=key_id(OTHER.public_key())), "signing_key_unknown"),
        (lambda path: swap_signature(path, signature="AAAA"), "signature_invalid"),
        (lambda path: swap_signature(path, signature="not base64!"), "signature_invalid"),
        (lambda path: swap_signature(path, algorithm="none"), "signature_invalid"),
        (lambda path: swap_signature(path, key=["x"]), "signature_invalid"),
        (lambda path: swap_signature(path, key="x" * 5_000), "signature_invalid"),
        (lambda path: (path / SIGNATURE).write_text("[]"), "signature_invalid"),
        (lambda path: (path / SIGNATURE).write_bytes(b"\xff" * 100), "signature_invalid"),
        (lambda path: (path / SIGNATURE).write_text("[" * 4_000), "signature_invalid"),
    ],
)  # fmt: skip
def test_what_nobody_trusted_signed_is_refused(signed: Path, harm: Callable[[Path], object], code: str) -> None:
    harm(signed)
    with pytest.raises(BundleUntrusted) as caught:
        load_bundle(signed, Trust(TRUSTED))
    assert caught.value.code == code
    assert str(signed) in caught.value.message


@pytest.mark.parametrize("name", ["weights.safetensors", "calibration.safetensors", "golden.safetensors"])
def test_a_changed_file_of_a_signed_bundle_is_refused(signed: Path, name: str) -> None:
    data = bytearray((signed / name).read_bytes())
    data[-1] ^= 1
    (signed / name).write_bytes(data)
    for load in (load_bundle, check_bundle):
        with pytest.raises(BundleCorrupt, match=name):
            load(signed, Trust(TRUSTED))
    with pytest.raises(BundleCorrupt, match=name):
        sign_bundle(signed, KEY)


@pytest.mark.parametrize(
    ("trust", "what"), [(Trust(TRUSTED, name="gadgets"), "name"), (Trust(TRUSTED, version="2020-01-01"), "version")]
)
def test_a_signed_bundle_under_another_name_or_version_is_refused(signed: Path, trust: Trust, what: str) -> None:
    with pytest.raises(BundleUntrusted, match=f"should hold {what}") as caught:
        load_bundle(signed, trust)
    assert caught.value.code == "bundle_misplaced"


@given(st.binary(max_size=300), st.integers(min_value=0), st.integers(0, 7))
def test_one_changed_bit_of_the_manifest_breaks_the_signature(manifest: bytes, place: int, bit: int) -> None:
    signature = signature_of(manifest, KEY)
    TRUSTED.check(manifest, signature, where="here")
    changed = bytearray(manifest or b"\0")
    changed[place % len(changed)] ^= 1 << bit
    with pytest.raises(BundleUntrusted):
        TRUSTED.check(bytes(changed), signature, where="here")


def test_a_signature_over_the_bare_manifest_is_none(signed: Path) -> None:
    """Else whoever gets the key to sign some text for another use could get a bundle signed."""
    manifest = (signed / "manifest.json").read_bytes()
    document = json.loads(signature_of(manifest, KEY))
    document["signature"] = base64.b64encode(KEY.sign(manifest)).decode()
    with pytest.raises(BundleUntrusted):
        TRUSTED.check(manifest, json.dumps(document).encode(), where="here")


def test_a_made_pair_of_keys_signs_and_is_trusted(tmp_path: Path) -> None:
    file = tmp_path / "release.key"
    made = write_signing_key(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    trusted = TrustedKeys.read(tmp_path / "release.key.pub")
    assert set(trusted.keys) == {made}
    trusted.check(b"manifest", signature_of(b"manifest", read_signing_key(file)), where="here")
    before = file.read_bytes()
    with pytest.raises(ConfigError, match=r"release\.key exists already"):
        write_signing_key(file)
    assert file.read_bytes() == before


def test_several_keys_are_trusted_and_notes_between_them_are_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "trusted.pem"
    blocks = [
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode() for key in (KEY, OTHER)
    ]
    file.write_text("# the team's\n" + "# the old one\n".join(blocks))
    trusted = TrustedKeys.read(file)
    for key in (KEY, OTHER):
        trusted.check(b"manifest", signature_of(b"manifest", key), where="here")


RSA = generate_private_key(65537, 2048)
PKCS8 = (Encoding.PEM, PrivateFormat.PKCS8)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "holds no public key"),
        (b"ed25519 AAAA", "holds no public key"),
        (KEY.private_bytes(*PKCS8, NoEncryption()), "private key"),
        (RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), "key 1 is no Ed25519 key"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "key 1 cannot be read"),
    ],
)
def test_a_file_of_trusted_keys_that_is_none_is_named(tmp_path: Path, data: bytes, message: str) -> None:
    file = tmp_path / "trusted.pem"
    file.write_bytes(data)
    with pytest.raises(ConfigError, match=message) as caught:
        TrustedKeys.read(file)
    assert caught.value.where == str(file)


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense",
        KEY.private_bytes(*PKCS8, BestAvailableEncryption(b"password")),
        RSA.private_bytes(*PKCS8, NoEncryption()),
        KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    ],
)
def test_a_signing_key_that_is_none_is_named(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "release.key"
    file.write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        read_signing_key(file)
    assert caught.value.where == str(file)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_signing_key(tmp_path / "nowhere")


def test_the_commands_make_keys_sign_check_and_pack(
    table_bundle: Path, normal_rows: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = shutil.copytree(table_bundle, tmp_path / "rows")

    monkeypatch.chdir(tmp_path)

    def elbound(*arguments: object) -> Result:
        return CliRunner().invoke(build_app(), [str(argument) for argument in arguments])

    assert elbound("signing-key", "release.key").exit_code == 0
    refused = elbound("inspect", bundle, "--trusted-keys", "release.key.pub")
    assert isinstance(refused.exception, BundleUntrusted)
    pq.write_table(normal_rows, "rows.parquet")
    scoring = ("score", bundle, "rows.parquet", "--out", "results.csv", "--trusted-keys", "release.key.pub")
    assert isinstance(elbound(*scoring).exception, BundleUntrusted)
    assert not Path("results.csv").exists()
    evaluating = ("evaluate", bundle, "--normal", "rows.parquet", "--trusted-keys", "release.key.pub")
    assert isinstance(elbound(*evaluating).exception, BundleUntrusted)
    assert "rows" in elbound("sign", bundle, "--key", "release.key").output
    assert elbound("inspect", bundle, "--trusted-keys", "release.key.pub").exit_code == 0
    assert elbound(*scoring).exit_code == elbound(*evaluating).exit_code == 0
    packed = elbound("pack", bundle, "--out", "rows.zip").output.strip()
    assert packed == f"rows.zip@sha256:{hashlib.sha256((tmp_path / 'rows.zip').read_bytes()).hexdigest()}"
