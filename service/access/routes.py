"""Which route wants which scope: one table."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from fastapi.routing import iter_route_contexts
from starlette.routing import BaseRoute, compile_path

Access = Literal["open", "score", "read", "admin"]

ROUTES: dict[str, Access] = {
    "GET /": "open",
    "GET /static/{file}": "open",
    "GET /healthz": "open",
    "GET /readyz": "open",
    "POST /score": "score",
    "GET /metrics": "read",
    "GET /models": "read",
    "GET /models/{name}": "read",
    "GET /models/{name}/calibration": "read",
    "GET /models/{name}/report": "read",
    "GET /models/{name}/drift": "read",
    "GET /live": "read",
    "POST /models/{name}/activate": "admin",
    "POST /models/{name}/rollback": "admin",
    "POST /models/{name}/shadow": "admin",
    "DELETE /models/{name}/shadow": "admin",
    "GET /openapi.json": "read",
    "GET /v2": "read",
    "GET /v2/health/live": "read",
    "GET /v2/health/ready": "read",
    "GET /v2/models/{name}": "read",
    "GET /v2/models/{name}/ready": "read",
    "GET /v2/models/{name}/versions/{version}": "read",
    "GET /v2/models/{name}/versions/{version}/ready": "read",
    "POST /v2/models/{name}/infer": "score",
    "POST /v2/models/{name}/versions/{version}/infer": "score",
    "POST /v2/repository/index": "read",
    "POST /v2/repository/models/{name}/load": "admin",
    "POST /v2/repository/models/{name}/unload": "admin",
}
"""Method and template; HEAD goes with GET. `open` wants no key, and `score` takes from the key's quota."""


@dataclass(frozen=True)
class KnownRoute:
    """A row of the table; `path` is the template, which metrics and logs name."""

    path: str
    access: Access


class RouteTable:
    """Finds the row of a request, by the patterns by which Starlette routes."""

    def __init__(self, routes: Mapping[str, Access]) -> None:
        self.fixed: dict[tuple[str, str], KnownRoute] = {}
        self.patterns: list[tuple[str, re.Pattern[str], KnownRoute]] = []
        for row, access in routes.items():
            method, path = row.split(" ")
            found = KnownRoute(path, access)
            self.patterns.append((method, compile_path(path)[0], found))
            if "{" not in path:
                self.fixed[method, path] = found

    def methods(self, path: str) -> list[str]:
        """What a path may be asked with, for `Allow`: each route by itself knows only its own method."""
        return sorted({method for method, pattern, _ in self.patterns if pattern.match(path)})

    def find(self, method: str, path: str) -> KnownRoute | None:
        """The row, or None for what no route answers. A path may end in a newline: the router answers that too."""
        method = "GET" if method == "HEAD" else method
        found = self.fixed.get((method, path))
        if found is None:
            for wanted, pattern, candidate in self.patterns:
                if wanted == method and pattern.match(path):
                    return candidate
        return found


def rows_of(routes: Sequence[BaseRoute]) -> set[str]:
    """Method and template of each of an application's routes, as a table for them has it."""
    return {
        f"{'GET' if method == 'HEAD' else method} {context.path}"
        for context in iter_route_contexts(routes)
        for method in (context.methods or {"GET"})
    }


def check_listed(routes: Sequence[BaseRoute]) -> None:
    """A route that nobody gave a scope stops the start. Raises LookupError that names it."""
    missing = rows_of(routes) - set(ROUTES)
    if missing:
        raise LookupError(f"routes without a row in service.access.routes.ROUTES: {', '.join(sorted(missing))}")


TABLE = RouteTable(ROUTES)
