"""Who vouches for a bundle: Ed25519 signatures over its manifest, which holds name, version and every file's hash.

The signature is a file of its own beside the manifest, specified in `docs/bundle.md`; keys are PEM files as
openssl writes them.
"""

import base64
import binascii
import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from elbound.bundle.regular_file import open_regular
from elbound.errors import BundleUntrusted, ConfigError

if TYPE_CHECKING:  # 35 ms that only signed bundles cost
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

SIGNATURE = "manifest.json.sig"
ALGORITHM = "ed25519"
CONTEXT = b"elbound bundle manifest, version 1\0"
"""Stands before the manifest in what is signed, so that no signature made for another use of a key fits."""
MAX_SIGNATURE_BYTES = 4_096
MAX_KEY_FILE_BYTES = 1 << 20
PUBLIC_KEY = re.compile(rb"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", re.DOTALL)


@dataclass(frozen=True)
class TrustedKeys:
    """Public keys by their id, and the file that they came from."""

    keys: "Mapping[str, Ed25519PublicKey]"
    file: Path

    @classmethod
    def read(cls, file: Path) -> "TrustedKeys":
        """The public keys of a PEM file, one or several. Raises ConfigError that names the file."""
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        data = _read_key_file(file)
        if b"PRIVATE KEY" in data:
            raise ConfigError(f"{file} holds a private key; trusted keys are public ones", where=str(file))
        keys = {}
        for number, block in enumerate(PUBLIC_KEY.findall(data), start=1):
            try:
                key = load_pem_public_key(block)
            except (ValueError, UnsupportedAlgorithm) as error:
                raise ConfigError(f"{file}: key {number} cannot be read: {error}", where=str(file)) from error
            if not isinstance(key, Ed25519PublicKey):
                raise ConfigError(f"{file}: key {number} is no Ed25519 key", where=str(file))
            keys[key_id(key)] = key
        if not keys:
            raise ConfigError(f"{file} holds no public key in PEM", where=str(file))
        return cls(keys, file)

    def check(self, manifest: bytes, signature: bytes, *, where: str) -> None:
        """Raise BundleUntrusted unless the content of a signature file is a trusted key's for these bytes."""
        from cryptography.exceptions import InvalidSignature

        signer, raw = _parse(signature, where)
        key = self.keys.get(signer)
        if key is None:
            raise BundleUntrusted(
                f"{where} is signed by the key {signer[:16]}, which is not among the {len(self.keys)} of {self.file}",
                code="signing_key_unknown",
                where=where,
            )
        try:
            key.verify(raw, CONTEXT + manifest)
        except InvalidSignature as error:
            raise BundleUntrusted(
                f"{where} is not the manifest that the key {signer[:16]} signed: manifest or signature was altered",
                code="signature_invalid",
                where=where,
            ) from error


@dataclass(frozen=True)
class Trust:
    """What a bundle must prove before anything of it is used; what is None is not asked.

    `keys`: one of them signed it. `name`, `version`: its manifest says the same, so that no good bundle can
    stand in another one's place.
    """

    keys: TrustedKeys | None = None
    name: str | None = None
    version: str | None = None

    @classmethod
    def of(cls, trusted_keys: Path | None) -> "Trust":
        """A signature by one of the keys of that file, or nothing where none is named. Raises ConfigError."""
        return cls(None if trusted_keys is None else TrustedKeys.read(trusted_keys))

    def check_signature(self, folder: Path, manifest: bytes) -> None:
        """Raise BundleUntrusted unless `manifest`, the bytes of the folder's manifest, is signed as asked."""
        if self.keys is None:
            return
        file = folder / SIGNATURE
        try:
            with open_regular(folder, SIGNATURE) as stream:
                signature = stream.read(MAX_SIGNATURE_BYTES + 1)
        except FileNotFoundError as error:
            raise BundleUntrusted(
                f"{folder} is not signed: it has no {SIGNATURE}; `elbound sign BUNDLE --key KEY` writes it",
                code="bundle_unsigned",
                where=str(folder),
            ) from error
        except OSError as error:
            raise BundleUntrusted(f"{file} cannot be read: {error.strerror or error}", where=str(file)) from error
        self.keys.check(manifest, signature, where=str(folder))

    def check_place(self, folder: Path, *, name: str, version: str) -> None:
        """Raise BundleUntrusted where the manifest's `name` or `version` is not the one that was asked for."""
        for what, asked, found in (("name", self.name, name), ("version", self.version, version)):
            if asked is not None and found != asked:
                raise BundleUntrusted(
                    f"{folder} should hold {what} {asked!r}, and its manifest says {found!r}",
                    code="bundle_misplaced",
                    where=str(folder),
                )


def key_id(key: "Ed25519PublicKey") -> str:
    """SHA-256 in hex of the 32 bytes of a public key."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()


def signature_of(manifest: bytes, key: "Ed25519PrivateKey") -> bytes:
    """The content of the signature file for the bytes of a manifest."""
    document = {
        "algorithm": ALGORITHM,
        "key": key_id(key.public_key()),
        "signature": base64.b64encode(key.sign(CONTEXT + manifest)).decode(),
    }
    return json.dumps(document).encode() + b"\n"


def read_signing_key(file: Path) -> "Ed25519PrivateKey":
    """The private key of a PEM file without a password. Raises ConfigError that names the file."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(_read_key_file(file), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{file} is no private key in PEM without a password: {error}", where=str(file)) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{file} is no Ed25519 key; `elbound signing-key FILE` makes one", where=str(file))
    return key


def write_signing_key(file: Path) -> str:
    """Make a key pair: `file`, for its owner alone, and `file` + `.pub`; returns the key's id.

    Raises ConfigError where one of them is there already or cannot be written.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    parts = ((file, private, 0o600), (file.with_name(f"{file.name}.pub"), public, 0o644))
    for path, _, _ in parts:
        if path.exists():
            raise ConfigError(f"{path} exists already; keys are not replaced", where=str(path))
    for path, data, mode in parts:
        try:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
                stream.write(data)
        except OSError as error:
            raise ConfigError(f"{path} cannot be written: {error.strerror or error}", where=str(path)) from error
    return key_id(key.public_key())


def _read_key_file(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(MAX_KEY_FILE_BYTES)
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror or error}", where=str(file)) from error


def _parse(signature: bytes, where: str) -> tuple[str, bytes]:
    """The signer's key id and the raw signature."""
    try:
        document = json.loads(signature)
        if document["algorithm"] != ALGORITHM:
            raise ValueError(f"the algorithm is not {ALGORITHM}")
        signer, raw = document["key"], base64.b64decode(document["signature"], validate=True)
        if not isinstance(signer, str):
            raise TypeError("the key is not text")
    except (ValueError, TypeError, KeyError, RecursionError, binascii.Error) as error:
        raise BundleUntrusted(
            f"{where}: {SIGNATURE} is not readable as a signature", code="signature_invalid", where=where
        ) from error
    return signer, raw
