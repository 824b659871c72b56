"""What the routes of the Open Inference Protocol take and answer, for the OpenAPI document."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from service.v2.tensors import DATATYPES


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class V2Error(_Answer):
    """Every failure below /v2."""

    error: str


class V2Live(_Answer):
    live: bool


class V2Ready(_Answer):
    ready: bool


class V2ModelReady(_Answer):
    name: str
    ready: bool


class V2Server(_Answer):
    name: str
    version: str
    extensions: list[str]


class V2Tensor(_Answer):
    """A tensor in metadata; -1 is the number of items."""

    name: str
    datatype: str
    shape: list[int]


class V2Model(_Answer):
    name: str
    versions: list[str]
    platform: str
    inputs: list[V2Tensor]
    outputs: list[V2Tensor]


class V2OutputParameters(_Answer):
    binary_data_size: int


class V2Output(_Answer):
    """An output: `data`, or the size of its bytes after the JSON. A threshold that does not resolve is null."""

    name: str
    datatype: str
    shape: list[int]
    data: list[float | bool | None] | None = None
    parameters: V2OutputParameters | None = None


class V2InferAnswer(_Answer):
    model_name: str
    model_version: str
    outputs: list[V2Output]
    id: str | None = None


class V2IndexEntry(_Answer):
    name: str
    version: str
    state: Literal["READY", "UNAVAILABLE"]
    reason: str


_PARAMETERS = {"type": "object"}
_TENSOR = {
    "type": "object",
    "required": ["name", "shape", "datatype"],
    "properties": {
        "name": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1, "maxItems": 4},
        "datatype": {"type": "string", "enum": list(DATATYPES)},
        "parameters": _PARAMETERS,
        "data": {"type": "array"},
    },
}
_OUTPUT = {
    "type": "object",
    "required": ["name"],
    "properties": {"name": {"type": "string"}, "parameters": _PARAMETERS},
}
_REQUEST = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string"},
        "parameters": _PARAMETERS,
        "inputs": {"type": "array", "items": _TENSOR, "minItems": 1},
        "outputs": {"type": "array", "items": _OUTPUT},
    },
}
INFER_BODY: dict[str, object] = {
    "required": True,
    "content": {
        "application/json": {"schema": _REQUEST},
        "application/octet-stream": {
            "schema": {"type": "string", "format": "binary"},
        },
    },
}
INFER_HEADERS: list[dict[str, object]] = [
    {
        "name": "Inference-Header-Content-Length",
        "in": "header",
        "schema": {"type": "integer", "minimum": 1},
        "description": "Bytes of the JSON document where binary tensors follow it.",
    },
]
INDEX_BODY: dict[str, object] = {
    "content": {"application/json": {"schema": {"type": "object", "properties": {"ready": {"type": "boolean"}}}}},
}
_NO_PARAMETERS = {
    "type": "object",
    "properties": {"unload_dependents": {"const": False}},
    "additionalProperties": False,
}
REPOSITORY_BODY: dict[str, object] = {
    "content": {"application/json": {"schema": {"type": "object", "properties": {"parameters": _NO_PARAMETERS}}}},
}
