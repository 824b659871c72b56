"""The door: who is it, may they, and are they within their quota; before anything of a body is read."""

from typing import Protocol

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from elbound.errors import ElboundError
from service.access.caller import CALLER, Caller
from service.access.keys import ApiKey
from service.access.routes import RouteTable
from service.errors import Forbidden
from service.http.error_answers import on_elbound_error


class Doorkeeper(Protocol):
    def identify(self, scope: Scope) -> ApiKey:
        """Who the caller is. Raises Unauthorized, Forbidden."""


class AccessMiddleware:
    """Plain ASGI. An admitted request has its caller in its scope; open routes have none."""

    def __init__(self, app: ASGIApp, door: Doorkeeper, routes: RouteTable) -> None:
        self.app = app
        self.door = door
        self.routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                self._admit(scope)
            except ElboundError as error:
                response = await on_elbound_error(Request(scope), error)
                await response(scope, receive, send)
                return
        try:
            await self.app(scope, receive, send)
        finally:
            if (caller := scope.get(CALLER)) is not None:
                caller.settle()

    def _admit(self, scope: Scope) -> None:
        """Raises Unauthorized, Forbidden, QuotaExceeded."""
        route = self.routes.find(scope["method"], scope["path"])
        if route is not None:
            scope["route"] = route  # a refused request is counted under it
            if route.access == "open":
                return
        key = self.door.identify(scope)
        scope[CALLER] = caller = Caller(key)
        if route is None:
            return  # nothing answers it, which only those who may ask are told
        if route.access not in key.scopes:
            who = f"the key {key.name!r}" if key.name else "a server without keys"
            raise Forbidden(
                f"{who} does not have the scope {route.access!r}, which {route.path} wants",
                code="scope_missing",
                where="authorization",
            )
        if route.access == "score":
            caller.admit()
