"""A server without keys: it listens on loopback only, and no web page may drive it."""

import ipaddress
import socket
from functools import lru_cache

from starlette.types import Scope

from elbound.errors import ConfigError
from service.access.keys import UNLIMITED, ApiKey, Quota
from service.errors import Forbidden
from service.settings import Settings

LONGEST_NAME = 64
"""Of a loopback host with its port, generously; what is longer is not remembered."""
OWN_SITES = (b"same-origin", b"none")
"""What `Sec-Fetch-Site` says of our own page, and of an address that the user typed."""
SCOPES_WITHOUT_KEYS = frozenset({"score", "read"})


def check_exposure(settings: Settings) -> None:
    """Raise ConfigError where others than this machine would reach a server that asks for no key."""
    if settings.api_keys_file or settings.insecure or _is_loopback(settings.host):
        return
    raise ConfigError(
        f"without keys the server listens on loopback only, and host is {settings.host!r}: give it keys "
        "(elbound keys new, then ELBOUND_API_KEYS_FILE), or say --insecure (ELBOUND_INSECURE=1) where everybody who "
        "reaches the port may score",
        code="keys_required",
        where="host",
    )


def _is_loopback(host: str) -> bool:
    if not host:  # every interface
        return False
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        found = socket.getaddrinfo(host, None, family, socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return True  # such an address cannot be listened on either, and that error is the clearer one
    return all(ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback for *_, address in found)


class LocalRules:
    """Everybody is the same caller, but for web pages.

    A page on another site can send a request here by the browser of somebody who uses this machine. Its `Origin`
    gives it away, or `Sec-Fetch-Site` where a browser sends no `Origin` (images, links, GET without CORS), or, where it
    has made its own name point here, its `Host`; `any_host` leaves out the latter.
    """

    def __init__(self, *, any_host: bool) -> None:
        self.any_host = any_host
        self.everybody = ApiKey("", SCOPES_WITHOUT_KEYS, Quota(UNLIMITED, 0))

    def identify(self, scope: Scope) -> ApiKey:
        """The one caller. Raises Forbidden."""
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        host = hosts[0].lower() if len(hosts) == 1 else b""
        if not (self.any_host or (len(host) <= LONGEST_NAME and is_loopback_name(host))):
            raise Forbidden(
                "without keys only requests to localhost, 127.0.0.1 or [::1] are answered; behind a proxy, use keys",
                code="host_forbidden",
                where="host",
            )
        for name, value in scope["headers"]:
            other_origin = name == b"origin" and (
                not host or value.lower() not in (b"http://" + host, b"https://" + host)
            )
            if other_origin or (name == b"sec-fetch-site" and value not in OWN_SITES):
                raise Forbidden(
                    "without keys no web page of another origin is answered",
                    code="origin_forbidden",
                    where=name.decode(),
                )
        return self.everybody


@lru_cache(maxsize=256)
def is_loopback_name(host: bytes) -> bool:
    """Whether a `Host` in lower case, with or without a port, is this machine's own name for itself."""
    name = host.decode("latin-1")
    if name.startswith("["):
        name, bracket, port = name[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            return False
        port = port[1:]
    else:
        name, _, port = name.partition(":")
    if port and not (port.isascii() and port.isdigit()):
        return False
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
