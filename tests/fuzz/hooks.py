"""What schemathesis is told of our bodies: in other formats than JSON it sends the document's examples, changed.

Runs in the environment of schemathesis alone.
"""

import base64
import os
import random
from functools import partial
from typing import Any

import requests
import schemathesis
from hypothesis import strategies as st

from tests.fuzz.mutated import mutated

OWN = ("application/json", "multipart/form-data")
"""What schemathesis writes by itself."""
SERVER = "ELBOUND_FUZZED"
VERSIONS = ("2026-01-01T00-00-00Z-0000", "2026-01-01T00-00-01Z-0001")
ALL_SCOPES = {"authorization": "Bearer all"}
INFER_HEADER = "Inference-Header-Content-Length"
INFER_BINARY = "application/octet-stream"
INFER_SAMPLE = (
    b'{"inputs":[{"name":"input","datatype":"FP64","shape":[2,3],"parameters":{"binary_data_size":48}}],'
    b'"parameters":{"binary_data_output":true}}' + b"\0" * 48
)
UNCHANGED_SHARE = 0.25


@schemathesis.hook
def before_load_schema(_context: Any, document: dict[str, Any]) -> None:
    """Register every media type of a body that the document has and schemathesis cannot write."""
    samples: dict[str, list[bytes]] = {INFER_BINARY: [INFER_SAMPLE]}
    for path in document["paths"].values():
        for operation in path.values():
            for media_type, facts in operation.get("requestBody", {}).get("content", {}).items():
                if media_type not in OWN and "example" in facts:
                    facts["example"] = as_bytes(facts["example"], facts["schema"])
                    samples.setdefault(media_type, []).append(facts["example"])
    for media_type, found in samples.items():
        schemathesis.openapi.media_type(media_type, bodies(found))


@schemathesis.hook
def before_call(_context: Any, case: Any, _kwargs: dict[str, Any]) -> None:
    """Most binary tensors are told where their JSON ends; what is to be ended has begun."""
    if case.operation.label == "DELETE /models/{name}/shadow":
        begin_shadow()
    if case.media_type == INFER_BINARY and isinstance(case.body, bytes) and len(case.body) % 8:
        case.headers = {**(case.headers or {}), INFER_HEADER: str(case.body.find(b"}}\0") + 2 or len(case.body))}


def begin_shadow() -> None:
    """Beside whichever version of the store's model is live, which another case may have unloaded."""
    ask = partial(requests.post, headers=ALL_SCOPES, timeout=30)
    ask(f"{os.environ[SERVER]}/v2/repository/models/numbers/load")
    for version in VERSIONS:  # one of them is live, and refused
        ask(f"{os.environ[SERVER]}/models/numbers/shadow", json={"version": version})


def bodies(samples: list[bytes]) -> st.SearchStrategy[bytes]:
    """A sample as it is, or with bytes changed."""

    def body(sample: bytes, seed: int) -> bytes:
        draw = random.Random(seed)
        return sample if draw.random() < UNCHANGED_SHARE else mutated(sample, draw)

    return st.builds(body, st.sampled_from(samples), st.integers(0, 2**32))


def as_bytes(example: str, schema: dict[str, Any]) -> bytes:
    """An example of the document as it is sent."""
    return base64.b64decode(example) if schema.get("contentEncoding") == "base64" else example.encode()
