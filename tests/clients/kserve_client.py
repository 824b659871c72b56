"""Scores rows with KServe's own client, as JSON and as binary data; prints what it answered as JSON."""

import asyncio
import json
import sys

import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

OUTPUTS = ("score", "threshold", "is_outlier", "p_value", "elbo", "reconstruction", "kl")
DATATYPES = {"a": "FP64", "b": "FP64", "c": "FP64", "ok": "BOOL", "site": "BYTES"}
DTYPES = {"FP64": np.float64, "BOOL": np.bool_, "BYTES": np.object_}


def request_of(rows: list[dict], *, binary: bool) -> InferRequest:
    inputs = []
    for name, datatype in DATATYPES.items():
        one = InferInput(name, [len(rows)], datatype)
        one.set_data_from_numpy(np.array([row[name] for row in rows], dtype=DTYPES[datatype]), binary_data=binary)
        inputs.append(one)
    outputs = [RequestedOutput(name, parameters={"binary_data": binary}) for name in OUTPUTS]
    return InferRequest("rows", inputs, request_id="7", request_outputs=outputs)


async def main(url: str, rows: list[dict]) -> dict[str, object]:
    found: dict[str, object] = {}
    async with InferenceRESTClient(RESTConfig(protocol="v2", timeout=30)) as client:
        found["healthy"] = [
            await client.is_server_live(url), await client.is_server_ready(url),
            await client.is_model_ready(url, "rows"), await client.is_model_ready(url, "nothing"),
        ]  # fmt: skip
        for binary in (True, False):
            answer = await client.infer(url, request_of(rows, binary=binary), model_name="rows")
            found[f"id {binary}"] = answer.id
            found[f"binary {binary}"] = {output.name: output.as_numpy().tolist() for output in answer.outputs}
        try:
            await client.infer(url, request_of(rows, binary=True), model_name="nothing")
        except httpx.HTTPStatusError as error:
            found["error"] = str(error)
    return found


if __name__ == "__main__":
    json.dump(asyncio.run(main(sys.argv[1], json.load(sys.stdin))), sys.stdout)
