"""What the OpenAPI document says of access."""

from typing import Any

from service.access.routes import RouteTable
from service.http.error_answers import is_v2

REFUSALS = {
    "401": "The key is missing, unknown or revoked.",
    "403": "The key does not have the scope; without keys, another host or origin than this machine's.",
    "429": "The key is in debt, or has too many uploads open; see Retry-After.",
}


def document_access(document: dict[str, Any], table: RouteTable, *, with_keys: bool) -> None:
    """Complete each operation of `document` with the scope that it wants and how it refuses."""
    document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            route = table.find(method.upper(), path)
            if route is None or route.access == "open":
                operation["security"] = []
                continue
            operation["security"] = [{"key": [route.access]}] if with_keys else []
            wanted = [status for status in REFUSALS if status != "429" or route.access == "score"]
            for status in wanted:
                operation["responses"].setdefault(status, refusal(REFUSALS[status], path))


def refusal(description: str, path: str) -> dict[str, Any]:
    """A response that is an error, whatever the route at `path` answers else."""
    schema = {"$ref": f"#/components/schemas/{'V2Error' if is_v2(path) else 'ErrorAnswer'}"}
    return {"description": description, "content": {"application/json": {"schema": schema}}}
