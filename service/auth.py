"""The key check, before anything of a request is read."""

import hmac

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import Unauthorized, on_elbound_error

OPEN_PATHS = frozenset({"/healthz", "/readyz"})


class KeyMiddleware:
    """Refuses every route but the health ones without `Authorization: Bearer KEY`; plain ASGI."""

    def __init__(self, app: ASGIApp, api_key: str) -> None:
        self.app = app
        self.expected = api_key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self.expected or scope["type"] != "http" or scope["path"] in OPEN_PATHS or self._allowed(scope):
            await self.app(scope, receive, send)
            return
        error = Unauthorized("send the key as 'Authorization: Bearer KEY'", where="authorization")
        response = await on_elbound_error(Request(scope), error)
        await response(scope, receive, send)

    def _allowed(self, scope: Scope) -> bool:
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        kind, _, key = given.partition(b" ")
        return kind.lower() == b"bearer" and hmac.compare_digest(key.strip(), self.expected)
