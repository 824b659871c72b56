"""What the settings ask of every bundle."""

from pathlib import Path

from elbound.bundle.signature import TrustedKeys
from elbound.errors import ConfigError
from service.settings import Settings


def trusted_keys(settings: Settings) -> TrustedKeys | None:
    """The keys of which one must have signed every bundle, or None where no signature is asked for.

    Raises ConfigError for a file that cannot be used, and where only one of the two settings is given.
    """
    if settings.require_signature and settings.trusted_keys_file:
        return TrustedKeys.read(Path(settings.trusted_keys_file))
    if settings.require_signature:
        raise ConfigError("require_signature needs --trusted-keys FILE", where="trusted_keys_file")
    if settings.trusted_keys_file:
        raise ConfigError(
            "trusted_keys_file is set, but bundles that nobody signed would be served: add --require-signature",
            where="require_signature",
        )
    return None
