"""What can be wrong with a wish to change what is served; `service.errors` maps each to a status."""

from elbound.errors import ElboundError


class NotInStore(ElboundError):
    """The model is a bundle of its own and has no other versions."""

    default_code = "not_in_store"


class StoreReadOnly(ElboundError):
    """The store's pins cannot be written from here."""

    default_code = "store_read_only"


class StoreUnreadable(ElboundError):
    """The store cannot be listed now."""

    default_code = "store_unreadable"


class VersionNotFound(ElboundError):
    """The store has no such version."""

    default_code = "version_not_found"


class VersionRefused(ElboundError):
    """The version is there and cannot be served."""

    default_code = "version_refused"


class NothingBefore(ElboundError):
    """There is no version to go back to."""

    default_code = "nothing_to_roll_back_to"


class NoShadow(ElboundError):
    """The model has no shadow, or cannot have this one."""

    default_code = "no_shadow"
