"""Everything that elbound raises on purpose.

ElboundError
├── ConfigError               a setting, an option or an argument that cannot be used
├── MissingExtra              a command needs a package of an optional extra
├── DataError                 the caller's data
│   ├── SchemaError           columns or shapes that are not those of the schema
│   ├── DecodeError           bytes that are not what they claim to be
│   │   └── UnsupportedMedia  a format that is not read here
│   ├── LimitExceeded         larger than a stated limit
│   ├── TooFewItems           not enough items for what was asked
│   ├── DoubtfulData          probably not what the caller meant to train on
│   └── ItemError             one item of many; the others are unharmed
├── FitError                  training diverged or cannot be continued
└── BundleError               a bundle that cannot be written or read
    ├── BundleExists          the target is there already
    ├── BundleCorrupt         a file that is missing, truncated or altered
    ├── BundleUntrusted       nobody who is trusted vouches for it, or it stands in another one's place
    ├── BundleUnavailable     it could not be fetched from where it is kept
    └── GoldenMismatch        the bundle does not reproduce its own scores

Errors carry facts: a `code` for programs, a message for people, and `where` (a file, a column, a row).
They know nothing of HTTP; the service maps each class to a status in one table.
"""


class ElboundError(Exception):
    """Base of every error of this library.

    `code` is a stable word for programs, `message` says what is wrong, what is allowed and what to do
    next, and `where` names the file, column, row or setting, or is None.
    """

    default_code = "error"

    def __init__(self, message: str, *, code: str | None = None, where: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.where = where


class ConfigError(ElboundError):
    """A setting, an option or an argument that cannot be used."""

    default_code = "config_invalid"


class MissingExtra(ElboundError):
    """A command needs a package that an optional extra installs."""

    default_code = "extra_missing"


class DataError(ElboundError):
    """The caller's data cannot be used as they are."""

    default_code = "data_invalid"


class SchemaError(DataError):
    """Columns or shapes that are not those of the schema."""

    default_code = "schema_mismatch"


class DecodeError(DataError):
    """Bytes that are not what they claim to be."""

    default_code = "decode_failed"


class UnsupportedMedia(DecodeError):
    """A format that is not read here."""

    default_code = "unsupported_media_type"


class LimitExceeded(DataError):
    """Larger than a stated limit."""

    default_code = "limit_exceeded"


class TooFewItems(DataError):
    """Not enough items for what was asked."""

    default_code = "too_few_items"


class DoubtfulData(DataError):
    """Probably not what the caller meant to train on; the message names the flag that trains on it anyway."""

    default_code = "data_doubtful"


class ItemError(DataError):
    """One item of many cannot be used; the others are unharmed."""

    default_code = "item_invalid"


class FitError(ElboundError):
    """Training diverged, or a checkpoint cannot be continued."""

    default_code = "fit_failed"


class BundleError(ElboundError):
    """A bundle cannot be written or read."""

    default_code = "bundle_invalid"


class BundleExists(BundleError):
    """The target of a bundle is there already."""

    default_code = "bundle_exists"


class BundleCorrupt(BundleError):
    """A file of a bundle is missing, truncated or altered."""

    default_code = "bundle_corrupt"


class BundleUntrusted(BundleError):
    """A bundle without a good signature of a trusted key, or one under another one's name or version."""

    default_code = "bundle_untrusted"


class BundleUnavailable(BundleError):
    """A bundle, or a store of them, that could not be fetched."""

    default_code = "bundle_unavailable"


class GoldenMismatch(BundleError):
    """A bundle does not reproduce the scores that it was written with."""

    default_code = "golden_mismatch"
