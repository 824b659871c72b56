"""TLS: the certificate of the settings, checked before anything listens."""

import ssl
from collections.abc import Callable
from pathlib import Path

from elbound.errors import ConfigError
from service.settings import Settings


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """TLS 1.2 and newer with the certificate of the settings; None where there is none.

    Raises ConfigError that names the file.
    """
    if not settings.tls_cert_file and not settings.tls_key_file:
        return None
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    for name, other in (("tls_cert_file", "tls_key_file"), ("tls_key_file", "tls_cert_file")):
        if not getattr(settings, name):
            raise ConfigError(f"{other} is set and {name} is not: TLS needs both", where=name)
    _readable("tls_cert_file", settings.tls_cert_file, x509.load_pem_x509_certificates)
    _readable("tls_key_file", settings.tls_key_file, lambda data: load_pem_private_key(data, password=None))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(settings.tls_cert_file, settings.tls_key_file)
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(
            f"tls_key_file: {settings.tls_key_file} is not the key of the certificate in {settings.tls_cert_file}, "
            f"or one of them is of a kind that is not taken: {error}",
            where="tls_key_file",
        ) from error
    return context


def _readable(name: str, file: str, parse: Callable[[bytes], object]) -> None:
    try:
        parse(Path(file).read_bytes())
    except OSError as error:
        raise ConfigError(f"{name}: {file} cannot be read: {error.strerror or error}", where=name) from error
    except Exception as error:  # ValueError, TypeError for a password, and the library's own
        raise ConfigError(f"{name}: {file} is not readable as PEM without a password: {error}", where=name) from error
