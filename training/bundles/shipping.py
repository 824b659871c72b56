"""The subcommands for a bundle on its way to its servers: who vouches for it, and one file of it."""

from pathlib import Path
from typing import Annotated

import typer

from training.options import Bundle


def signing_key(
    file: Annotated[Path, typer.Argument(help="The private key, for its owner alone; FILE.pub is the public one.")],
) -> None:
    """Make a pair of keys for `elbound sign` and `elbound serve --trusted-keys`."""
    from elbound.bundle.signature import write_signing_key

    typer.echo(f"key {write_signing_key(file)}: keep {file} secret; {file}.pub is what servers trust")


def sign(
    bundle: Bundle,
    key: Annotated[Path, typer.Option(help="The private Ed25519 key in PEM that `elbound signing-key` wrote.")],
) -> None:
    """Sign a bundle: check its hashes and write who vouches for it beside its manifest."""
    from elbound.bundle import sign_bundle
    from elbound.bundle.signature import key_id, read_signing_key

    private = read_signing_key(key)
    manifest = sign_bundle(bundle, private)
    typer.echo(f"{manifest.name} {manifest.version} signed by the key {key_id(private.public_key())}")


def pack(
    bundle: Bundle,
    out: Annotated[Path | None, typer.Option(help="The zip; NAME-VERSION.zip here by default.")] = None,
) -> None:
    """Pack a bundle into one file for `elbound serve https://.../FILE.zip@sha256:HEX`, and print that hash."""
    from elbound.bundle.archive import pack_bundle
    from elbound.bundle.files import read_manifest

    manifest = read_manifest(bundle)
    out = out or Path(f"{manifest.name}-{manifest.version}.zip")
    typer.echo(f"{out}@sha256:{pack_bundle(bundle, out)}")
